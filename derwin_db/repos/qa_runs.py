"""qa_runs: the queue of discovery passes, and what became of them."""

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Unpack
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field, TypeAdapter

from derwin_db.errors import Conflict, IllegalTransition, InvalidInput, NotFound, ProjectNotFound, RetentionLocked
from derwin_db.fields.scalars import Count, LongText, ShortText, Timestamp, new_id
from derwin_db.filters import Filter
from derwin_db.models.audit_artifact import AuditArtifact
from derwin_db.models.enums import ProjectMode
from derwin_db.models.project import Project
from derwin_db.models.qa_run import TRANSITIONS, QARun, QARunCreate, RunStats, RunStatus, RunTrigger
from derwin_db.models.qa_ticket import QATicket
from derwin_db.models.raw_signal import RawSignal, SignalStatus
from derwin_db.paging import Page
from derwin_db.query.builders import (
    ago,
    insert_of_project,
    one_of,
    param,
    scope_of,
    scoped,
    scoped_delete,
    scoped_update,
    table_of,
)
from derwin_db.query.statement import Statement, command, entities, scalars, tuples
from derwin_db.repos.base import TimeFilters, WritableRepository
from derwin_db.repos.validation import check_id, check_window, checked
from derwin_db.session import ProjectSession, project_session

_RUNS = table_of(QARun)
_PROJECTS = table_of(Project)
_SIGNALS = table_of(RawSignal)
_TICKETS = table_of(QATicket)
_ARTIFACTS = table_of(AuditArtifact)
_ID = param("id", _RUNS.c.id)

_SHORT: TypeAdapter[str] = TypeAdapter(ShortText)
_LONG: TypeAdapter[str] = TypeAdapter(LongText)
_STATS: TypeAdapter[RunStats] = TypeAdapter(RunStats)
_LIMIT: TypeAdapter[int] = TypeAdapter(Annotated[Count, Field(ge=1)])

_UNCLAIMED = {"claimed_by": None, "heartbeat_at": None, "started_at": None}


class QARunFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    trigger: Filter[RunTrigger]
    status: Filter[RunStatus]
    mode: Filter[ProjectMode]
    started_since: Timestamp | None
    started_until: Timestamp | None
    finished_since: Timestamp | None
    finished_until: Timestamp | None


QARunOrder = Literal["-created_at", "created_at"]
"""Orders of `list`: `-` says that the greatest comes first."""


