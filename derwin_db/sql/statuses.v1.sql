-- The state machines, whoever writes: a status changes along their edges, in SQL by hand as in the verbs of the repositories. A
-- status that is no label is left to its CHECK. The owner's repairs are free.
CREATE FUNCTION public.derwin_check_ticket_status() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_user = 'derwin_app' AND NOT (CASE NEW.status
        WHEN 'OPEN' THEN OLD.status = 'RESOLVED'
        WHEN 'TRIAGED' THEN OLD.status = 'OPEN'
        WHEN 'IN_PROGRESS' THEN OLD.status IN ('TRIAGED', 'FIX_PROPOSED')
        WHEN 'FIX_PROPOSED' THEN OLD.status = 'IN_PROGRESS'
        WHEN 'RESOLVED' THEN OLD.status = 'FIX_PROPOSED'
        WHEN 'DUPLICATE' THEN
            OLD.status IN ('OPEN', 'TRIAGED', 'IN_PROGRESS', 'FIX_PROPOSED') AND NEW.duplicate_of_id IS NOT NULL
        WHEN 'REJECTED' THEN OLD.status IN ('OPEN', 'TRIAGED', 'IN_PROGRESS', 'FIX_PROPOSED')
        WHEN 'WONT_FIX' THEN OLD.status IN ('OPEN', 'TRIAGED', 'IN_PROGRESS', 'FIX_PROPOSED')
        ELSE true
    END) THEN
        RAISE 'a status changes along its state machine' USING ERRCODE = 'DW005', TABLE = 'qa_tickets', COLUMN = 'status';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER derwin_check_status BEFORE UPDATE OF status ON public.qa_tickets
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION public.derwin_check_ticket_status();
ALTER TABLE public.qa_tickets ENABLE ALWAYS TRIGGER derwin_check_status;

CREATE FUNCTION public.derwin_check_run_status() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_user = 'derwin_app' AND NOT (CASE NEW.status
        WHEN 'QUEUED' THEN OLD.status = 'RUNNING'
        WHEN 'RUNNING' THEN OLD.status = 'QUEUED'
        WHEN 'COMPLETED' THEN OLD.status = 'RUNNING'
        WHEN 'FAILED' THEN OLD.status = 'RUNNING'
        WHEN 'CANCELLED' THEN OLD.status IN ('QUEUED', 'RUNNING')
        ELSE true
    END) THEN
        RAISE 'a status changes along its state machine' USING ERRCODE = 'DW005', TABLE = 'qa_runs', COLUMN = 'status';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER derwin_check_status BEFORE UPDATE OF status ON public.qa_runs
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION public.derwin_check_run_status();
ALTER TABLE public.qa_runs ENABLE ALWAYS TRIGGER derwin_check_status;

CREATE FUNCTION public.derwin_check_attempt_status() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_user = 'derwin_app' AND NOT (CASE NEW.status
        WHEN 'DISPATCHED' THEN false
        WHEN 'RUNNING' THEN OLD.status = 'DISPATCHED'
        WHEN 'SUCCEEDED' THEN OLD.status = 'RUNNING'
        WHEN 'FAILED' THEN OLD.status IN ('RUNNING', 'SUCCEEDED')
        WHEN 'CANCELLED' THEN OLD.status IN ('DISPATCHED', 'RUNNING')
        ELSE true
    END) THEN
        RAISE 'a status changes along its state machine' USING ERRCODE = 'DW005', TABLE = 'qa_fix_attempts', COLUMN = 'status';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER derwin_check_status BEFORE UPDATE OF status ON public.qa_fix_attempts
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION public.derwin_check_attempt_status();
ALTER TABLE public.qa_fix_attempts ENABLE ALWAYS TRIGGER derwin_check_status;
