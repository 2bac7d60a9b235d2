-- As in stamps.v1, and an import brings no entry of a time to come: the next one has to be behind the last, and behind the end of
-- time there is none, so that no mode and no profile of the project could ever change again.
CREATE OR REPLACE FUNCTION public.derwin_stamp_log() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last timestamptz;
BEGIN
    IF current_user <> 'derwin_app' THEN
        RETURN NEW;
    ELSIF public.derwin_is_restoring(NEW.project_id) THEN
        IF NEW.created_at > clock_timestamp() + INTERVAL '1 day' THEN
            RAISE 'an entry of a log is not of a time to come' USING
                ERRCODE = '23514', TABLE = TG_TABLE_NAME, CONSTRAINT = format('ck_%s_is_over', TG_TABLE_NAME);
        END IF;
        RETURN NEW;
    END IF;
    EXECUTE format('SELECT max(created_at) FROM public.%I WHERE project_id = $1', TG_TABLE_NAME) INTO last USING NEW.project_id;
    NEW.created_at := greatest(clock_timestamp(), now(), last + INTERVAL '1 microsecond');
    RETURN NEW;
END
$$;
