"""A project with rows in all 14 tables, made by the verbs alone: several values for each filter, ties in `created_at`."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.fields.scalars import new_id
from derwin_db.models import (
    ArtifactKind,
    Bucket,
    DiscoveryRoute,
    DocSource,
    FixOutcome,
    ProfileChange,
    ProjectMode,
    ProjectProfileUpdate,
    RunStats,
    RunTrigger,
    Severity,
    SpendSource,
    TicketStatus,
)
from derwin_db.testing.examples import example
from tests.repos.rows import (
    NOW,
    a_charge,
    a_credit,
    a_doc,
    a_fix,
    a_policy,
    a_profile,
    a_run,
    a_signal,
    a_ticket,
    an_artifact,
    axis,
)

REPOSITORIES: dict[str, Any] = {name: getattr(repos, name) for name in repos.__all__}
"""The 14 repositories by the names of their tables. Any: tests call methods that only some of them have."""

_WHO = {"actor": "ada", "reason": "a test"}


async def fill(db: Database, project: UUID) -> None:
    """Fill the project in two units of work, so that rows of one transaction tie and those of the other follow."""
    async with db.project(project) as session:
        await _fill_profile(session)
        await _fill_work(session, "first")
        await _fill_books(session, "first")
    async with db.project(project) as session:
        await _fill_work(session, "second")
        await _fill_books(session, "second")
        await _fill_new_tables(session)


async def _fill_profile(session: ProjectSession) -> None:
    docs = [await repos.ingested_docs.ingest(session, a_doc(f"{source}", source=source)) for source in DocSource]
    await repos.ingested_docs.mark_processed(session, docs[0].id)
    await repos.ingested_docs.mark_failed(session, docs[1].id, "unreadable")
    await repos.ingested_docs.supersede(session, docs[2].id, docs[0].id)
    await repos.project_profiles.create(session, a_profile(), **_WHO)
    for version, doc in enumerate((docs[0].id, docs[3].id, None, docs[3].id, None), start=1):
        await repos.project_profiles.evolve(
            session,
            ProjectProfileUpdate(summary=f"version {version + 1}"),
            change=ProfileChange.HUMAN_EDIT if doc is None else ProfileChange.DOC_INGESTED,
            expected_version=version,
            doc_id=doc,
            **_WHO,
        )
    for mode in (ProjectMode.TRIAGE, ProjectMode.AUTHOR, ProjectMode.OBSERVE):
        await repos.projects.set_mode(session, mode, **_WHO)


async def _fill_work(session: ProjectSession, part: str) -> None:
    runs = [await repos.qa_runs.enqueue(session, a_run(trigger=trigger)) for trigger in RunTrigger]
    claimed = [await repos.qa_runs.claim(session, "worker") for _ in range(3)]
    await repos.qa_runs.complete(session, claimed[0].id, RunStats(signals=2), worker="worker")
    await repos.qa_runs.fail(session, claimed[1].id, "no browser", worker="worker")
    await repos.projects.set_mode(session, ProjectMode.TRIAGE if part == "first" else ProjectMode.AUTHOR, **_WHO)
    await repos.qa_runs.enqueue(session, a_run())
    severities = [*Severity, None]
    for run in runs[:2]:
        rows = [a_signal(f"{n}", route=route, severity_hint=severities[n % 5]) for n, route in enumerate(DiscoveryRoute)]
        await repos.raw_signals.ingest(session, run.id, rows)
    tickets = [
        await repos.qa_tickets.create(
            session,
            a_ticket(
                severity=severity,
                classification=f"class_{n % 2}",
                fingerprint=f"{n % 3}" if n else None,
                run_id=runs[n % 2].id if n else None,
            ),
        )
        for n, severity in enumerate([*Severity, *Severity])
    ]
    await _work_on(session, tickets)
    pending = await repos.raw_signals.pending(session, runs[0].id)
    await repos.raw_signals.attach(session, [row.id for row in pending[:3]], tickets[0].id)
    await repos.raw_signals.attach(session, [row.id for row in pending[3:5]], tickets[1].id)
    await repos.raw_signals.discard(session, [pending[5].id])
    attempt = (await repos.qa_fix_attempts.list(session, limit=1)).items[0]
    references = [{}, {"run_id": runs[0].id}, {"ticket_id": tickets[0].id}, {"fix_attempt_id": attempt.id}]
    for n, kind in enumerate(ArtifactKind):
        await repos.audit_artifacts.record(session, an_artifact(kind=kind, **references[n % 4]))


async def _work_on(session: ProjectSession, tickets: list[Any]) -> None:
    for bucket, ticket in zip(Bucket, tickets, strict=False):
        await repos.qa_tickets.assign_bucket(session, ticket.id, bucket)
    await repos.qa_tickets.assign_bucket(session, tickets[0].id, Bucket.NOISE)
    for to in (TicketStatus.TRIAGED, TicketStatus.IN_PROGRESS, TicketStatus.FIX_PROPOSED, TicketStatus.RESOLVED):
        await repos.qa_tickets.transition(session, tickets[2].id, to)
    await repos.qa_tickets.transition(session, tickets[3].id, TicketStatus.WONT_FIX)
    await repos.qa_tickets.mark_duplicate(session, tickets[4].id, tickets[5].id)
    await repos.qa_tickets.mark_duplicate(session, tickets[6].id, tickets[7].id)
    for n, outcome in enumerate((FixOutcome.MERGED, FixOutcome.TESTS_FAILED, FixOutcome.PR_OPENED)):
        attempt = await repos.qa_fix_attempts.dispatch(session, tickets[n].id, model="claude")
        await repos.qa_fix_attempts.start(session, attempt.id)
        await repos.qa_fix_attempts.conclude(session, attempt.id, outcome)
    await repos.qa_fix_attempts.dispatch(session, tickets[0].id, model="claude")
    cancelled = await repos.qa_fix_attempts.dispatch(session, tickets[1].id, model="claude")
    await repos.qa_fix_attempts.cancel(session, cancelled.id)


async def _fill_books(session: ProjectSession, part: str) -> None:
    for n in range(3):
        await repos.ingested_docs.ingest(session, a_doc(f"{part} {n}"))
    await repos.classification_trust.refresh(session, [f"{part}_{n}" for n in range(3)])
    for n in range(4):
        embedding = None if n == 3 else axis(1.0, float(n))
        learned_from = {"ticket_id": new_id(), "fix_attempt_id": new_id()} if n % 2 else {}  # it outlives both
        await repos.rag_corpus.add(session, a_fix(classification=f"class_{n % 2}", embedding=embedding, **learned_from))
    for _ in range(3):
        await repos.policies.activate(session, a_policy(note=part))
    for n, source in enumerate(SpendSource):
        when = NOW + timedelta(days=n)
        of = {"run_id": new_id(), "ticket_id": new_id(), "fix_attempt_id": new_id()} if n % 2 else {}
        charge = a_charge(f"{part} {n}", source=source, occurred_at=when, model=f"m{n % 2}", **of)
        await repos.spend_ledger.append(session, charge)
    await repos.spend_ledger.append(session, a_credit(part, occurred_at=NOW))


async def _fill_new_tables(session: ProjectSession) -> None:
    """Write rows of the tables that nothing above knows, with each value of each enumeration."""
    for repository in REPOSITORIES.values():
        if await repository.count(session):
            continue
        for number in range(4):
            values = example(repository.create_model, marker=f"{number}").model_dump()
            for column in repository.table.c:
                if isinstance(column.type, sa.Enum) and column.name in values:
                    values[column.name] = column.type.enums[number % len(column.type.enums)]
            row = {"project_id": session.project_id, "id": new_id(), **values}
            await session.sql.execute(sa.insert(repository.table).values(row))
