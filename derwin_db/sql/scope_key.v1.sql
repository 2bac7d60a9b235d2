-- The key of the seal, as the two padded blocks of HMAC (RFC 2104, block of 64 bytes), so that the functions need no
-- extension: HMAC-SHA256(message) = sha256(outer || sha256(inner || message)). Only the owner reads it, and the operator,
-- who can't become derwin_app. The bytes come from gen_random_uuid(), the server's strong random source.
CREATE SCHEMA derwin;
REVOKE ALL ON SCHEMA derwin FROM PUBLIC;

CREATE TABLE derwin.scope_key (
    is_current boolean PRIMARY KEY DEFAULT true CHECK (is_current),
    inner_pad bytea NOT NULL CHECK (octet_length(inner_pad) = 64),
    outer_pad bytea NOT NULL CHECK (octet_length(outer_pad) = 64),
    rotated_at timestamptz NOT NULL DEFAULT now()
);
REVOKE ALL ON derwin.scope_key FROM PUBLIC;
COMMENT ON TABLE derwin.scope_key IS 'Seals the project scope of a transaction. In every dump: a restore rotates it';

CREATE FUNCTION derwin.rotate_scope_key() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
    inner_block bytea := decode(repeat('36', 64), 'hex');
    outer_block bytea := decode(repeat('5c', 64), 'hex');
BEGIN
    FOR i IN 0..31 LOOP
        inner_block := set_byte(inner_block, i, get_byte(inner_block, i) # get_byte(key, i));
        outer_block := set_byte(outer_block, i, get_byte(outer_block, i) # get_byte(key, i));
    END LOOP;
    DELETE FROM derwin.scope_key;
    INSERT INTO derwin.scope_key (inner_pad, outer_pad) VALUES (inner_block, outer_block);
END
$$;
REVOKE ALL ON FUNCTION derwin.rotate_scope_key() FROM PUBLIC;
SELECT derwin.rotate_scope_key();
