-- The two roles that units of work take. They are cluster-wide, while the migration lock is per database: another
-- database of this cluster may create them at the same moment, so both ways of losing that race are caught.
-- NOLOGIN: a login becomes them by SET ROLE. Where Citus is present its workers are opened as the current user: LOGIN.
DO $$
DECLARE
    wanted text;
    login text := CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus') THEN 'LOGIN' ELSE 'NOLOGIN' END;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['derwin_app', 'derwin_admin', 'derwin_backfill'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I %s NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOINHERIT', wanted, login);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        -- The owner becomes each of them to verify, to backfill and, as a first try, to serve. Unconditional: on 16 and
        -- later pg_has_role() says yes to a CREATEROLE login that can't SET ROLE.
        BEGIN
            IF current_setting('server_version_num')::int >= 160000 THEN
                EXECUTE format('GRANT %I TO CURRENT_USER WITH INHERIT FALSE, SET TRUE', wanted);
            ELSE
                EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
            END IF;
        EXCEPTION WHEN unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;
