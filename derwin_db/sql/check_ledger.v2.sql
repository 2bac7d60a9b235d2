-- As in stamps.v1, and no entry is of a time to come, also where the past of a project is being written: every cap would count it
-- for good.
CREATE OR REPLACE FUNCTION public.derwin_check_ledger() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (
        SELECT FROM entries e LEFT JOIN public.projects p ON p.id = e.project_id WHERE p.slug IS DISTINCT FROM e.project_slug
    ) THEN
        RAISE 'an entry of the ledger names its own project' USING
            ERRCODE = '23514', TABLE = 'spend_ledger', CONSTRAINT = 'ck_spend_ledger_project_slug';
    END IF;
    IF current_user = 'derwin_app' THEN
        IF EXISTS (SELECT FROM entries WHERE created_at <> now() AND NOT public.derwin_is_restoring(project_id)) THEN
            RAISE 'an entry of the ledger is written now' USING
                ERRCODE = '23514', TABLE = 'spend_ledger', CONSTRAINT = 'ck_spend_ledger_written_now';
        ELSIF EXISTS (SELECT FROM entries WHERE created_at > clock_timestamp() + INTERVAL '1 day') THEN
            RAISE 'an entry of the ledger is not of a time to come' USING
                ERRCODE = '23514', TABLE = 'spend_ledger', CONSTRAINT = 'ck_spend_ledger_is_over';
        END IF;
    END IF;
    RETURN NULL;
END
$$;
