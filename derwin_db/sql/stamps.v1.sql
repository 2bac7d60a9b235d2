-- What a unit of work writes into evidence, logs and ledger is stamped by the database, by hand too: when it was written, by
-- which rule and until when evidence is kept, in which order a log goes, whose entry the ledger holds.
CREATE FUNCTION public.derwin_stamp_evidence() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_user <> 'derwin_app' THEN
        RETURN NEW;
    ELSIF public.derwin_is_restoring(NEW.project_id) THEN
        RETURN NEW;
    END IF;
    -- the lock that the foreign key takes anyway: a change of the project's rule waits, or is seen
    SELECT compliance_mode INTO NEW.compliance_mode FROM public.projects WHERE id = NEW.project_id FOR KEY SHARE;
    NEW.created_at := now();
    NEW.updated_at := now();
    NEW.retention_until := ((now() AT TIME ZONE 'UTC') + CASE NEW.compliance_mode
        WHEN 'STANDARD' THEN INTERVAL '90 days'
        WHEN 'GDPR' THEN INTERVAL '30 days'
        WHEN 'SOC2' THEN INTERVAL '13 months'
        WHEN 'PCI_DSS' THEN INTERVAL '13 months'
        WHEN 'HIPAA' THEN INTERVAL '6 years'
        WHEN 'SOX' THEN INTERVAL '7 years'
    END) AT TIME ZONE 'UTC';
    RETURN NEW;
END
$$;
CREATE TRIGGER derwin_stamp_evidence BEFORE INSERT ON public.audit_artifacts
    FOR EACH ROW EXECUTE FUNCTION public.derwin_stamp_evidence();
ALTER TABLE public.audit_artifacts ENABLE ALWAYS TRIGGER derwin_stamp_evidence;

CREATE FUNCTION public.derwin_stamp_log() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last timestamptz;
BEGIN
    IF current_user <> 'derwin_app' THEN
        RETURN NEW;
    ELSIF public.derwin_is_restoring(NEW.project_id) THEN
        RETURN NEW;
    END IF;
    EXECUTE format('SELECT max(created_at) FROM public.%I WHERE project_id = $1', TG_TABLE_NAME) INTO last USING NEW.project_id;
    NEW.created_at := greatest(clock_timestamp(), now(), last + INTERVAL '1 microsecond');
    RETURN NEW;
END
$$;
CREATE TRIGGER derwin_stamp_log BEFORE INSERT ON public.project_mode_logs
    FOR EACH ROW EXECUTE FUNCTION public.derwin_stamp_log();
CREATE TRIGGER derwin_stamp_log BEFORE INSERT ON public.profile_evolution_logs
    FOR EACH ROW EXECUTE FUNCTION public.derwin_stamp_log();
ALTER TABLE public.project_mode_logs ENABLE ALWAYS TRIGGER derwin_stamp_log;
ALTER TABLE public.profile_evolution_logs ENABLE ALWAYS TRIGGER derwin_stamp_log;

-- The mode and its log agree: an entry says what happened, and what happens has its entry at the commit.
CREATE FUNCTION public.derwin_check_mode_log() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_user <> 'derwin_app' THEN
        RETURN NEW;
    ELSIF public.derwin_is_restoring(NEW.project_id) THEN
        RETURN NEW;
    END IF;
    IF NEW.from_mode IS NOT DISTINCT FROM NEW.to_mode
        OR NEW.to_mode IS DISTINCT FROM (SELECT mode FROM public.projects WHERE id = NEW.project_id)
    THEN
        RAISE 'an entry of the mode log says what happened' USING
            ERRCODE = '23514', TABLE = 'project_mode_logs', CONSTRAINT = 'ck_project_mode_logs_is_true';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER derwin_check_mode_log BEFORE INSERT ON public.project_mode_logs
    FOR EACH ROW EXECUTE FUNCTION public.derwin_check_mode_log();
ALTER TABLE public.project_mode_logs ENABLE ALWAYS TRIGGER derwin_check_mode_log;

CREATE FUNCTION public.derwin_check_mode() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_user = 'derwin_app' AND NOT EXISTS (
        SELECT FROM public.project_mode_logs
        WHERE project_id = NEW.id AND from_mode = OLD.mode AND to_mode = NEW.mode AND created_at >= now()
    ) THEN
        RAISE 'a change of the mode has its entry in the log' USING
            ERRCODE = '23514', TABLE = 'projects', CONSTRAINT = 'ck_projects_mode_is_logged';
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER derwin_check_mode AFTER UPDATE OF mode ON public.projects DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.mode IS DISTINCT FROM NEW.mode) EXECUTE FUNCTION public.derwin_check_mode();
ALTER TABLE public.projects ENABLE ALWAYS TRIGGER derwin_check_mode;

-- The ledger's second name of the project is the project's own, whoever writes: sums of all projects are told apart by it.
CREATE FUNCTION public.derwin_check_ledger() RETURNS trigger
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
        END IF;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER derwin_check_ledger AFTER INSERT ON public.spend_ledger
    REFERENCING NEW TABLE AS entries FOR EACH STATEMENT EXECUTE FUNCTION public.derwin_check_ledger();
ALTER TABLE public.spend_ledger ENABLE ALWAYS TRIGGER derwin_check_ledger;
