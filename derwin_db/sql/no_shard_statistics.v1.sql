-- No statistics of values on one shard either, for a table that was distributed with them: Citus sends no SET STATISTICS to shards.
-- Those of a table that is distributed later, and those that move, have what the coordinator's table has. The shard's name is
-- filled in by run_command_on_shards, so no other percent sign may stand here.
DO $$
DECLARE
    kept record;
BEGIN
    PERFORM set_config('citus.enable_manual_changes_to_shards', 'on', true);
    FOR kept IN
        SELECT a.attname FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = '{{shard}}'::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped
        AND a.atttypid <> 'bool'::pg_catalog.regtype AND NOT (a.atttypid = 'varchar'::pg_catalog.regtype AND a.atttypmod = 36)
        AND coalesce(a.attstattarget, -1) <> 0
    LOOP
        EXECUTE 'ALTER TABLE {{shard}} ALTER COLUMN ' || quote_ident(kept.attname) || ' SET STATISTICS 0';
    END LOOP;
    FOR kept IN
        SELECT i.indexrelid::pg_catalog.regclass::text AS name, place::text
        FROM pg_catalog.pg_index i, generate_series(1, i.indnkeyatts) AS place
        WHERE i.indrelid = '{{shard}}'::pg_catalog.regclass AND i.indkey[place - 1] = 0
    LOOP
        EXECUTE 'ALTER INDEX ' || kept.name || ' ALTER COLUMN ' || kept.place || ' SET STATISTICS 0';
    END LOOP;
    BEGIN
        DELETE FROM pg_catalog.pg_statistic s USING pg_catalog.pg_attribute a
        WHERE a.attrelid = s.starelid AND a.attnum = s.staattnum AND a.attstattarget = 0
        AND s.starelid IN (
            SELECT '{{shard}}'::pg_catalog.regclass::oid
            UNION ALL SELECT indexrelid FROM pg_catalog.pg_index WHERE indrelid = '{{shard}}'::pg_catalog.regclass
        );
    EXCEPTION WHEN insufficient_privilege THEN
        NULL;
    END;
END
$$;
