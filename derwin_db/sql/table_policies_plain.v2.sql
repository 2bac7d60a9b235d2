-- Fence 2 for {{table}} where the scope is plain: one policy for derwin_app, and it is permissive. Citus sends a restrictive
-- one to the shards as a permissive one, refuses a subquery in a policy, and replays plain SET on its workers.
ALTER TABLE public.{{table}} ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.{{table}} FORCE ROW LEVEL SECURITY;
CREATE POLICY derwin_scope ON public.{{table}} AS PERMISSIVE FOR ALL TO derwin_app
    USING (project_id = nullif(current_setting('derwin.project_id', true), '')::uuid)
    WITH CHECK (project_id = nullif(current_setting('derwin.project_id', true), '')::uuid);
