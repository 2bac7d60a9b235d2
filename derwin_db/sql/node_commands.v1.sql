-- SQL that a function sends to a node by itself: it would run outside of the unit of work, in a transaction of its own, which
-- commits whatever becomes of the unit. The functions belong to Citus: a superuser takes them from PUBLIC, on each node.
DO $$
DECLARE
    closed record;
BEGIN
    IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        FOR closed IN
            SELECT oid::pg_catalog.regprocedure AS name FROM pg_catalog.pg_proc
            WHERE pronamespace = 'pg_catalog'::pg_catalog.regnamespace
            AND (proname LIKE 'run\_command\_on\_%' OR proname = 'master_run_on_worker')
        LOOP
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', closed.name);
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', closed.name, '{{owner}}');
        END LOOP;
    END IF;
END
$$;
