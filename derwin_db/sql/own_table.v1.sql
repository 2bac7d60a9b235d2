-- What the roles may do with {{table}}, a service's own table: {{privileges}}. The admin door counts its rows when their
-- project goes, and reads nothing else of them.
GRANT {{privileges}} ON public.{{table}} TO derwin_app;
GRANT SELECT (project_id) ON public.{{table}} TO derwin_admin;
