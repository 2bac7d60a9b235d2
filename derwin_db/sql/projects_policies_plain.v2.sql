-- Fence 2 for the root where the scope is plain: one policy for derwin_app, and it is permissive, as on the other tables. Not
-- forced, so that the owner's plain SELECT works.
ALTER TABLE public.projects ENABLE ROW LEVEL SECURITY;
CREATE POLICY derwin_scope ON public.projects AS PERMISSIVE FOR ALL TO derwin_app
    USING (id = nullif(current_setting('derwin.project_id', true), '')::uuid)
    WITH CHECK (id = nullif(current_setting('derwin.project_id', true), '')::uuid);
CREATE POLICY derwin_admin_rows ON public.projects AS PERMISSIVE FOR ALL TO derwin_admin USING (true) WITH CHECK (true);