class QARuns(WritableRepository[QARun]):
    """The queue: QUEUED -> RUNNING -> COMPLETED | FAILED, CANCELLED from either of the first two.

    RUNNING -> QUEUED where it stalls, or its worker gives it back. Workers over all projects: `Database.worker`.
    """

    model = QARun
    create_model: ClassVar[type[QARunCreate]] = QARunCreate
    filters = QARunFilters
    orders = QARunOrder

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: QARunOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[QARunFilters],
    ) -> Page[QARun]:
        """Return a page of runs.

        Order:
            Newest first.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page(session, limit, cursor, filters, order=order, with_total=with_total)

    def stream(self, session: ProjectSession, **filters: Unpack[QARunFilters]) -> AsyncIterator[QARun]:
        """Iterate over all runs.

        Order:
            Newest first.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[QARunFilters]) -> int:
        """Count runs.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        return await self._count(session, filters)

    async def enqueue(self, session: ProjectSession, data: QARunCreate) -> QARun:
        """Put a run in the queue, in the project's present mode.

        Cost:
            One statement.
        """
        rows = await project_session(session).fetch(_enqueue_statement(), {**self._create_values(data), "id": new_id()})
        if not rows:
            raise ProjectNotFound
        return rows[0]

    async def claim(self, session: ProjectSession, worker: str, *, at_most: int | None = None) -> QARun | None:
        """Take the oldest queued run, in the project's present mode, or return None. A run has one owner.

        With `at_most`, None too where so many runs of the project are running already, or where another is about to claim one:
        all who give the same number share one limit.

        Locks:
            The run's row; runs that others are claiming are skipped. With `at_most` the project's row first, if it is
            free.

        Cost:
            One statement, through the status index; with `at_most` two.
        """
        session, values = project_session(session), {"worker": checked(_SHORT, worker, "worker")}
        if at_most is not None:
            values["at_most"] = checked(_LIMIT, at_most, "at_most")
            if not await session.fetch(_turn_statement(), {}):
                return None
        rows = await session.fetch(_claim_statement(is_limited=at_most is not None), values)
        return rows[0] if rows else None

    async def heartbeat(self, session: ProjectSession, id: UUID, *, worker: str) -> QARun:
        """Say that the worker is alive.

        Errors:
            NotFound, Conflict for another's claim, IllegalTransition.

        Cost:
            One statement.
        """
        return await self._of_worker(session, "heartbeat", id, worker, {})

    async def complete(self, session: ProjectSession, id: UUID, stats: RunStats, *, worker: str) -> QARun:
        """End the run as COMPLETED.

        Errors:
            InvalidInput, NotFound, Conflict for another's claim, IllegalTransition.

        Cost:
            One statement.
        """
        if not isinstance(stats, RunStats):
            raise InvalidInput("stats: a RunStats is wanted here.")
        stats = checked(_STATS, dict(stats.__dict__), "stats")  # it may have been changed since it was made
        return await self._of_worker(session, "complete", id, worker, {"stats": stats})

    async def fail(self, session: ProjectSession, id: UUID, error: str, *, worker: str) -> QARun:
        """End the run as FAILED, with an error.

        Errors:
            NotFound, Conflict for another's claim, IllegalTransition.

        Cost:
            One statement.
        """
        return await self._of_worker(session, "fail", id, worker, {"error": checked(_LONG, error, "error")})

    async def give_back(self, session: ProjectSession, id: UUID, *, worker: str) -> QARun:
        """Put the run back into the queue, in its old place: its worker ends before the run does.

        Errors:
            NotFound, Conflict for another's claim, IllegalTransition.

        Cost:
            One statement.
        """
        return await self._of_worker(session, "give_back", id, worker, {})

    async def cancel(self, session: ProjectSession, id: UUID) -> QARun:
        """End a run that is queued or running.

        Errors:
            NotFound, IllegalTransition.

        Cost:
            One statement.
        """
        rows = await project_session(session).fetch(_cancel_statement(), {"id": check_id(id)})
        if rows:
            return rows[0]
        await self.get(session, id)
        raise IllegalTransition("The run has ended already.")

    async def requeue_stalled(self, session: ProjectSession, *, older_than: timedelta) -> int:
        """Put running runs whose last heartbeat is older than this back into the queue. Returns how many.

        Cost:
            One statement.
        """
        least = check_window(older_than, "older_than")
        return await project_session(session).execute(_requeue_statement(), {"older_than": least})

    async def statistics(self, session: ProjectSession, id: UUID) -> RunStats:
        """Count what is stored of the run: signals (and those marked DUPLICATE), by route, and its tickets.

        Errors:
            NotFound.

        Cost:
            One statement, through the indexes on run_id.
        """
        rows = await project_session(session).fetch(_statistics_statement(), {"id": check_id(id)})
        if not rows:
            raise NotFound
        tickets = rows[0][3]
        by_route = {route: signals for route, signals, _, _ in rows if route is not None}
        return RunStats(
            signals=sum(by_route.values()), duplicates=sum(row[2] for row in rows), tickets=tickets, by_route=by_route
        )

    async def delete(self, session: ProjectSession, id: UUID) -> None:
        """Delete the run and its signals; its tickets stay, without a run.

        Errors:
            NotFound; RetentionLocked while evidence of it is kept.

        Locks:
            The run's row, before evidence is searched for, so that none is recorded in between.

        Cost:
            Two statements.
        """
        session, row_id = project_session(session), check_id(id)
        if not await session.fetch(_lock_statement(), {"id": row_id}):
            raise NotFound
        if not await session.execute(_delete_statement(), {"id": row_id}):
            raise RetentionLocked

    async def _of_worker(self, session: ProjectSession, verb: str, id: UUID, worker: str, values: dict[str, Any]) -> QARun:
        session = project_session(session)
        owner = checked(_SHORT, worker, "worker")
        rows = await session.fetch(_of_worker_statement(verb), {"id": check_id(id), "worker": owner, **values})
        if rows:
            return rows[0]
        row = await self.get(session, id)
        if row.status is RunStatus.RUNNING:
            raise Conflict("Another worker has claimed this run.")
        raise IllegalTransition("The run is not running.")


@cache
def _enqueue_statement() -> Statement[QARun]:
    names = tuple(QARunCreate.model_fields)
    values = {"id": param("id", _RUNS.c.id), "mode": _PROJECTS.c.mode, **{name: param(name, _RUNS.c[name]) for name in names}}
    return entities("qa_runs.enqueue", insert_of_project(QARun, values).returning(*_RUNS.c), QARun)


@cache
def _turn_statement() -> Statement[UUID]:
    """Lock the project's row, for one claim at a time. Who has it keeps nobody waiting."""
    query = scoped(Project, _PROJECTS.c.id).with_for_update(key_share=True, skip_locked=True)
    return scalars("qa_runs.claim", query)


