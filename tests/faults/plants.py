"""One planted bug for each invariant: the kind of slip that a change makes. Each is taken out again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import cache
from importlib import import_module
from typing import Any

import pytest
import sqlalchemy as sa

from derwin_db.connection.pool import Pool
from derwin_db.models import Project, QARun, TicketStatus
from derwin_db.models.classification_trust import WINDOW_DAYS, ClassificationTrust
from derwin_db.models.qa_run import RunStatus
from derwin_db.query.builders import param, scope_of, scoped, scoped_update
from derwin_db.query.statement import entities, scalars
from derwin_db.repos.base import WritableRepository
from derwin_db.repos.rules import trust
from derwin_db.session import UnitOfWork
from derwin_db.unit.backend import give_back
from derwin_db.unit.resumable import Resumable
from derwin_db.unit.transaction import State
from tests.faults.invariants import World

artifacts, projects, runs, tickets, ledger = [
    import_module(f"derwin_db.repos.{name}")
    for name in ("audit_artifacts", "projects", "qa_runs", "qa_tickets", "spend_ledger")
]

Plant = Callable[[World, pytest.MonkeyPatch], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def an_ambient_project(world: World, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """After a while, one project is taken for all units."""
    asked = []

    def parse_project(project: Any) -> Any:
        asked.append(project)
        return project if len(asked) <= 2 else world.other

    patch.setattr("derwin_db.database.parse_project", parse_project)
    yield


@asynccontextmanager
async def a_sum_of_floats(_: World, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Money is added up as double precision."""

    def total(shape: tuple[str, ...]) -> Any:
        amounts = sa.func.sum(sa.cast(ledger._LEDGER.c.amount_usd, sa.Double))
        return scalars("spend_ledger.total", scoped(ledger.SpendLedger, amounts).where(*ledger._within(shape)))

    patch.setattr(ledger, "_total_statement", cache(total))
    yield


