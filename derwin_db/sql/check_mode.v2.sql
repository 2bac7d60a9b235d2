-- As in stamps.v1, and the log is a chain: an entry begins where the unit's last one ends, none tells of a change that was none,
-- and at the commit the last one names the mode that the project has. The first entry of a unit may begin elsewhere: what an
-- owner changed by hand, or a file brought, is no entry.
CREATE OR REPLACE FUNCTION public.derwin_check_mode_log() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last record;
BEGIN
    IF current_user <> 'derwin_app' THEN
        RETURN NEW;
    ELSIF public.derwin_is_restoring(NEW.project_id) THEN
        RETURN NEW;
    END IF;
    SELECT to_mode, created_at >= now() AS is_of_this_unit INTO last
    FROM public.project_mode_logs WHERE project_id = NEW.project_id ORDER BY created_at DESC, id DESC LIMIT 1;
    IF NEW.from_mode IS NOT DISTINCT FROM NEW.to_mode
        OR NEW.to_mode IS DISTINCT FROM (SELECT mode FROM public.projects WHERE id = NEW.project_id)
        OR NEW.to_mode = last.to_mode
        OR (last.to_mode IS NOT NULL AND NEW.from_mode IS NULL)
        OR (last.is_of_this_unit AND NEW.from_mode IS DISTINCT FROM last.to_mode)
    THEN
        RAISE 'an entry of the mode log says what happened' USING
            ERRCODE = '23514', TABLE = 'project_mode_logs', CONSTRAINT = 'ck_project_mode_logs_is_true';
    END IF;
    RETURN NEW;
END
$$;

CREATE OR REPLACE FUNCTION public.derwin_check_mode() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_user <> 'derwin_app' THEN
        RETURN NULL;
    END IF;
    IF NOT EXISTS (
        SELECT FROM public.project_mode_logs
        WHERE project_id = NEW.id AND from_mode = OLD.mode AND to_mode = NEW.mode AND created_at >= now()
    ) OR (SELECT mode FROM public.projects WHERE id = NEW.id) IS DISTINCT FROM (
        SELECT to_mode FROM public.project_mode_logs WHERE project_id = NEW.id ORDER BY created_at DESC, id DESC LIMIT 1
    ) THEN
        RAISE 'a change of the mode has its entry in the log' USING
            ERRCODE = '23514', TABLE = 'projects', CONSTRAINT = 'ck_projects_mode_is_logged';
    END IF;
    RETURN NULL;
END
$$;
