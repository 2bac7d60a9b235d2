-- Fence 2 for the root where the scope is sealed on a distributed server: as on the other tables. Not forced, so that the owner's
-- plain SELECT works.
ALTER TABLE public.projects ENABLE ROW LEVEL SECURITY;
CREATE POLICY derwin_scope ON public.projects AS PERMISSIVE FOR ALL TO derwin_app
    USING (id = public.derwin_scope_on_shard())
    WITH CHECK (id = public.derwin_scope_on_shard());
CREATE POLICY derwin_admin_rows ON public.projects AS PERMISSIVE FOR ALL TO derwin_admin USING (true) WITH CHECK (true);
