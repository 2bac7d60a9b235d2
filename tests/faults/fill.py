"""At least one row in every table of a project, through the repositories alone."""

from derwin_db import ProjectSession, repos
from derwin_db.models import (
    AuditArtifactCreate,
    IngestedDocCreate,
    PolicyCreate,
    PolicyThresholds,
    ProjectProfileCreate,
    QARunCreate,
    RAGCorpusCreate,
    RawSignalCreate,
)
from tests.faults.load import entry, make_ticket

HASH = "a" * 64


async def fill_all(session: ProjectSession) -> None:
    """Write to all 13 tables that a project's session may write to, and what they log."""
    await repos.project_profiles.create(
        session,
        ProjectProfileCreate(summary="s", domain_ontology={}, risk_weights={}, critical_flows=[], glossary={}),
        actor="a",
        reason="r",
    )
    await repos.ingested_docs.ingest(
        session,
        IngestedDocCreate(
            source="URL", source_uri="https://example.org", title="t", mime_type="m", byte_size=1, content_hash=HASH
        ),
    )
    run = await repos.qa_runs.enqueue(session, QARunCreate(trigger="MANUAL", routes=["ADAPTER"]))
    signal = RawSignalCreate(
        route="ADAPTER", title="t", fingerprint="f", confidence=1, payload={}, observed_at="2026-01-01T00:00:00Z"
    )
    await repos.raw_signals.ingest(session, run.id, [signal])
    row = await make_ticket(session)
    attempt = await repos.qa_fix_attempts.dispatch(session, row.id, model="m")
    await repos.qa_fix_attempts.start(session, attempt.id)
    await repos.qa_fix_attempts.conclude(session, attempt.id, "MERGED")
    await repos.rag_corpus.add(session, RAGCorpusCreate(classification="ui_bug", problem="p", fix_summary="f", diff="d"))
    await repos.audit_artifacts.record(
        session,
        AuditArtifactCreate(
            kind="LOG", storage_uri="s3://b/x", mime_type="m", byte_size=1, content_hash=HASH, ticket_id=row.id
        ),
    )
    thresholds = PolicyThresholds(min_trust_for_auto_fix=0.5, min_confidence=0.5, max_attempts_per_ticket=2)
    policy = PolicyCreate(risk_tier_rules=[], classification_overrides={}, thresholds=thresholds, created_by="a")
    await repos.policies.activate(session, policy)
    await repos.projects.set_mode(session, "AUTHOR", actor="a", reason="r")
    await repos.spend_ledger.append(session, entry())
