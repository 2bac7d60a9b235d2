-- What this package reads and calls of Citus, by its names and columns. create_distributed_table refuses what Citus refuses:
-- a table twice, a parent that is not distributed, a unique index without the column, a policy with a subquery, a trigger. And
-- a restrictive policy, which Citus takes and sends on as a permissive one.
SET LOCAL allow_system_table_mods = on;

CREATE TABLE pg_catalog.pg_dist_partition (
    logicalrelid regclass PRIMARY KEY, partmethod "char" NOT NULL, partkey text, colocationid int NOT NULL
);
CREATE TABLE pg_catalog.pg_dist_shard (logicalrelid regclass NOT NULL, shardid bigint PRIMARY KEY);
CREATE TABLE pg_catalog.pg_dist_placement (placementid bigint PRIMARY KEY, shardid bigint NOT NULL, groupid int NOT NULL);
CREATE TABLE pg_catalog.pg_dist_node (
    nodeid int PRIMARY KEY, groupid int NOT NULL, nodename text NOT NULL, nodeport int NOT NULL, noderole text NOT NULL,
    isactive bool NOT NULL, hasmetadata bool NOT NULL, metadatasynced bool NOT NULL, shouldhaveshards bool NOT NULL
);
INSERT INTO pg_catalog.pg_dist_node VALUES
    (1, 0, 'coordinator', 5432, 'primary', true, true, true, false),
    (2, 1, 'worker-1', 5432, 'primary', true, true, true, true),
    (3, 2, 'worker-2', 5432, 'primary', true, true, true, true);
GRANT SELECT ON pg_catalog.pg_dist_partition, pg_catalog.pg_dist_shard, pg_catalog.pg_dist_placement, pg_catalog.pg_dist_node
    TO PUBLIC;

CREATE FUNCTION pg_catalog.column_to_column_name(table_name regclass, column_var_text text) RETURNS text
    LANGUAGE sql AS 'SELECT column_var_text';

CREATE FUNCTION pg_catalog.create_distributed_table(
    table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash', colocate_with text DEFAULT 'default'
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    number int;
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = table_name) THEN
        RAISE 'table "%" is already distributed', table_name;
    END IF;
    IF colocate_with <> 'default'
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = colocate_with::regclass) THEN
        RAISE 'relation % is not distributed', colocate_with;
    END IF;
    IF EXISTS (
        SELECT FROM pg_index i WHERE i.indrelid = table_name AND i.indisunique AND NOT EXISTS (
            SELECT FROM pg_attribute a
            WHERE a.attrelid = table_name AND a.attname = distribution_column AND a.attnum = ANY (i.indkey)
        )
    ) THEN
        RAISE 'cannot create constraint on "%": distributed relations need the distribution column in it', table_name;
    END IF;
    IF EXISTS (
        SELECT FROM pg_constraint c JOIN pg_class t ON t.oid = c.confrelid
        WHERE c.conrelid = table_name AND c.contype = 'f' AND c.confrelid <> table_name
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_dist_partition p WHERE p.logicalrelid = t.oid)
    ) THEN
        RAISE 'cannot create foreign key constraint: the table that % refers to is not distributed', table_name;
    END IF;
    IF EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = table_name AND pg_get_expr(p.polqual, table_name) LIKE '%SELECT%') THEN
        RAISE 'unexpected: a policy of % has a subquery', table_name;
    END IF;
    IF EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = table_name AND NOT p.polpermissive) THEN
        RAISE 'a restrictive policy of % would reach the shards as a permissive one', table_name;
    END IF;
    IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = table_name AND NOT t.tgisinternal)
        AND coalesce(current_setting('citus.enable_unsafe_triggers', true), 'off') <> 'on' THEN
        RAISE 'triggers are not supported on distributed tables';
    END IF;
    INSERT INTO pg_catalog.pg_dist_partition VALUES (table_name, 'h', distribution_column, 1);
    FOR number IN 1..4 LOOP
        INSERT INTO pg_catalog.pg_dist_shard
        SELECT table_name, coalesce(max(shardid), 102007) + 1 FROM pg_catalog.pg_dist_shard;
    END LOOP;
    INSERT INTO pg_catalog.pg_dist_placement
    SELECT shardid, shardid, 1 + shardid % 2 FROM pg_catalog.pg_dist_shard WHERE logicalrelid = table_name;
END
$$;

-- One node: every shard is the table itself.
CREATE FUNCTION pg_catalog.run_command_on_shards(
    table_name regclass, command text, OUT shardid bigint, OUT success bool, OUT result text
) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
    FOR shardid IN SELECT s.shardid FROM pg_catalog.pg_dist_shard s WHERE s.logicalrelid = table_name LOOP
        EXECUTE replace(command, '%s', table_name::text) INTO result;
        success := true;
        RETURN NEXT;
    END LOOP;
END
$$;


-- The one copy on the one node.
CREATE FUNCTION pg_catalog.create_reference_table(table_name regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    number bigint := (SELECT coalesce(max(shardid), 102007) + 1 FROM pg_catalog.pg_dist_shard);
BEGIN
    INSERT INTO pg_catalog.pg_dist_partition VALUES (table_name, 'n', NULL, 2);
    INSERT INTO pg_catalog.pg_dist_shard VALUES (table_name, number);
    EXECUTE format('CREATE VIEW %s_%s AS SELECT * FROM %s', table_name, number, table_name);
END
$$;

CREATE FUNCTION pg_catalog.run_command_on_all_nodes(command text, OUT nodeid int, OUT success bool, OUT result text)
RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
    nodeid := 1;
    success := true;
    IF command LIKE '%SELECT string_agg%' THEN
        EXECUTE command INTO result;
    ELSE
        EXECUTE command;
    END IF;
    RETURN NEXT;
END
$$;

CREATE FUNCTION pg_catalog.citus_backend_gpid() RETURNS bigint LANGUAGE sql AS 'SELECT 10000000000 + pg_backend_pid()';
