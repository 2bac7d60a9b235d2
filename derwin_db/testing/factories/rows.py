"""Rows of all 14 tables, written through their repositories. What a row needs besides is written too where it is not given."""

from typing import Any
from uuid import UUID

from derwin_db import repos
from derwin_db.models import (
    AuditArtifact,
    ClassificationTrust,
    FixOutcome,
    IngestedDoc,
    Policy,
    ProfileChange,
    ProfileEvolutionLog,
    Project,
    ProjectModeLog,
    ProjectProfile,
    ProjectProfileUpdate,
    QAFixAttempt,
    QARun,
    QATicket,
    RAGCorpus,
    RawSignal,
    SpendLedger,
)
from derwin_db.models.enums import ProjectMode
from derwin_db.session import AdminSession, ProjectSession
from derwin_db.testing.factories import inputs
from derwin_db.testing.factories.inputs import ACTOR

REASON = "a test"


async def create_project(admin: AdminSession, **overrides: Any) -> Project:
    """Write a project, through the admin door."""
    return await repos.projects.create(admin, inputs.project(**overrides))


async def create_profile(session: ProjectSession, **overrides: Any) -> ProjectProfile:
    """Write the profile of the project, which has none yet, and its log entry."""
    return await repos.project_profiles.create(session, inputs.profile(**overrides), actor=ACTOR, reason=REASON)


async def create_profile_log(session: ProjectSession) -> ProfileEvolutionLog:
    """Write an entry of the evolution log: the profile is made, or gets another summary."""
    profiles = (await repos.project_profiles.list(session, limit=1)).items
    if profiles:
        version = profiles[0].version
        change = ProjectProfileUpdate(summary=f"An ERP for a wholesaler, version {version + 1}.")
        await repos.project_profiles.evolve(
            session, change, change=ProfileChange.HUMAN_EDIT, actor=ACTOR, reason=REASON, expected_version=version
        )
    else:
        await create_profile(session)
    return (await repos.profile_evolution_logs.list(session, limit=1)).items[0]


async def create_mode_log(session: ProjectSession, to_mode: ProjectMode | None = None) -> ProjectModeLog:
    """Write an entry of the mode log: the project gets this mode, or another one than it has."""
    present = (await repos.projects.current(session)).mode
    chosen = to_mode or next(mode for mode in ProjectMode if mode != present)
    await repos.projects.set_mode(session, chosen, actor=ACTOR, reason=REASON)
    return (await repos.project_mode_logs.list(session, limit=1)).items[0]


async def create_doc(session: ProjectSession, **overrides: Any) -> IngestedDoc:
    """Write a document, PENDING."""
    return await repos.ingested_docs.ingest(session, inputs.doc(**overrides))


async def create_run(session: ProjectSession, **overrides: Any) -> QARun:
    """Write a run, QUEUED."""
    return await repos.qa_runs.enqueue(session, inputs.run(**overrides))


async def create_signal(session: ProjectSession, *, run_id: UUID | None = None, **overrides: Any) -> RawSignal:
    """Write a signal, NEW, of a new run unless one is given."""
    run = run_id or (await create_run(session)).id
    data = inputs.signal(**overrides)
    await repos.raw_signals.ingest(session, run, [data])
    return (await repos.raw_signals.list(session, run_id=run, fingerprint=data.fingerprint)).items[0]


async def create_ticket(session: ProjectSession, **overrides: Any) -> QATicket:
    """Write a ticket, OPEN."""
    return await repos.qa_tickets.create(session, inputs.ticket(**overrides))


async def create_fix_attempt(session: ProjectSession, *, ticket_id: UUID | None = None, **overrides: Any) -> QAFixAttempt:
    """Write an attempt, DISPATCHED, at a new ticket unless one is given."""
    ticket = ticket_id or (await create_ticket(session)).id
    return await repos.qa_fix_attempts.dispatch(session, ticket, **inputs.fix_attempt(**overrides).model_dump())


async def create_trust(session: ProjectSession, classification: str = "calculation") -> ClassificationTrust:
    """Write the trust score of a classification: a fix of it is merged."""
    attempt = await create_fix_attempt(session, ticket_id=(await create_ticket(session, classification=classification)).id)
    await repos.qa_fix_attempts.start(session, attempt.id)
    await repos.qa_fix_attempts.conclude(session, attempt.id, FixOutcome.MERGED)
    return await repos.classification_trust.for_classification(session, classification)


async def create_past_fix(session: ProjectSession, **overrides: Any) -> RAGCorpus:
    """Write a past fix."""
    return await repos.rag_corpus.add(session, inputs.past_fix(**overrides))


async def create_artifact(session: ProjectSession, **overrides: Any) -> AuditArtifact:
    """Write a piece of evidence."""
    return await repos.audit_artifacts.record(session, inputs.artifact(**overrides))


async def create_policy(session: ProjectSession, **overrides: Any) -> Policy:
    """Write a policy, the active one."""
    return await repos.policies.activate(session, inputs.policy(**overrides))


async def create_spend(session: ProjectSession, **overrides: Any) -> SpendLedger:
    """Write an entry of the ledger."""
    return await repos.spend_ledger.append(session, inputs.spend(**overrides))
