-- Policies do not cover TRUNCATE, REFERENCES and TRIGGER, and hosted platforms grant everything to roles of their own.
-- TEMPORARY goes, because a temporary table stands in front of a real one for whoever forgets its schema.
DO $$
DECLARE
    other text;
BEGIN
    FOREACH other IN ARRAY ARRAY['public', 'anon', 'authenticated', 'service_role'] LOOP
        IF other = 'public' OR EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = other) THEN
            EXECUTE format('REVOKE ALL ON {{tables}} FROM %s', CASE other WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(other) END);
        END IF;
    END LOOP;
    BEGIN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE WARNING 'this login may not take TEMPORARY and CREATE from PUBLIC: let the owner of the database do it';
    END;
END
$$;
