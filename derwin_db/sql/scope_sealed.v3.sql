-- The sealed scope: three values, told apart by a digit that their MAC covers, so that none is good where another belongs.
--   <project>.<kind><microseconds since 1970, 15 hex digits><first 24 bytes of a MAC, hex>
--   1, 2  a token: opens a transaction through derwin_open(); 1 on one backend, 2 on any (behind a pooler)
--   3, 4  a token that is the scope of one statement alone; 3 on one backend, 4 on any
--   5     the scope of a transaction: bound to its backend and its start, readable in it, worth nothing anywhere else
-- Only a holder of the key makes tokens. They end five seconds after they were made, so that one that was seen in a log or in
-- pg_stat_activity opens nothing, and they open no transaction that has a scope already.
-- While the key is rotated there are two: the former one is looked at where the new one does not fit, and costs nothing else.
-- A transaction is sealed with the new key whichever opened it, so that those of the former key end by themselves.
-- Both functions run as the owner: pg_temp stands last in their search_path, or a temporary type that is called uuid would
-- run its CHECK as the owner.
CREATE OR REPLACE FUNCTION public.derwin_open(token text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    project text := left(token, 36);
    kind text := substr(token, 38, 1);
    message bytea := convert_to(left(token, 53), 'UTF8');
    pid bytea := int4send(pg_backend_pid());
    made numeric;
    key derwin.scope_key;
BEGIN
    SELECT * INTO key FROM derwin.scope_key;
    IF kind = '1' THEN
        message := message || pid;
    END IF;
    IF kind IN ('1', '2') AND (
        left(encode(sha256(key.outer_pad || sha256(key.inner_pad || message)), 'hex'), 48) = substr(token, 54)
        OR left(encode(sha256(key.former_outer_pad || sha256(key.former_inner_pad || message)), 'hex'), 48) = substr(token, 54)
    ) THEN
        made := ('x0' || substr(token, 39, 15))::bit(64)::bigint;
        IF extract(epoch FROM now()) * 1000000 < made - 1000000
            OR extract(epoch FROM clock_timestamp()) * 1000000 > made + 5000000
        THEN
            RAISE 'the token of the project scope has ended' USING ERRCODE = 'DW011';
        END IF;
    ELSIF token IS NULL OR key.open_v1_until IS NULL OR key.open_v1_until < clock_timestamp()
        OR encode(sha256(key.outer_pad || sha256(key.inner_pad || convert_to(project, 'UTF8') || pid)), 'hex')
            IS DISTINCT FROM substr(token, 38)
    THEN
        RAISE 'the project scope is not sealed with the key of this database' USING ERRCODE = 'DW004';
    END IF;
    IF coalesce(current_setting('derwin.project_id', true), '') <> '' THEN
        RAISE 'this transaction has a project scope already' USING ERRCODE = '42501';
    END IF;
    IF NOT EXISTS (SELECT FROM public.projects WHERE id = project::uuid) THEN
        RAISE 'no such project' USING ERRCODE = 'DW003';
    END IF;
    project := project || '.5000000000000000';
    message := convert_to(project, 'UTF8') || pid || timestamptz_send(now());
    PERFORM set_config(
        'derwin.project_id',
        project || left(encode(sha256(key.outer_pad || sha256(key.inner_pad || message)), 'hex'), 48),
        true
    );
END
$$;
COMMENT ON FUNCTION public.derwin_open(text) IS 'Opens the transaction for one project; the token needs the key';

CREATE OR REPLACE FUNCTION public.derwin_scope() RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sealed text := current_setting('derwin.project_id', true);
    kind text := substr(sealed, 38, 1);
    message bytea;
    made numeric;
    inner_block bytea;
    outer_block bytea;
BEGIN
    IF sealed IS NULL OR sealed = '' THEN
        RAISE 'no project scope is set' USING ERRCODE = 'DW010';
    END IF;
    SELECT inner_pad, outer_pad INTO inner_block, outer_block FROM derwin.scope_key;
    message := convert_to(left(sealed, 53), 'UTF8') || CASE kind
        WHEN '5' THEN int4send(pg_backend_pid()) || timestamptz_send(now())
        WHEN '3' THEN int4send(pg_backend_pid())
        WHEN '4' THEN ''
    END;
    IF left(encode(sha256(outer_block || sha256(inner_block || message)), 'hex'), 48) IS DISTINCT FROM substr(sealed, 54) THEN
        SELECT former_inner_pad, former_outer_pad INTO inner_block, outer_block FROM derwin.scope_key;
        IF left(encode(sha256(outer_block || sha256(inner_block || message)), 'hex'), 48) IS DISTINCT FROM substr(sealed, 54) THEN
            RAISE 'the project scope is not sealed with the key of this database'
                USING ERRCODE = CASE WHEN kind IN ('3', '4') THEN 'DW004' ELSE '42501' END;
        END IF;
    END IF;
    IF kind <> '5' THEN
        made := ('x0' || substr(sealed, 39, 15))::bit(64)::bigint;
        IF extract(epoch FROM now()) * 1000000 < made - 1000000
            OR extract(epoch FROM clock_timestamp()) * 1000000 > made + 5000000
        THEN
            RAISE 'the token of the project scope has ended' USING ERRCODE = 'DW011';
        END IF;
    END IF;
    RETURN left(sealed, 36)::uuid;
END
$$;
COMMENT ON FUNCTION public.derwin_scope() IS 'The project of this transaction or statement; an error without one, and for a forged one';
