-- The sealed scope on a distributed server. What a unit opens with is as elsewhere: a token that names its project, checked here
-- on the node that the service is connected to. The scope that this makes travels to the workers as SET LOCAL, and each shard's
-- policy checks it by itself, with the key in its own node's copy of the reference table.
--   <project>.<kind><microseconds since 1970, 15 hex digits><first 24 bytes of a MAC, hex>
--   1, 2  a token, as elsewhere: opens a transaction on one backend, or on any
--   4     a token that is the scope of one statement alone, for fifteen seconds after it was made
--   6     the scope of a transaction: bound to the backend that the service is connected to, and good until its time
-- A worker can't tell which transaction it serves when its own begins, so a scope ends with the longest time a transaction may
-- take, not with its transaction. Nobody else can read it: on the workers it stands behind a comment as long as what
-- pg_stat_activity shows. The clocks of the nodes may differ by ten seconds. While the key is rotated there are two, as elsewhere.
CREATE FUNCTION public.derwin_scope_on_shard() RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED COST 10000
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sealed text := current_setting('derwin.project_id', true);
    kind text := substr(sealed, 38, 1);
    message bytea;
    given bigint;
    inner_block bytea;
    outer_block bytea;
BEGIN
    IF sealed IS NULL OR sealed = '' THEN
        RAISE 'no project scope is set' USING ERRCODE = 'DW010';
    END IF;
    SELECT inner_pad, outer_pad INTO inner_block, outer_block FROM derwin.{{key}};
    message := convert_to(left(sealed, 53), 'UTF8') || CASE kind
        WHEN '4' THEN ''::bytea
        WHEN '6' THEN int8send(citus_backend_gpid())
    END;
    IF left(encode(sha256(outer_block || sha256(inner_block || message)), 'hex'), 48) IS DISTINCT FROM substr(sealed, 54) THEN
        SELECT former_inner_pad, former_outer_pad INTO inner_block, outer_block FROM derwin.{{key}};
        IF left(encode(sha256(outer_block || sha256(inner_block || message)), 'hex'), 48) IS DISTINCT FROM substr(sealed, 54) THEN
            RAISE 'the project scope is not sealed with the key of this database'
                USING ERRCODE = CASE WHEN kind = '4' THEN 'DW004' ELSE '42501' END;
        END IF;
    END IF;
    given := ('x0' || substr(sealed, 39, 15))::bit(64)::bigint;
    IF kind = '4' AND extract(epoch FROM clock_timestamp()) * 1000000 NOT BETWEEN given - 10000000 AND given + 15000000 THEN
        RAISE 'the token of the project scope has ended' USING ERRCODE = 'DW011';
    ELSIF kind = '6' AND extract(epoch FROM clock_timestamp()) * 1000000 > given THEN
        RAISE 'the project scope of this transaction has ended' USING ERRCODE = '42501';
    END IF;
    RETURN left(sealed, 36)::uuid;
END
$$;
COMMENT ON FUNCTION public.derwin_scope_on_shard() IS 'The project of this transaction or statement; an error without one, and for a forged one';

CREATE FUNCTION public.derwin_open(token text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    project text := left(token, 36);
    kind text := substr(token, 38, 1);
    message bytea := convert_to(left(token, 53), 'UTF8');
    made bigint;
    lasts bigint := extract(epoch FROM current_setting('transaction_timeout', true)::interval) * 1000000;
    key derwin.scope_key;
BEGIN
    SELECT * INTO key FROM derwin.{{key}};
    IF kind = '1' THEN
        message := message || int4send(pg_backend_pid());
    END IF;
    IF (kind IN ('1', '2') AND (
        left(encode(sha256(key.outer_pad || sha256(key.inner_pad || message)), 'hex'), 48) = substr(token, 54)
        OR left(encode(sha256(key.former_outer_pad || sha256(key.former_inner_pad || message)), 'hex'), 48) = substr(token, 54)
    )) IS NOT TRUE THEN
        RAISE 'the project scope is not sealed with the key of this database' USING ERRCODE = 'DW004';
    END IF;
    made := ('x0' || substr(token, 39, 15))::bit(64)::bigint;
    IF extract(epoch FROM now()) * 1000000 < made - 1000000 OR extract(epoch FROM clock_timestamp()) * 1000000 > made + 5000000 THEN
        RAISE 'the token of the project scope has ended' USING ERRCODE = 'DW011';
    END IF;
    IF coalesce(current_setting('derwin.project_id', true), '') <> '' THEN
        RAISE 'this transaction has a project scope already' USING ERRCODE = '42501';
    END IF;
    -- a transaction without a limit has a day; both settings are read as text, for pg_settings takes a millisecond
    made := made + 10000000 + CASE WHEN lasts > 0 THEN lasts ELSE 86400000000 END;
    project := project || '.6' || lpad(to_hex(made), 15, '0');
    message := convert_to(project, 'UTF8') || int8send(citus_backend_gpid());
    EXECUTE 'SET LOCAL citus.propagate_set_commands = ''local''';
    EXECUTE format(
        '/*%s*/SET LOCAL derwin.project_id = %L',
        repeat('.', pg_size_bytes(current_setting('track_activity_query_size'))::int),
        project || left(encode(sha256(key.outer_pad || sha256(key.inner_pad || message)), 'hex'), 48)
    );
    -- locks are waited for on the workers, whose sessions know no limit of the service
    EXECUTE format('SET LOCAL lock_timeout = %L', current_setting('lock_timeout'));
END
$$;
COMMENT ON FUNCTION public.derwin_open(text) IS 'Opens the transaction for one project; the token needs the key';
