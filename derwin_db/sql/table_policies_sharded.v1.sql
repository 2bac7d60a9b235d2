-- Fence 2 for {{table}} where the scope is sealed on a distributed server: one policy for derwin_app, and it is permissive, since a
-- restrictive one reaches the shards as a permissive one. No subquery, which Citus refuses: where a statement names its project,
-- as those of the repositories do, the planner has the scope computed once all the same.
ALTER TABLE public.{{table}} ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.{{table}} FORCE ROW LEVEL SECURITY;
CREATE POLICY derwin_scope ON public.{{table}} AS PERMISSIVE FOR ALL TO derwin_app
    USING (project_id = public.derwin_scope_on_shard())
    WITH CHECK (project_id = public.derwin_scope_on_shard());
