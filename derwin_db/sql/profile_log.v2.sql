-- As in profile_log.v1, and an import brings no entry of a version to come: it would stand in the way of that version for good.
-- Entries come behind their profile, so what the past says is of a version that the profile has had.
CREATE OR REPLACE FUNCTION public.derwin_check_profile_log() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reached integer;
BEGIN
    IF current_user <> 'derwin_app' THEN
        RETURN NEW;
    END IF;
    SELECT version INTO reached FROM public.project_profiles WHERE project_id = NEW.project_id AND id = NEW.profile_id;
    IF public.derwin_is_restoring(NEW.project_id) AND NEW.to_version <= reached THEN
        RETURN NEW;
    END IF;
    IF NEW.to_version IS DISTINCT FROM reached THEN
        RAISE 'an entry of the profile''s log says what happened' USING
            ERRCODE = '23514', TABLE = 'profile_evolution_logs', CONSTRAINT = 'ck_profile_evolution_logs_is_true';
    END IF;
    RETURN NEW;
END
$$;
