"""Projects with rows in every table and in every state: what isolation is tested on.

Two projects that are filled are alike, row by row, but for their ids and their marker: a word that stands in every text of a
project, so that a text which turns up elsewhere tells whose it is.
"""

import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import SQLModel

from derwin_db import repos
from derwin_db.database import Database
from derwin_db.fields.scalars import new_id
from derwin_db.fields.table import ProjectTable
from derwin_db.models import (
    AuditArtifact,
    AuditArtifactCreate,
    Bucket,
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
    QARunCreate,
    QATicketCreate,
    RAGCorpusCreate,
    RawSignalCreate,
    RunStats,
    SpendKind,
    SpendLedgerCreate,
    TicketStatus,
)
from derwin_db.query.builders import table_of
from derwin_db.repos.bulk import references_of
from derwin_db.repos.own import Repository, repositories
from derwin_db.repos.rules.own import own_tables
from derwin_db.session import ProjectSession
from derwin_db.sql import PROJECT_TABLES
from derwin_db.testing.examples import MOMENT, example, value_of
from derwin_db.testing.history import writing_history

_ROAD = (TicketStatus.TRIAGED, TicketStatus.IN_PROGRESS, TicketStatus.FIX_PROPOSED, TicketStatus.RESOLVED)


@dataclass(frozen=True)
class Filled:
    """One filled project: its rows by table, in the order of their ids, and the word that its texts carry."""

    project_id: UUID
    slug: str
    marker: str
    rows: Mapping[str, Sequence[Any]]

    def ids(self, table: str) -> list[UUID]:
        """Return the ids of the table's rows."""
        return [row.id for row in self.rows[table]]


def models_by_table() -> dict[str, type[SQLModel]]:
    """Return the models by the names of their tables, `projects` first; a model that is added later is among them."""
    found = {table_of(mapper.class_).name: mapper.class_ for mapper in sa.inspect(Project).registry.mappers}
    later = sorted(name for name, model in found.items() if name not in PROJECT_TABLES and issubclass(model, ProjectTable))
    return {name: found[name] for name in ("projects", *PROJECT_TABLES, *later)}


async def create_filled(database: Database, *, marker: str | None = None) -> Filled:
    """Create a project through the admin door and fill it. The marker is made of letters and digits."""
    marker = marker or f"mk{secrets.token_hex(5)}"
    async with database.admin(reason=f"{marker} is created for a test") as admin:
        project = await repos.projects.create(admin, example(ProjectCreate, marker=marker))
    return await fill(database, project.id, marker=marker)


async def fill(database: Database, project_id: UUID, *, marker: str) -> Filled:
    """Write rows in all tables of an empty project, through the repositories, and return them all.

    Cost:
        About 80 statements in two units of work.
    """
    async with database.project(project_id) as session:
        await _learn(session, marker)
        await _discover(session, marker)
        await _fix(session, marker)
        await _keep(session, marker)
    async with database.project(project_id) as session:
        await _fill_the_rest(session, marker)
        for repository in await _own_repositories(session):
            for number in range(2):
                await create_own(session, repository, marker=f"{marker} {number}")
        return await read_filled(session, marker)


async def read_filled(session: ProjectSession, marker: str) -> Filled:
    """Return the session's project as a filled one. AssertionError names a table without rows."""
    rows: dict[str, list[Any]] = {}
    for name, model in models_by_table().items():
        scope = model.id if name == "projects" else model.project_id  # type: ignore[attr-defined]  # on every table class
        query = sa.select(model).where(scope == session.project_id).order_by(model.id)  # type: ignore[attr-defined]
        rows[name] = list((await session.sql.execute(query)).scalars())
        if not rows[name]:
            raise AssertionError(f"{name} has no row of a filled project: teach derwin_db.testing.filling about it")
    for repository in await _own_repositories(session):
        rows[repository.name] = [row async for row in repository.stream(session)]
    session.sql.expunge_all()
    return Filled(session.project_id, rows["projects"][0].slug, marker, rows)


async def _own_repositories(session: ProjectSession) -> list[Repository[Any, Any, Any]]:
    """Return the repositories of the service's own tables that are there, parents first."""
    there = [one.name for one in await own_tables(session) if one.is_fenced]
    return [repositories[name] for name in there if name in repositories]


