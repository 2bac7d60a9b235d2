-- What reaches the sessions of other projects, which all have one login: ending and cancelling them, and advisory locks, which are
-- one space for all and fill the lock table of the server. The functions belong to the server: a superuser takes them from PUBLIC,
-- and leaves signals to those who are there to give them. Letting go of a lock stays open.
DO $$
DECLARE
    closed record;
BEGIN
    IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        FOR closed IN
            SELECT oid::pg_catalog.regprocedure AS name, proname NOT LIKE '%advisory%' AS is_signal FROM pg_catalog.pg_proc
            WHERE pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND proname = ANY (ARRAY[
                'pg_terminate_backend', 'pg_cancel_backend', 'pg_advisory_lock', 'pg_advisory_lock_shared', 'pg_advisory_xact_lock',
                'pg_advisory_xact_lock_shared', 'pg_try_advisory_lock', 'pg_try_advisory_lock_shared',
                'pg_try_advisory_xact_lock', 'pg_try_advisory_xact_lock_shared'
            ])
        LOOP
            EXECUTE format('{{public}}', closed.name);
            IF closed.is_signal THEN
                EXECUTE format('{{signals}}', closed.name);
            END IF;
        END LOOP;
    END IF;
END
$$;