@asynccontextmanager
async def a_key_that_is_not_compared(_: World, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Whatever has the key is taken for the same entry."""
    patch.setattr(ledger, "_same", lambda stored, _: stored)
    yield


@asynccontextmanager
async def a_cap_without_a_lock(_: World, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """What was spent is read, and the project's row is not locked before."""
    statement = scalars("spend_ledger.append", scoped(Project, ledger._PROJECTS.c.id))
    patch.setattr(ledger, "_lock_project_statement", lambda: statement)
    yield


@asynccontextmanager
async def a_grant_too_many(world: World, _: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A migration grants UPDATE on the ledger, and drops its triggers."""
    table = "public.spend_ledger"
    await world.as_owner(f"GRANT UPDATE ON {table} TO derwin_app")
    await world.as_owner(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    try:
        yield
    finally:
        await world.as_owner(f"REVOKE UPDATE ON {table} FROM derwin_app")
        for trigger in ("row", "statement", "truncate"):
            await world.as_owner(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER derwin_append_only_{trigger}")


@asynccontextmanager
async def a_claim_without_a_lock(world: World, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The oldest run is chosen without FOR UPDATE SKIP LOCKED, and a migration drops the check of its status."""
    await world.as_owner("ALTER TABLE public.qa_runs DISABLE TRIGGER derwin_check_status")
    oldest = (
        scoped(QARun, runs._RUNS.c.id).where(runs._RUNS.c.status == RunStatus.QUEUED).order_by(runs._RUNS.c.created_at).limit(1)
    )
    query = (
        scoped_update(QARun)
        .where(runs._RUNS.c.id == oldest.correlate(None).scalar_subquery(), scope_of(runs._PROJECTS))
        .values(
            status=RunStatus.RUNNING,
            claimed_by=param("worker", runs._RUNS.c.claimed_by),
            started_at=sa.func.now(),
            heartbeat_at=sa.func.now(),
        )
    )
    statement = entities("qa_runs.claim", query.returning(*runs._RUNS.c), QARun)
    patch.setattr(runs, "_claim_statement", lambda *, is_limited: statement)
    try:
        yield
    finally:
        await world.as_owner("ALTER TABLE public.qa_runs ENABLE ALWAYS TRIGGER derwin_check_status")


@contextmanager
def resolved_from(patch: pytest.MonkeyPatch, *sources: TicketStatus) -> Iterator[None]:
    """The repository takes these for the statuses from which a ticket is resolved."""
    patch.setattr(tickets, "TRANSITIONS", {**tickets.TRANSITIONS, TicketStatus.RESOLVED: sources})
    tickets._transition_statement.cache_clear()
    try:
        yield
    finally:
        tickets._transition_statement.cache_clear()


@asynccontextmanager
async def an_edge_too_few(_: World, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A ticket whose fix is proposed can't be resolved."""
    present = tickets.TRANSITIONS[TicketStatus.RESOLVED]
    with resolved_from(patch, *(one for one in present if one != TicketStatus.FIX_PROPOSED)):
        yield


@asynccontextmanager
async def an_edge_too_many(world: World, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """An open ticket can be resolved, and the trigger that would refuse it is gone."""
    trigger = "TRIGGER derwin_check_status"
    await world.as_owner(f"ALTER TABLE public.qa_tickets DISABLE {trigger}")
    try:
        with resolved_from(patch, *tickets.TRANSITIONS[TicketStatus.RESOLVED], TicketStatus.OPEN):
            yield
    finally:
        await world.as_owner(f"ALTER TABLE public.qa_tickets ENABLE ALWAYS {trigger}")


@asynccontextmanager
async def a_version_that_is_not_compared(_: World, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The expected version is checked, and left out of the statement."""
    build = WritableRepository._update_statement
    patch.setattr(
        WritableRepository, "_update_statement", lambda self, fields, *, guarded: build(self, fields, guarded=guarded and False)
    )
    yield


@asynccontextmanager
async def a_score_without_a_lock(_: World, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The evidence is counted before the score's row is locked."""

    original = trust.bring_up_to_date
    present = scalars("classification_trust.names", scoped(ClassificationTrust, trust._TRUST.c.classification))

    async def bring_up_to_date(session: Any, classifications: Any) -> int:
        names = sorted(set(classifications))
        if not set(names) <= set(await session.fetch(present, {})):
            return await original(session, names)
        return await session.execute(trust._compute_statement(), {"names": names, "days": WINDOW_DAYS})

    patch.setattr(trust, "bring_up_to_date", bring_up_to_date)
    yield


@asynccontextmanager
async def a_mode_without_a_lock(_: World, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The present mode is read without locking the project's row, and logged as the former one."""
    statement = entities("projects.set_mode", scoped(Project), Project)
    patch.setattr(projects, "_lock_statement", lambda: statement)
    yield


@asynccontextmanager
async def a_clean_up_that_commits(_: World, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The clean-up of a failed unit ends its transaction the wrong way."""

    def rollback(self: UnitOfWork, pool: Pool, connection: Any) -> Any:
        return give_back(pool, connection, self._backend.cleanup_timeout, sql="COMMIT")

    patch.setattr(UnitOfWork, "_rollback", rollback)
    yield


@asynccontextmanager
async def a_commit_that_is_cancelled(_: World, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A cancellation reaches the driver while COMMIT is on its way, and its answer is thrown away."""

    async def run(self: Resumable[Any]) -> Any:
        return await self._work

    patch.setattr(Resumable, "run", run)
    yield


@asynccontextmanager
async def a_hold_that_is_forgotten(world: World, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The sweep does not look at the hold, and the trigger that would stop it is gone."""
    patch.setattr(artifacts, "_may_go", lambda table=artifacts._ARTIFACTS: table.c.retention_until <= sa.func.now())
    statements = [statement for statement in vars(artifacts).values() if hasattr(statement, "cache_clear")]
    for statement in statements:
        statement.cache_clear()
    await world.as_owner("ALTER TABLE public.audit_artifacts DISABLE TRIGGER derwin_keep_evidence_row")
    try:
        yield
    finally:
        await world.as_owner("ALTER TABLE public.audit_artifacts ENABLE ALWAYS TRIGGER derwin_keep_evidence_row")
        for statement in statements:
            statement.cache_clear()


@asynccontextmanager
async def a_table_without_its_key(world: World, _: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A migration forgets the foreign key to the project."""
    name, table = "fk_rag_corpus_project_id", "public.rag_corpus"
    await world.as_owner(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    try:
        yield
    finally:
        await world.as_owner(
            f"DELETE FROM {table} r WHERE NOT EXISTS (SELECT FROM public.projects p WHERE p.id = r.project_id)"
        )
        key = "FOREIGN KEY (project_id) REFERENCES public.projects (id) ON DELETE CASCADE"
        await world.as_owner(f"ALTER TABLE {table} ADD CONSTRAINT {name} {key}")


@asynccontextmanager
async def a_connection_that_is_kept(world: World, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A unit that fails does not give its connection back."""
    kept = []

    async def abandon(self: UnitOfWork, **_: Any) -> None:
        self._state = State.ENDED
        kept.append(self._let_go())

    patch.setattr(UnitOfWork, "_abandon", abandon)
    try:
        yield
    finally:
        for pool, connection in kept:
            if pool is not None:
                pool.drop(connection)
        await asyncio.sleep(0)
    assert world.db.connections_in_use() == 0
