-- The admin door writes the first entry of a mode log, raises retention, and prunes what has expired.
CREATE POLICY derwin_admin_adds ON public.project_mode_logs AS PERMISSIVE FOR INSERT TO derwin_admin WITH CHECK (true);
CREATE POLICY derwin_admin_raises ON public.audit_artifacts AS PERMISSIVE FOR UPDATE TO derwin_admin USING (true) WITH CHECK (true);
CREATE POLICY derwin_admin_prunes ON public.audit_artifacts AS PERMISSIVE FOR DELETE TO derwin_admin USING (true);
