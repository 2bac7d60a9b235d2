-- Policies do not cover TRUNCATE, REFERENCES and TRIGGER, and hosted platforms grant everything to roles of their own.
DO $$
DECLARE
    other text;
BEGIN
    FOREACH other IN ARRAY ARRAY['public', 'anon', 'authenticated', 'service_role'] LOOP
        IF other = 'public' OR EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = other) THEN
            EXECUTE format('REVOKE ALL ON {{objects}} FROM %s', CASE other WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(other) END);
        END IF;
    END LOOP;
END
$$;
