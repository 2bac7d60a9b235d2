-- What sessions of all projects would share: large objects, which every role may make, and which belong to the role that all
-- units of work have; and messages in the log of changes. The functions belong to the server: a superuser takes them from PUBLIC.
DO $$
DECLARE
    closed record;
BEGIN
    IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        FOR closed IN
            SELECT oid::pg_catalog.regprocedure AS name FROM pg_catalog.pg_proc
            WHERE pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND proname = ANY (ARRAY[
                'lo_creat', 'lo_create', 'lo_from_bytea', 'lo_open', 'lo_get', 'lo_put', 'lo_unlink', 'lo_truncate',
                'lo_truncate64', 'loread', 'lowrite', 'pg_logical_emit_message'
            ])
        LOOP
            EXECUTE format('{{change}}', closed.name);
        END LOOP;
    END IF;
END
$$;
