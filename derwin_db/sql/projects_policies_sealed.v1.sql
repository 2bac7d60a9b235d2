-- Fence 2 for the root: a unit of work sees its own project. Not forced, so that the owner's plain SELECT works.
ALTER TABLE public.projects ENABLE ROW LEVEL SECURITY;
CREATE POLICY derwin_app_rows ON public.projects AS PERMISSIVE FOR ALL TO derwin_app USING (true) WITH CHECK (true);
CREATE POLICY derwin_scope ON public.projects AS RESTRICTIVE FOR ALL TO derwin_app
    USING (id = (SELECT public.derwin_scope()))
    WITH CHECK (id = (SELECT public.derwin_scope()));
CREATE POLICY derwin_admin_rows ON public.projects AS PERMISSIVE FOR ALL TO derwin_admin USING (true) WITH CHECK (true);
