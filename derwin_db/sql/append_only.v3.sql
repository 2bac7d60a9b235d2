-- Append-only, whoever asks. As before, and the ledger is known by its whole name: a log of the service whose name begins with
-- the same words goes with its project, as all logs do. (A shard of the ledger has a number behind its name.)
CREATE OR REPLACE FUNCTION public.derwin_refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' AND pg_trigger_depth() > 1 AND TG_TABLE_NAME !~ '^spend_ledger(_[0-9]+)?$' THEN
        IF TG_LEVEL = 'STATEMENT' THEN
            RETURN NULL;
        END IF;
        IF {{project_is_gone}} THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE 'rows of this table are never changed or removed' USING ERRCODE = 'DW001';
END
$$;
