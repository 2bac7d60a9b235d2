"""raw_signals: what discovery emits, in bulk, deduplicated, until triage takes it."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import Any, ClassVar, Literal, Unpack, cast, overload
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from derwin_db.errors import InvalidReference, NotFound
from derwin_db.fields.scalars import Fingerprint, Id, Score, Timestamp, new_id
from derwin_db.filters import Filter, OptionalFilter
from derwin_db.models.batch import BatchReport
from derwin_db.models.enums import DiscoveryRoute, Severity
from derwin_db.models.qa_run import QARun
from derwin_db.models.qa_ticket import QATicket
from derwin_db.models.raw_signal import IngestResult, RawSignal, RawSignalBrief, RawSignalCreate, SignalStatus
from derwin_db.paging import Page, check_limit
from derwin_db.query.builders import (
    array_param,
    columnwise,
    newest_of_each,
    param,
    scope_of,
    scoped,
    scoped_update,
    table_of,
    unnested,
)
from derwin_db.query.statement import Statement, command, entities, scalars
from derwin_db.repos.base import TimeFilters, WritableRepository
from derwin_db.repos.bulk import Write
from derwin_db.repos.validation import (
    check_id,
    check_ids,
    check_inputs,
    check_limit_each,
    check_on_error,
    iterated,
    naming_rows,
)
from derwin_db.session import ProjectSession, project_session

_SIGNALS = table_of(RawSignal)
_RUNS = table_of(QARun)
_TICKETS = table_of(QATicket)
_NAMES = tuple(RawSignalCreate.model_fields)
_BATCH = 5000
_ONCE = 20_000


class RawSignalFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    run_id: Filter[Id]
    ticket_id: OptionalFilter[Id]
    route: Filter[DiscoveryRoute]
    severity_hint: OptionalFilter[Severity]
    status: Filter[SignalStatus]
    fingerprint: Filter[Fingerprint]
    min_confidence: Score | None
    max_confidence: Score | None
    observed_since: Timestamp | None
    observed_until: Timestamp | None
    fingerprint_prefix: Fingerprint | None


RawSignalOrder = Literal["-created_at", "created_at", "confidence", "-confidence", "observed_at", "-observed_at"]
"""Orders of `list`: `-` says that the greatest comes first."""


class RawSignals(WritableRepository[RawSignal]):
    """The findings of runs. A run has each fingerprint once."""

    model = RawSignal
    create_model: ClassVar[type[RawSignalCreate]] = RawSignalCreate
    filters = RawSignalFilters
    orders = RawSignalOrder

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: RawSignalOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[RawSignalFilters],
    ) -> Page[RawSignal]:
        """Return a page of signals.

        Order:
            Newest first. `confidence` and `observed_at` have no index: the signals that the filters select are sorted, so say
            which run.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page(session, limit, cursor, filters, order=order, with_total=with_total)

    async def list_brief(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: RawSignalOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[RawSignalFilters],
    ) -> Page[RawSignalBrief]:
        """Return a page of signals without their payloads: large values are not read at all.

        Order:
            As `list`, whose cursors it takes.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page_of(RawSignalBrief, session, limit, cursor, filters, order=order, with_total=with_total)

    def stream(self, session: ProjectSession, **filters: Unpack[RawSignalFilters]) -> AsyncIterator[RawSignal]:
        """Iterate over all signals.

        Order:
            Newest first.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[RawSignalFilters]) -> int:
        """Count signals.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        return await self._count(session, filters)

    async def of_tickets(
        self, session: ProjectSession, ticket_ids: Iterable[UUID], *, limit_each: int = 20
    ) -> dict[UUID, Sequence[RawSignal]]:
        """Return the newest signals of each of up to 1,000 tickets, by the ticket's id; an empty list where there are none.

        Order:
            Newest first.

        Errors:
            InvalidInput, TooLarge above 1,000.

        Cost:
            One statement, a probe of the index on `ticket_id` for each ticket.
        """
        session, wanted = project_session(session), check_ids(ticket_ids, "ticket_ids")
        found: dict[UUID, Sequence[RawSignal]] = {id: [] for id in wanted}
        values = {"ids": wanted, "limit_each": check_limit_each(limit_each)}
        rows = await session.fetch(_of_tickets_statement(), values) if wanted else []
        for ticket_id, group in groupby(rows, attrgetter("ticket_id")):
            found[ticket_id] = list(group)
        return found

    @overload
    async def ingest(
        self,
        session: ProjectSession,
        run_id: UUID,
        signals: Iterable[RawSignalCreate],
        *,
        on_error: Literal["raise"] = "raise",
    ) -> IngestResult: ...
    @overload
    async def ingest(
        self,
        session: ProjectSession,
        run_id: UUID,
        signals: Iterable[RawSignalCreate | Mapping[str, Any]],
        *,
        on_error: Literal["report"],
    ) -> BatchReport: ...
    async def ingest(
        self,
        session: ProjectSession,
        run_id: UUID,
        signals: Iterable[RawSignalCreate | Mapping[str, Any]],
        *,
        on_error: Literal["raise", "report"] = "raise",
    ) -> IngestResult | BatchReport:
        """Write the signals that the run does not have yet, by their fingerprint, and say how many were new.

        `on_error="report"` writes those that can be written, takes plain mappings too, and says of each other one which rule it
        breaks.

        Shape:
            A list of up to 20,000 is one statement; more, and any other iterable, are written 5,000 at a time, so that a
            generator of any length takes constant memory.

        Errors:
            NotFound for an unknown run.

        Locks:
            Rows are written in the order of their fingerprints, so that two writers of one list never deadlock.

        Cost:
            With a report, a savepoint for each statement.
        """
        is_reported = check_on_error(on_error)
        session, run = project_session(session), check_id(run_id, "run_id")
        size = _ONCE if isinstance(signals, Sequence) and len(signals) <= _ONCE else _BATCH

        async def write(session: ProjectSession, batch: Sequence[RawSignalCreate]) -> int:
            values = columnwise(batch, _NAMES)
            values.update(run_id=run, id=[new_id() for _ in batch])
            return await session.execute(_ingest_statement(), values)

        result: IngestResult | BatchReport
        if is_reported:
            in_order = _fingerprint_of if isinstance(signals, Sequence) else None
            result = await self._insert_reporting(
                session, signals, field="signals", verb="ingest", write=write, batch_size=size, in_order=in_order
            )
        else:
            result = await self._ingest_all(session, cast("Iterable[RawSignalCreate]", signals), size, write)
        if result.inserted == 0 and not await session.fetch(_run_exists_statement(), {"run_id": run}):
            raise NotFound("No such run in this project.")
        return result

    async def _ingest_all(
        self, session: ProjectSession, signals: Iterable[RawSignalCreate], size: int, write: Write
    ) -> IngestResult:
        ordered, is_whole = iterated(signals, "signals"), isinstance(signals, Sequence)
        if isinstance(signals, Sequence):
            check_inputs(signals, RawSignalCreate, "signals")
            ordered = iter(sorted(signals, key=_fingerprint_of))
        given = inserted = 0
        for batch in self._batches(ordered, size, "signals", are_checked=is_whole):
            given_rows, start = (signals, 0) if isinstance(signals, Sequence) else (batch, given)
            with naming_rows(given_rows, "signals", start):
                inserted += await write(session, batch)
            given += len(batch)
        return IngestResult(inserted, given - inserted)

    async def pending(self, session: ProjectSession, run_id: UUID, *, limit: int = 500) -> Sequence[RawSignal]:
        """Return signals of the run that triage has not seen.

        Order:
            Oldest first.

        Cost:
            One statement, through the index on (run_id, status).
        """
        values = {"run_id": check_id(run_id, "run_id"), "limit": check_limit(limit)}
        return await project_session(session).fetch(_pending_statement(), values)

    async def attach(self, session: ProjectSession, ids: Iterable[UUID], ticket_id: UUID) -> int:
        """Make the signals part of a ticket: TRIAGED. All or none. Returns how many.

        Errors:
            NotFound if one of them is unknown; InvalidReference for an unknown ticket; TooLarge above 1,000.

        Locks:
            The signals, in the order of their ids.

        Cost:
            One statement.
        """
        ticket = check_id(ticket_id, "ticket_id")
        attached = await self._triage(session, _attach_statement(), ids, {"ticket_id": ticket})
        if attached is None:
            if not await session.fetch(_ticket_exists_statement(), {"ticket_id": ticket}):
                raise InvalidReference("ticket_id: no such ticket in this project.")
            raise NotFound
        return attached

    async def discard(self, session: ProjectSession, ids: Iterable[UUID]) -> int:
        """Put the signals aside: DISCARDED. All or none. Returns how many.

        Errors:
            NotFound if one of them is unknown; TooLarge above 1,000.

        Locks:
            As `attach`.

        Cost:
            As `attach`.
        """
        discarded = await self._triage(session, _discard_statement(), ids, {})
        if discarded is None:
            raise NotFound
        return discarded

    async def delete(self, session: ProjectSession, id: UUID) -> None:
        """Delete the signal.

        Errors:
            NotFound.

        Cost:
            One statement.
        """
        await self._delete(session, id)

    async def _triage(
        self, session: ProjectSession, statement: Statement[None], ids: Iterable[UUID], values: dict[str, Any]
    ) -> int | None:
        """Change all of them in one statement, or none: None says that one was missing."""
        session = project_session(session)
        wanted = check_ids(ids)
        if not wanted:
            return 0
        changed = await session.execute(statement, {"ids": wanted, "wanted": len(wanted), **values})
        return changed or None


def _fingerprint_of(signal: RawSignalCreate) -> str:
    return signal.fingerprint


@cache
def _ingest_statement() -> Statement[None]:
    """The run is locked once, as each of its signals would: if it is going, nothing is written, and it is not found."""
    given = unnested(_SIGNALS, ("id", *_NAMES))
    source = (
        sa.select(_RUNS.c.project_id, _RUNS.c.id, given.c.id, *(given.c[name] for name in _NAMES))
        .select_from(_RUNS.join(given, sa.true()))
        .where(scope_of(_RUNS), _RUNS.c.id == param("run_id", _RUNS.c.id))
        .order_by(given.c.fingerprint.collate("C"))
        .with_for_update(read=True, key_share=True, of=_RUNS)
    )
    query = insert(_SIGNALS).from_select(["project_id", "run_id", "id", *_NAMES], source)
    query = query.on_conflict_do_nothing(index_elements=["project_id", "run_id", "fingerprint"])
    return command("raw_signals.ingest", query)


@cache
def _of_tickets_statement() -> Statement[RawSignal]:
    query = newest_of_each(RawSignal, _SIGNALS.c.ticket_id, _SIGNALS.c.created_at.desc(), _SIGNALS.c.id.desc())
    return entities("raw_signals.of_tickets", query, RawSignal)


@cache
def _run_exists_statement() -> Statement[int]:
    return scalars("raw_signals.ingest", scoped(QARun, sa.literal(1)).where(_RUNS.c.id == param("run_id", _RUNS.c.id)))


@cache
def _ticket_exists_statement() -> Statement[int]:
    query = scoped(QATicket, sa.literal(1)).where(_TICKETS.c.id == param("ticket_id", _TICKETS.c.id))
    return scalars("raw_signals.attach", query)


@cache
def _pending_statement() -> Statement[RawSignal]:
    is_pending = sa.and_(_SIGNALS.c.run_id == param("run_id", _SIGNALS.c.run_id), _SIGNALS.c.status == SignalStatus.NEW)
    query = scoped(RawSignal).where(is_pending).order_by(_SIGNALS.c.created_at, _SIGNALS.c.id)
    return entities("raw_signals.pending", query.limit(sa.bindparam("limit", type_=sa.Integer())), RawSignal)


def _triaged() -> sa.Update:
    """Update the signals if all are there. They are locked first: one that goes meanwhile is missing then, not passed by."""
    wanted = _SIGNALS.c.id == sa.any_(array_param("ids", _SIGNALS.c.id))
    locked = (
        scoped(RawSignal, _SIGNALS.c.id).where(wanted).order_by(_SIGNALS.c.id).with_for_update(key_share=True).cte("locked")
    )
    found = sa.select(sa.func.count()).select_from(locked).scalar_subquery()
    are_there = found == sa.bindparam("wanted", type_=sa.BigInteger())
    return scoped_update(RawSignal).where(_SIGNALS.c.id == sa.any_(array_param("ids", _SIGNALS.c.id)), are_there)


@cache
def _attach_statement() -> Statement[None]:
    ticket = param("ticket_id", _SIGNALS.c.ticket_id)
    is_there = sa.exists(scoped(QATicket, sa.literal(1)).where(_TICKETS.c.id == ticket).correlate(None))
    return command("raw_signals.attach", _triaged().where(is_there).values(ticket_id=ticket, status=SignalStatus.TRIAGED))


@cache
def _discard_statement() -> Statement[None]:
    return command("raw_signals.discard", _triaged().values(ticket_id=None, status=SignalStatus.DISCARDED))
