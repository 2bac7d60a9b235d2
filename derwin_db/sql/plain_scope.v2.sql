-- The plain scope of {{table}}: one policy for derwin_app, and it is permissive. Citus sends a restrictive policy to the shards
-- as a permissive one, where it would widen what the others allow; beside this one nothing is allowed by any other.
-- No subquery, which Citus refuses, and a setting that workers replay.
DROP POLICY IF EXISTS derwin_app_rows ON public.{{table}};
DROP POLICY IF EXISTS derwin_scope ON public.{{table}};
CREATE POLICY derwin_scope ON public.{{table}} AS PERMISSIVE FOR ALL TO derwin_app
    USING ({{column}} = nullif(current_setting('derwin.project_id', true), '')::uuid)
    WITH CHECK ({{column}} = nullif(current_setting('derwin.project_id', true), '')::uuid);
