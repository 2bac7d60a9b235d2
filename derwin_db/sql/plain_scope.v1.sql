-- For a database that becomes distributed: policies and triggers in the forms that Citus takes. The policies lose the seal
-- (no subquery, plain SET is what workers replay); the triggers look at no other table.
DROP POLICY derwin_scope ON public.{{table}};
CREATE POLICY derwin_scope ON public.{{table}} AS RESTRICTIVE FOR ALL TO derwin_app
    USING ({{column}} = nullif(current_setting('derwin.project_id', true), '')::uuid)
    WITH CHECK ({{column}} = nullif(current_setting('derwin.project_id', true), '')::uuid);
