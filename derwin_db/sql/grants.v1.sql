-- What each role may do at all; the policies say with which rows. derwin_app owns nothing. It may change only what the
-- verbs of its repositories change; the two logs and the ledger only grow. derwin_admin has no ticket text, and no way to
-- change a slug or the ledger.
GRANT USAGE ON SCHEMA public TO derwin_app, derwin_admin, derwin_backfill;
GRANT SELECT ON public.alembic_version TO derwin_app, derwin_admin;
GRANT EXECUTE ON FUNCTION public.derwin_uuid7() TO derwin_app, derwin_admin;

GRANT SELECT ON public.projects TO derwin_app;
GRANT UPDATE (mode, version, updated_at) ON public.projects TO derwin_app;
GRANT SELECT, INSERT, UPDATE ON public.project_profiles, public.classification_trust TO derwin_app;
GRANT SELECT, INSERT, UPDATE, DELETE
    ON public.ingested_docs, public.qa_runs, public.raw_signals, public.qa_tickets, public.qa_fix_attempts, public.rag_corpus
    TO derwin_app;
GRANT SELECT, INSERT, DELETE ON public.audit_artifacts TO derwin_app;
GRANT UPDATE (legal_hold, updated_at) ON public.audit_artifacts TO derwin_app;
GRANT SELECT, INSERT ON public.policies TO derwin_app;
GRANT UPDATE (is_active, updated_at) ON public.policies TO derwin_app;
GRANT SELECT, INSERT ON public.profile_evolution_logs, public.project_mode_logs, public.spend_ledger TO derwin_app;

GRANT SELECT, INSERT, DELETE ON public.projects TO derwin_admin;
GRANT UPDATE (name, type, compliance_mode, repo_url, settings, archived_at, version, updated_at) ON public.projects TO derwin_admin;
GRANT INSERT ON public.project_mode_logs TO derwin_admin;
GRANT SELECT, DELETE ON public.audit_artifacts TO derwin_admin;
GRANT UPDATE (retention_until, updated_at) ON public.audit_artifacts TO derwin_admin;
GRANT SELECT (project_id, project_slug, amount_usd, occurred_at, created_at) ON public.spend_ledger TO derwin_admin;
GRANT SELECT (project_id)
    ON public.project_profiles, public.ingested_docs, public.profile_evolution_logs, public.qa_runs, public.raw_signals,
       public.qa_tickets, public.qa_fix_attempts, public.classification_trust, public.rag_corpus, public.policies,
       public.project_mode_logs
    TO derwin_admin;

-- The operator's login may read the key, so that a service that has it needs no setting.
GRANT USAGE ON SCHEMA derwin TO derwin_admin;
GRANT SELECT ON derwin.scope_key TO derwin_admin;
