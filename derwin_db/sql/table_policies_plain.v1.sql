-- Fence 2 for {{table}} where the server distributes tables (Citus refuses a subquery in a policy, and replays plain SET
-- on its workers). The value is not sealed: `doctor` says so.
ALTER TABLE public.{{table}} ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.{{table}} FORCE ROW LEVEL SECURITY;
CREATE POLICY derwin_app_rows ON public.{{table}} AS PERMISSIVE FOR ALL TO derwin_app USING (true) WITH CHECK (true);
CREATE POLICY derwin_scope ON public.{{table}} AS RESTRICTIVE FOR ALL TO derwin_app
    USING (project_id = nullif(current_setting('derwin.project_id', true), '')::uuid)
    WITH CHECK (project_id = nullif(current_setting('derwin.project_id', true), '')::uuid);
