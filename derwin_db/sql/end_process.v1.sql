-- Ends one process of the caller's own login, for whoever has the key of the seal: a service ends what it gave up, and SQL in a
-- unit of work ends nothing. The process is named by its number and by when it began, or its transaction, which is all that is
-- known behind a pooler. pg_temp stands last in the search_path of what runs as the owner.
CREATE FUNCTION public.derwin_end_process(process integer, started timestamptz, mac text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    message bytea := convert_to('end ', 'UTF8') || int4send(process) || timestamptz_send(started);
BEGIN
    -- the key, and the one before it where a rotation keeps that
    IF NOT EXISTS (
        SELECT FROM derwin.scope_key k, LATERAL (VALUES
            (k.inner_pad, k.outer_pad),
            (CAST(to_jsonb(k) ->> 'former_inner_pad' AS bytea), CAST(to_jsonb(k) ->> 'former_outer_pad' AS bytea))
        ) AS one (inner_block, outer_block)
        WHERE left(encode(sha256(outer_block || sha256(inner_block || message)), 'hex'), 48) = mac
    ) THEN
        RAISE 'who ends a process needs the key of this database' USING ERRCODE = '42501';
    END IF;
    PERFORM pg_terminate_backend(a.pid) FROM pg_stat_activity a
    WHERE a.pid = process AND started IN (a.backend_start, a.xact_start) AND a.usename = session_user;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION public.derwin_end_process(integer, timestamptz, text) IS
    'Ends a process of the same login and returns whether it was there; the MAC needs the key';
GRANT EXECUTE ON FUNCTION public.derwin_end_process(integer, timestamptz, text) TO derwin_app, derwin_admin;