async def create_own(session: ProjectSession, repository: Repository[Any, Any, Any], *, marker: str, **given: Any) -> Any:
    """Write a row of a service's own table, its references to rows that the project has.

    Errors:
        AssertionError where one that is required has nothing to refer to.
    """
    create = repository.create_model
    for column, target in references_of(repository.table, create.model_fields):
        if column not in given:
            query = sa.select(target.c.id).where(target.c.project_id == session.project_id).order_by(target.c.id).limit(1)
            given[column] = (await session.sql.execute(query)).scalar_one_or_none()
            if given[column] is None and not repository.table.c[column].nullable:
                raise AssertionError(f"{repository.name}.{column}: {target.name} has no row to refer to")
    return await repository.create(session, example(create, marker=marker, **given))


async def _learn(session: ProjectSession, marker: str) -> None:
    """Documents in each status, the profile in two versions, two policies, a change of mode."""
    docs = [
        await repos.ingested_docs.ingest(session, example(IngestedDocCreate, marker=f"{marker} {number}"))
        for number in range(6)
    ]
    await repos.ingested_docs.mark_processed(session, docs[0].id)
    await repos.ingested_docs.mark_failed(session, docs[1].id, f"{marker} can't be parsed")
    await repos.ingested_docs.supersede(session, docs[2].id, docs[3].id)
    who = {"actor": f"{marker} actor", "reason": f"{marker} reason"}
    await repos.project_profiles.create(session, example(ProjectProfileCreate, marker=marker), **who)
    await repos.project_profiles.evolve(
        session,
        ProjectProfileUpdate(summary=f"{marker} second summary"),
        change=ProfileChange.DOC_INGESTED,
        expected_version=1,
        doc_id=docs[0].id,
        **who,
    )
    for note in ("first", "second"):
        await repos.policies.activate(session, example(PolicyCreate, marker=f"{marker} {note}"))
    await repos.projects.set_mode(session, ProjectMode.AUTHOR, **who)


async def _discover(session: ProjectSession, marker: str) -> None:
    """Runs in each status, signals in each status."""
    runs = [await repos.qa_runs.enqueue(session, example(QARunCreate, marker=marker)) for _ in range(6)]
    worker = f"{marker} worker"
    for _ in range(4):
        await repos.qa_runs.claim(session, worker)
    await repos.qa_runs.complete(session, runs[0].id, example(RunStats, marker=marker), worker=worker)
    await repos.qa_runs.fail(session, runs[1].id, f"{marker} failed", worker=worker)
    await repos.qa_runs.cancel(session, runs[2].id)
    for run in (runs[0], runs[3]):
        found = [example(RawSignalCreate, marker=f"{marker} {number}") for number in range(4)]
        await repos.raw_signals.ingest(session, run.id, found)


async def _fix(session: ProjectSession, marker: str) -> None:
    """Tickets and attempts in each status, signals attached and discarded, past fixes."""
    run = (await repos.qa_runs.list(session)).items[0]
    tickets = []
    for number in range(10):
        data = example(QATicketCreate, marker=marker, run_id=run.id, fingerprint=f"fingerprint of {marker} {number}")
        tickets.append(await repos.qa_tickets.create(session, data))
    for number in range(4):
        for to in _ROAD[: number + 1]:
            await repos.qa_tickets.transition(session, tickets[number].id, to)
    await repos.qa_tickets.transition(session, tickets[4].id, TicketStatus.REJECTED)
    await repos.qa_tickets.transition(session, tickets[5].id, TicketStatus.WONT_FIX)
    await repos.qa_tickets.mark_duplicate(session, tickets[6].id, tickets[0].id)
    await repos.qa_tickets.assign_bucket(session, tickets[0].id, Bucket.ASSISTED_FIX)
    signals = (await repos.raw_signals.list(session)).items
    await repos.raw_signals.attach(session, [signals[0].id, signals[1].id], tickets[0].id)
    await repos.raw_signals.discard(session, [signals[2].id])
    attempts = [
        await repos.qa_fix_attempts.dispatch(session, tickets[1].id, model=f"{marker} model", branch=f"{marker} branch")
        for _ in range(6)
    ]
    for attempt in attempts[1:]:
        await repos.qa_fix_attempts.start(session, attempt.id)
    outcomes = (FixOutcome.MERGED, FixOutcome.PR_OPENED, FixOutcome.TESTS_FAILED)
    for attempt, outcome in zip(attempts[2:5], outcomes, strict=True):
        await repos.qa_fix_attempts.conclude(session, attempt.id, outcome, error=f"{marker} error")
    await repos.qa_fix_attempts.cancel(session, attempts[5].id)
    refers = {"ticket_id": tickets[1].id, "fix_attempt_id": attempts[5].id}
    for number in range(3):
        await repos.rag_corpus.add(session, example(RAGCorpusCreate, marker=f"{marker} {number}", **refers))
    await repos.rag_corpus.add(session, example(RAGCorpusCreate, marker=marker, embedding=None))


