-- No statistics of values: they are of all projects together, and row estimates in EXPLAIN would tell texts, keys and names
-- from them, letter by letter. Enumerations and booleans keep theirs: their values are known. What was gathered before goes,
-- where this login may (a superuser, or from 18 on the owner); elsewhere `doctor` says what an administrator types.
DO $$
DECLARE
    kept record;
BEGIN
    FOR kept IN
        SELECT a.attname FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = 'public.{{table}}'::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped
        AND a.atttypid <> 'bool'::pg_catalog.regtype AND NOT (a.atttypid = 'varchar'::pg_catalog.regtype AND a.atttypmod = 36)
        AND coalesce(a.attstattarget, -1) <> 0
    LOOP
        EXECUTE format('ALTER TABLE public.{{table}} ALTER COLUMN %I SET STATISTICS 0', kept.attname);
        IF current_setting('server_version_num')::int >= 180000 THEN
            EXECUTE format('SELECT pg_catalog.pg_clear_attribute_stats(%L, %L, %L, false)', 'public', '{{table}}', kept.attname);
        END IF;
    END LOOP;
    FOR kept IN
        SELECT i.indexrelid::pg_catalog.regclass AS name, place FROM pg_catalog.pg_index i, generate_series(1, i.indnkeyatts) AS place
        WHERE i.indrelid = 'public.{{table}}'::pg_catalog.regclass AND i.indkey[place - 1] = 0
    LOOP
        EXECUTE format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS 0', kept.name, kept.place);
    END LOOP;
    BEGIN
        DELETE FROM pg_catalog.pg_statistic s USING pg_catalog.pg_attribute a
        WHERE a.attrelid = s.starelid AND a.attnum = s.staattnum AND a.attstattarget = 0
        AND s.starelid IN (
            SELECT 'public.{{table}}'::pg_catalog.regclass::oid
            UNION ALL SELECT indexrelid FROM pg_catalog.pg_index WHERE indrelid = 'public.{{table}}'::pg_catalog.regclass
        );
    EXCEPTION WHEN insufficient_privilege THEN
        NULL;
    END;
END
$$;
