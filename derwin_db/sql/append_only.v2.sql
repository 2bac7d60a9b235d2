-- Append-only, whoever asks. As before, but for the ledger: no cascade reaches it, since it has no foreign key to projects, so
-- nothing removes a row of it, at no depth and after its project too. (A shard of it has a number behind its name.)
CREATE OR REPLACE FUNCTION public.derwin_refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' AND pg_trigger_depth() > 1 AND NOT starts_with(TG_TABLE_NAME, 'spend_ledger') THEN
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
