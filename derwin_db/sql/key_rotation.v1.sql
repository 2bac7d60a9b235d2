-- A rotation of the scope key without a gap: from `start` on the database takes two keys, from `finish` on the new one alone.
-- Who ends one sees to it before that no transaction is open that was sealed with the former key: `derwin_db.deploy.rotation`.
-- `derwin.rotate_scope_key()` leaves no former key: whatever the old one opened ends at once.
CREATE OR REPLACE FUNCTION derwin.start_key_rotation() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    former derwin.scope_key;
BEGIN
    LOCK TABLE derwin.scope_key IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO former FROM derwin.scope_key;
    IF former.former_inner_pad IS NOT NULL THEN
        RAISE 'a rotation of the scope key is under way' USING ERRCODE = '55000';
    END IF;
    PERFORM derwin.rotate_scope_key();
    UPDATE derwin.scope_key SET former_inner_pad = former.inner_pad, former_outer_pad = former.outer_pad;
END
$$;
REVOKE ALL ON FUNCTION derwin.start_key_rotation() FROM PUBLIC;

CREATE OR REPLACE FUNCTION derwin.finish_key_rotation() RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE derwin.scope_key SET former_inner_pad = NULL, former_outer_pad = NULL;
$$;
REVOKE ALL ON FUNCTION derwin.finish_key_rotation() FROM PUBLIC;
