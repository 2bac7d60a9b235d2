-- What the admin door sees of project-scoped tables; grants narrow it to the columns that its operations need.
CREATE POLICY derwin_admin_reads ON public.{{table}} AS PERMISSIVE FOR SELECT TO derwin_admin USING (true);
