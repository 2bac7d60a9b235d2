"""A project whose texts try to be markup, links and formulas wherever a text may stand."""

from datetime import UTC, datetime
from decimal import Decimal

import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.models import (
    AuditArtifact,
    AuditArtifactCreate,
    ComplianceMode,
    FixOutcome,
    IngestedDocCreate,
    PolicyCreate,
    ProfileChange,
    Project,
    ProjectCreate,
    ProjectMode,
    ProjectProfileCreate,
    ProjectProfileUpdate,
    ProjectType,
    QAFixAttempt,
    QARunCreate,
    QATicketCreate,
    RAGCorpusCreate,
    RawSignalCreate,
    SpendKind,
    SpendLedgerCreate,
    SpendSource,
)
from derwin_db.testing.examples import example

SCRIPT = "<script>document.title='owned'</script>"
BREAKOUT = "\"'></title></svg></pre><img src=x onerror=\"document.title='owned'\">{{ 7 * 7 }}"
TEXT = SCRIPT + BREAKOUT
LINK = "javascript:document.title='owned'"


async def fill_hostile(data: Database) -> Project:
    async with data.admin(reason="a hostile project") as admin:
        project = await repos.projects.create(
            admin, ProjectCreate(slug="hostile", name=TEXT, type=ProjectType.OTHER, mode=ProjectMode.OBSERVE)
        )
    who = {"actor": TEXT, "reason": TEXT}
    async with data.project(project.id) as session:
        doc = await repos.ingested_docs.ingest(session, example(IngestedDocCreate, title=TEXT, mime_type=TEXT))
        await repos.ingested_docs.mark_failed(session, doc.id, TEXT)
        profile = example(ProjectProfileCreate, marker=TEXT[:60], summary=TEXT, glossary={TEXT: TEXT}, risk_weights={TEXT: 0.5})
        await repos.project_profiles.create(session, profile, **who)
        change = ProjectProfileUpdate(summary=f"{TEXT} again", glossary={f"{TEXT}/2": TEXT})
        await repos.project_profiles.evolve(session, change, change=ProfileChange.LEARNED, expected_version=1, **who)
        await repos.projects.set_mode(session, ProjectMode.TRIAGE, **who)
        await repos.policies.activate(session, example(PolicyCreate, note=TEXT, created_by=TEXT))
        await repos.qa_runs.enqueue(session, example(QARunCreate, commit_sha=TEXT))
        run = await repos.qa_runs.claim(session, TEXT)
        assert run is not None
        signal = example(
            RawSignalCreate, title=TEXT, fingerprint=TEXT[:128], payload={TEXT: TEXT}, observed_at=datetime.now(UTC)
        )
        await repos.raw_signals.ingest(session, run.id, [signal])
        await repos.qa_runs.fail(session, run.id, TEXT, worker=TEXT)
        texts = dict.fromkeys(("title", "description", "expected", "actual", "external_ref"), TEXT)
        ticket = await repos.qa_tickets.create(
            session, example(QATicketCreate, steps_to_reproduce=[TEXT], fingerprint=TEXT[:128], **texts)
        )
        await repos.raw_signals.attach(session, [row.id for row in (await repos.raw_signals.list(session)).items], ticket.id)
        attempt = await repos.qa_fix_attempts.dispatch(session, ticket.id, model=TEXT, branch=TEXT)
        await repos.qa_fix_attempts.start(session, attempt.id)
        await repos.qa_fix_attempts.conclude(session, attempt.id, FixOutcome.TESTS_FAILED, error=TEXT)
        evidence = example(AuditArtifactCreate, mime_type=TEXT, ticket_id=ticket.id)
        # what no repository would store
        await session.sql.execute(sa.update(QAFixAttempt).values(pr_url=LINK))
        kept = {"compliance_mode": ComplianceMode.STANDARD, "retention_until": datetime.now(UTC), "legal_hold": False}
        values = {**evidence.model_dump(), "storage_uri": TEXT, **kept}
        session.sql.add(AuditArtifact(project_id=project.id, **values))
        for number in range(2):
            fix = dict.fromkeys(("problem", "fix_summary", "diff"), TEXT)
            await repos.rag_corpus.add(session, example(RAGCorpusCreate, marker=f"m{number}", embedding_model=TEXT, **fix))
        charge = SpendLedgerCreate(
            kind=SpendKind.CHARGE,
            source=SpendSource.OTHER,
            model=TEXT,
            amount_usd=Decimal("1.5"),
            idempotency_key=TEXT,
            occurred_at=datetime.now(UTC),
            details={TEXT: TEXT},
        )
        await repos.spend_ledger.append(session, charge)
    return project
