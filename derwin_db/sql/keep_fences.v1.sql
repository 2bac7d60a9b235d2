-- Nobody whom the fences fence in takes them down: DROP OWNED BY CURRENT_USER needs no privilege, and removes all policies and
-- grants of the role. An event trigger needs a superuser; a dump holds it, and an ordinary owner restores the dump without it.
CREATE FUNCTION public.derwin_keep_fences() RETURNS event_trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (pg_has_role(session_user, 'derwin_app', 'MEMBER') OR pg_has_role(session_user, 'derwin_admin', 'MEMBER'))
        AND NOT pg_has_role(session_user, (SELECT nspowner FROM pg_namespace WHERE nspname = 'derwin'), 'MEMBER')
    THEN
        RAISE 'the roles of units of work keep what they were granted' USING ERRCODE = '42501';
    END IF;
END
$$;
DO $$
BEGIN
    CREATE EVENT TRIGGER derwin_keep_fences ON ddl_command_start WHEN TAG IN ('DROP OWNED')
        EXECUTE FUNCTION public.derwin_keep_fences();
    ALTER EVENT TRIGGER derwin_keep_fences ENABLE ALWAYS;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'an event trigger needs a superuser: DROP OWNED is noticed, and not refused';
END
$$;