async def _keep(session: ProjectSession, marker: str) -> None:
    """Evidence that is kept, held and expired; the books."""
    ticket, run = (await repos.qa_tickets.list(session)).items[-1], (await repos.qa_runs.list(session)).items[0]
    attempt = (await repos.qa_fix_attempts.list(session)).items[0]
    refers = {"run_id": run.id, "ticket_id": ticket.id, "fix_attempt_id": attempt.id}
    data = example(AuditArtifactCreate, marker=marker, **refers)
    await repos.audit_artifacts.record(session, data)
    held = await repos.audit_artifacts.record(session, data)
    await repos.audit_artifacts.hold(session, held.id)
    async with writing_history(session):
        await _add_expired(session, data)
    charge = example(SpendLedgerCreate, marker=marker, run_id=run.id, ticket_id=ticket.id, fix_attempt_id=attempt.id)
    await repos.spend_ledger.append(session, charge)
    again = {"kind": SpendKind.CREDIT, "amount_usd": -charge.amount_usd / 3, "idempotency_key": f"{marker} 2"}
    await repos.spend_ledger.append(session, charge.model_copy(update=again))


async def _add_expired(session: ProjectSession, data: AuditArtifactCreate) -> None:
    for days in (1, 2):
        expired = AuditArtifact(
            project_id=session.project_id,
            compliance_mode=ComplianceMode.GDPR,
            retention_until=MOMENT - timedelta(days=days),
            legal_hold=False,
            **data.model_dump(),
        )
        session.sql.add(expired)
    await session.sql.flush()


async def _fill_the_rest(session: ProjectSession, marker: str) -> None:
    """Write a row of every table that nothing above knows, so that a model which was added since is filled all the same."""
    for model in models_by_table().values():
        table = table_of(model)
        query = sa.select(sa.func.count()).select_from(table)
        if not (await session.sql.execute(query)).scalar():
            await session.sql.execute(sa.insert(table).values(await _values_of(session, model, marker)))


async def _values_of(session: ProjectSession, model: type[SQLModel], marker: str) -> dict[str, Any]:
    """Return what a row needs, and texts that it may do without: a state may forbid other values, and they tell nothing."""
    table = table_of(model)
    values: dict[str, Any] = {"project_id": session.project_id, "id": new_id()}
    targets = _targets(table)
    for column in table.c:
        if column.name in targets:
            target = SQLModel.metadata.tables[targets[column.name]]
            values[column.name] = (await session.sql.execute(sa.select(target.c.id).limit(1))).scalar()
        elif column.name not in values and column.server_default is None:
            is_text = isinstance(column.type, sa.String)
            if is_text or not column.nullable:
                values[column.name] = value_of(column.name, model.model_fields[column.name].annotation, marker)
    return values


def _targets(table: sa.Table) -> dict[str, str]:
    """Return the columns that name a row of another table, and that table, by the composite foreign keys."""
    found: dict[str, str] = defaultdict(str)
    for key in table.foreign_key_constraints:
        for element in key.elements:
            if element.column.name == "id" and key.referred_table.name != "projects":
                found[element.parent.name] = str(key.referred_table)
    return dict(found)


__all__ = ["Filled", "create_filled", "fill", "models_by_table", "read_filled"]
