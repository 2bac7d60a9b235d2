-- An entry of the profile's log says what happened, too: one for a version that the profile does not have would stand in the way
-- of that version for good, since entries are never removed.
CREATE FUNCTION public.derwin_check_profile_log() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_user <> 'derwin_app' THEN
        RETURN NEW;
    ELSIF public.derwin_is_restoring(NEW.project_id) THEN
        RETURN NEW;
    END IF;
    IF NEW.to_version IS DISTINCT FROM (
        SELECT version FROM public.project_profiles WHERE project_id = NEW.project_id AND id = NEW.profile_id
    ) THEN
        RAISE 'an entry of the profile''s log says what happened' USING
            ERRCODE = '23514', TABLE = 'profile_evolution_logs', CONSTRAINT = 'ck_profile_evolution_logs_is_true';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER derwin_check_profile_log BEFORE INSERT ON public.profile_evolution_logs
    FOR EACH ROW EXECUTE FUNCTION public.derwin_check_profile_log();
ALTER TABLE public.profile_evolution_logs ENABLE ALWAYS TRIGGER derwin_check_profile_log;
