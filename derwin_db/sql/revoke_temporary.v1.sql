-- A temporary table stands in front of a real one for whoever forgets its schema. Not part of a dump of one database, and not
-- copied with a template: `doctor` looks.
DO $$
BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'this login may not take TEMPORARY and CREATE from PUBLIC: let the owner of the database do it';
END
$$;