@cache
def _claim_statement(*, is_limited: bool) -> Statement[QARun]:
    oldest = (
        scoped(QARun, _RUNS.c.id)
        .where(_RUNS.c.status == RunStatus.QUEUED)
        .order_by(_RUNS.c.created_at, _RUNS.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .correlate(None)
        .scalar_subquery()
    )
    conditions = [_RUNS.c.id == oldest, scope_of(_PROJECTS)]
    if is_limited:
        running = scoped(QARun, sa.func.count()).where(_RUNS.c.status == RunStatus.RUNNING).correlate(None).scalar_subquery()
        conditions.append(running < sa.bindparam("at_most", type_=sa.Integer()))
    query = (
        scoped_update(QARun)
        .where(*conditions)
        .values(
            status=RunStatus.RUNNING,
            mode=_PROJECTS.c.mode,
            claimed_by=param("worker", _RUNS.c.claimed_by),
            started_at=sa.func.now(),
            heartbeat_at=sa.func.now(),
        )
    )
    return entities("qa_runs.claim", query.returning(*_RUNS.c), QARun)


@cache
def _of_worker_statement(verb: str) -> Statement[QARun]:
    ends: dict[str, dict[str, Any]] = {
        "heartbeat": {"heartbeat_at": sa.func.now()},
        "complete": {
            "status": RunStatus.COMPLETED,
            "finished_at": sa.func.now(),
            "stats": sa.bindparam("stats", type_=_RUNS.c.stats.type),
        },
        "give_back": {"status": RunStatus.QUEUED, **_UNCLAIMED},
        "fail": {"status": RunStatus.FAILED, "finished_at": sa.func.now(), "error": param("error", _RUNS.c.error)},
    }
    is_owned = sa.and_(_RUNS.c.status == RunStatus.RUNNING, _RUNS.c.claimed_by == param("worker", _RUNS.c.claimed_by))
    query = scoped_update(QARun).where(_RUNS.c.id == _ID, is_owned).values(ends[verb])
    return entities(f"qa_runs.{verb}", query.returning(*_RUNS.c), QARun)


@cache
def _cancel_statement() -> Statement[QARun]:
    is_open = one_of(_RUNS.c.status, TRANSITIONS[RunStatus.CANCELLED])
    query = scoped_update(QARun).where(_RUNS.c.id == _ID, is_open)
    query = query.values(status=RunStatus.CANCELLED, finished_at=sa.func.now())
    return entities("qa_runs.cancel", query.returning(*_RUNS.c), QARun)


@cache
def _requeue_statement() -> Statement[None]:
    is_stalled = _RUNS.c.heartbeat_at < ago(sa.bindparam("older_than", type_=sa.Interval()))
    query = scoped_update(QARun).where(_RUNS.c.status == RunStatus.RUNNING, is_stalled)
    query = query.values(status=RunStatus.QUEUED, **_UNCLAIMED)
    return command("qa_runs.requeue_stalled", query)


@cache
def _statistics_statement() -> Statement[tuple[Any, ...]]:
    tickets = scoped(QATicket, sa.func.count()).where(_TICKETS.c.run_id == _ID).scalar_subquery()
    duplicates = sa.func.count(_SIGNALS.c.id).filter(_SIGNALS.c.status == SignalStatus.DUPLICATE)
    query = (
        sa.select(_SIGNALS.c.route, sa.func.count(_SIGNALS.c.id), duplicates, tickets)
        .select_from(
            _RUNS.outerjoin(_SIGNALS, sa.and_(scope_of(_SIGNALS), _SIGNALS.c.run_id == _RUNS.c.id)),
        )
        .where(scope_of(_RUNS), _RUNS.c.id == _ID)
        .group_by(_SIGNALS.c.route)
    )
    return tuples("qa_runs.statistics", query)


@cache
def _lock_statement() -> Statement[UUID]:
    return scalars("qa_runs.delete", scoped(QARun, _RUNS.c.id).where(_RUNS.c.id == _ID).with_for_update())


@cache
def _delete_statement() -> Statement[None]:
    """Delete the run once its tickets name it no longer, unless there is evidence of it."""
    is_evident = sa.exists(scoped(AuditArtifact, sa.literal(1)).where(_ARTIFACTS.c.run_id == _ID).correlate(None))
    cleared = scoped_update(QATicket).where(_TICKETS.c.run_id == _ID, ~is_evident).values(run_id=None).cte("cleared")
    return command("qa_runs.delete", scoped_delete(QARun).where(_RUNS.c.id == _ID, ~is_evident).add_cte(cleared))
