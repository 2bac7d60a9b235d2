-- Evidence is kept. A hold beats everything, the deletion of the whole project included (no guard of depth: a hold that
-- arrives meanwhile would be lost). Before its time a row goes only with its whole project, and its time is only raised.
CREATE FUNCTION public.derwin_keep_evidence() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.retention_until < OLD.retention_until THEN
            RAISE 'the retention of evidence is only ever raised' USING ERRCODE = 'DW002';
        END IF;
        RETURN NEW;
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        RAISE 'evidence is never truncated' USING ERRCODE = 'DW002';
    END IF;
    IF OLD.legal_hold THEN
        RAISE 'evidence under legal hold is kept' USING ERRCODE = 'DW002';
    END IF;
    IF OLD.retention_until > now() AND NOT (pg_trigger_depth() > 1 AND {{project_is_gone}}) THEN
        RAISE 'evidence is kept until its retention ends' USING ERRCODE = 'DW002';
    END IF;
    RETURN OLD;
END
$$;
CREATE TRIGGER derwin_keep_evidence_row BEFORE UPDATE OR DELETE ON public.audit_artifacts
    FOR EACH ROW EXECUTE FUNCTION public.derwin_keep_evidence();
CREATE TRIGGER derwin_keep_evidence_truncate BEFORE TRUNCATE ON public.audit_artifacts
    FOR EACH STATEMENT EXECUTE FUNCTION public.derwin_keep_evidence();
ALTER TABLE public.audit_artifacts ENABLE ALWAYS TRIGGER derwin_keep_evidence_row;
ALTER TABLE public.audit_artifacts ENABLE ALWAYS TRIGGER derwin_keep_evidence_truncate;
