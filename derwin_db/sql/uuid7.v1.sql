-- Server default of every id: a UUIDv7 (RFC 9562, section 5.7), on every PostgreSQL version.
-- 48 bits of Unix milliseconds, then the version, then random bits of a version 4 UUID with its variant.
CREATE FUNCTION public.derwin_uuid7() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH source AS (
        SELECT uuid_send(gen_random_uuid()) AS random,
               substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) AS milliseconds
    )
    SELECT encode(
        set_byte(overlay(random PLACING milliseconds FROM 1 FOR 6), 6, (get_byte(random, 6) & 15) | 112), 'hex'
    )::uuid
    FROM source
$$;
COMMENT ON FUNCTION public.derwin_uuid7() IS 'A UUIDv7, for rows that are written by raw SQL';
