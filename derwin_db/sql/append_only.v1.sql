-- Append-only, whoever asks. Privileges stop the application's roles; these triggers stop the owner and everybody else,
-- also with session_replication_role = replica (ENABLE ALWAYS). A row goes only in the cascade of its project's own
-- deletion: inside a trigger (depth), and with the project gone.
CREATE FUNCTION public.derwin_refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' AND pg_trigger_depth() > 1 THEN
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
