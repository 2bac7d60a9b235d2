"""qa_tickets: bug tickets, their state machine, and the search among them by words."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Literal, Unpack, cast, overload
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter

from derwin_db.errors import Conflict, IllegalTransition, InvalidReference, NotFound, RetentionLocked, StaleWrite
from derwin_db.fields.scalars import Classification, Fingerprint, Id, Score, SearchText, Timestamp
from derwin_db.filters import Filter, OptionalFilter
from derwin_db.models.audit_artifact import AuditArtifact
from derwin_db.models.batch import BatchReport
from derwin_db.models.enums import Bucket, Severity
from derwin_db.models.qa_fix_attempt import QAFixAttempt
from derwin_db.models.qa_ticket import (
    OPEN_STATUSES,
    TRANSITIONS,
    QATicket,
    QATicketBrief,
    QATicketCreate,
    QATicketUpdate,
    TicketStatus,
)
from derwin_db.models.raw_signal import RawSignal
from derwin_db.paging import Page, check_limit, decode_cursor, encode_cursor, query_digest
from derwin_db.query.builders import array_param, one_of, param, scope_of, scoped, scoped_delete, scoped_update, table_of
from derwin_db.query.derived import searchable
from derwin_db.query.statement import Statement, command, entities, hydrator, scalars, tuples
from derwin_db.repos.base import TimeFilters, WritableRepository, query_of, shape_of, values_of
from derwin_db.repos.conditions import NEWEST_FIRST, Shape
from derwin_db.repos.rules import duplicates, trust, words
from derwin_db.repos.validation import check_id, check_on_error, check_version, checked
from derwin_db.session import ProjectSession, project_session

_TICKETS = table_of(QATicket)
_ATTEMPTS = table_of(QAFixAttempt)
_ARTIFACTS = table_of(AuditArtifact)
_SIGNALS = table_of(RawSignal)
_ID = param("id", _TICKETS.c.id)

_STATUS: TypeAdapter[TicketStatus] = TypeAdapter(TicketStatus)
_BUCKET: TypeAdapter[Bucket] = TypeAdapter(Bucket)
_FINGERPRINT: TypeAdapter[str] = TypeAdapter(Fingerprint)
_TEXT: TypeAdapter[str] = TypeAdapter(SearchText)
_SEARCHED = searchable(QATicket, "words")


class QATicketFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    run_id: OptionalFilter[Id]
    duplicate_of_id: OptionalFilter[Id]
    severity: Filter[Severity]
    classification: Filter[Classification]
    fingerprint: OptionalFilter[Fingerprint]
    status: Filter[TicketStatus]
    initial_bucket: OptionalFilter[Bucket]
    final_bucket: OptionalFilter[Bucket]
    min_confidence: Score | None
    max_confidence: Score | None
    min_risk_score: Score | None
    max_risk_score: Score | None
    resolved_since: Timestamp | None
    resolved_until: Timestamp | None
    classification_prefix: Classification | None
    fingerprint_prefix: Fingerprint | None


QATicketOrder = Literal["-created_at", "created_at", "risk_score", "-risk_score", "updated_at", "-updated_at"]
"""Orders of `list`: `-` says that the greatest comes first."""


class QATickets(WritableRepository[QATicket]):
    """Tickets. The status moves by `transition` and `mark_duplicate` alone."""

    model = QATicket
    create_model: ClassVar[type[QATicketCreate]] = QATicketCreate
    update_model: ClassVar[type[QATicketUpdate]] = QATicketUpdate
    filters = QATicketFilters
    orders = QATicketOrder

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: QATicketOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[QATicketFilters],
    ) -> Page[QATicket]:
        """Return a page of tickets.

        Order:
            Newest first. `risk_score` goes through its index; `updated_at` has none, since every change would have to write it:
            the tickets that the filters select are sorted.

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
        order: QATicketOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[QATicketFilters],
    ) -> Page[QATicketBrief]:
        """Return a page of tickets without description, steps, expected and actual: large values are not read at all.

        Order:
            As `list`, whose cursors it takes.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page_of(QATicketBrief, session, limit, cursor, filters, order=order, with_total=with_total)

    def stream(self, session: ProjectSession, **filters: Unpack[QATicketFilters]) -> AsyncIterator[QATicket]:
        """Iterate over all tickets.

        Order:
            Newest first.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[QATicketFilters]) -> int:
        """Count tickets.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        return await self._count(session, filters)

    async def create(self, session: ProjectSession, data: QATicketCreate) -> QATicket:
        """Write a ticket, OPEN.

        Errors:
            InvalidReference for an unknown run.

        Cost:
            One statement.
        """
        return await self._insert(session, data)

    @overload
    async def create_many(
        self, session: ProjectSession, rows: Iterable[QATicketCreate], *, on_error: Literal["raise"] = "raise"
    ) -> int: ...
    @overload
    async def create_many(
        self, session: ProjectSession, rows: Iterable[QATicketCreate | Mapping[str, Any]], *, on_error: Literal["report"]
    ) -> BatchReport: ...
    async def create_many(
        self,
        session: ProjectSession,
        rows: Iterable[QATicketCreate | Mapping[str, Any]],
        *,
        on_error: Literal["raise", "report"] = "raise",
    ) -> int | BatchReport:
        """Write tickets, OPEN, 5,000 a statement; all or none within the unit. Returns how many.

        `on_error="report"` writes those that can be written, takes plain mappings too, and says of each other one which rule it
        breaks.

        Errors:
            InvalidReference for an unknown run among them, unless it is reported.

        Cost:
            With a report, up to three statements more for each 5,000: a look at the runs, and a savepoint.
        """
        if check_on_error(on_error):
            return await self._insert_reporting(session, rows)
        return await self._insert_many(session, cast("Iterable[QATicketCreate]", rows))

    async def update_many(self, session: ProjectSession, data: QATicketUpdate, **filters: Unpack[QATicketFilters]) -> int:
        """Change the fields that are set, in all tickets that the filters select. Returns how many.

        A new classification brings the scores of all that are concerned up to date.

        Errors:
            InvalidInput without a filter; InvalidReference.

        Locks:
            The tickets, in the order of their ids.

        Cost:
            One statement; with a new classification two, and two more where there were attempts.
        """
        if type(data) is not QATicketUpdate or "classification" not in data.model_fields_set:
            return await self._update_many(session, data, filters)
        session = project_session(session)
        fields, shape, values = self._changes(data, filters)
        changed = await session.fetch(self._reclassify_statement(fields, shape), values)
        moved = {id: before for id, before in changed if before != data.classification}
        if moved and await session.fetch(_has_attempts_statement(), {"ids": list(moved)}):
            await trust.bring_up_to_date(session, {*moved.values(), data.classification})
        return len(changed)

    def _reclassify_statement(self, fields: frozenset[str], shape: Shape) -> Statement[tuple[Any, ...]]:
        """Changes tickets and returns their ids and former classifications; locked as `update` does, against conclusions."""
        key = ("reclassify", fields, shape)
        if key not in self._statements:
            rows = self._select(_TICKETS.c.id, _TICKETS.c.classification).where(*self._conditions(shape)).with_for_update()
            query, locked = self._update_locked(fields, rows)
            self._statements[key] = tuples("qa_tickets.update_many", query.returning(_TICKETS.c.id, locked.c.classification))
        return self._statements[key]

    async def update(
        self, session: ProjectSession, id: UUID, data: QATicketUpdate, *, expected_version: int | None = None
    ) -> QATicket:
        """Change the fields that are set: a new version. A new classification brings both trust scores up to date.

        Errors:
            NotFound; StaleWrite if `expected_version` is given and is not the row's; InvalidReference.

        Cost:
            One statement; three with a new classification, and two more where there were attempts.
        """
        if type(data) is not QATicketUpdate or "classification" not in data.model_fields_set:
            return await self._update(session, id, data, expected_version=expected_version)
        if expected_version is not None:
            check_version(expected_version)
        before = await self._lock(session, id)
        row = await self._update(session, id, data, expected_version=expected_version)
        if row.classification != before.classification and await session.fetch(_has_attempt_statement(), {"id": row.id}):
            await trust.bring_up_to_date(session, (before.classification, row.classification))
        return row

    async def transition(
        self, session: ProjectSession, id: UUID, to: TicketStatus, *, expected_version: int | None = None
    ) -> QATicket:
        """Move the ticket along its state machine; RESOLVED sets `resolved_at`, reopening clears it.

        Errors:
            NotFound; IllegalTransition for any other move (DUPLICATE has `mark_duplicate`); StaleWrite.

        Cost:
            One statement.
        """
        session, row_id, status = project_session(session), check_id(id), checked(_STATUS, to, "to")
        expected = None if expected_version is None else check_version(expected_version)
        if status not in TRANSITIONS:
            raise IllegalTransition("A ticket becomes a DUPLICATE by `mark_duplicate`, which names the other one.")
        values = {"id": row_id, "expected_version": expected}
        rows = await session.fetch(_transition_statement(status, guarded=expected is not None), values)
        if rows:
            return rows[0]
        present = await self.get(session, row_id)
        if expected is not None and present.version != expected:
            raise StaleWrite
        raise IllegalTransition(f"A ticket that is {present.status} does not become {status}.")

    async def assign_bucket(self, session: ProjectSession, id: UUID, bucket: Bucket) -> QATicket:
        """Say who takes care of the ticket; the first time this is its initial bucket too.

        Errors:
            NotFound.

        Cost:
            One statement.
        """
        values = {"id": check_id(id), "bucket": checked(_BUCKET, bucket, "bucket")}
        rows = await project_session(session).fetch(_assign_bucket_statement(), values)
        if not rows:
            raise NotFound
        return rows[0]

    async def mark_duplicate(self, session: ProjectSession, id: UUID, of: UUID) -> QATicket:
        """End an open ticket as the duplicate of another one.

        Errors:
            NotFound; InvalidReference for an unknown `of`; IllegalTransition for one that is not open; Conflict where `of` is,
            through others, a duplicate of this one.

        Locks:
            This ticket and the whole chain of the other one, in the order of their ids: two that would close a circle from both
            ends meet there.

        Cost:
            Three statements.
        """
        session, row_id, other_id = project_session(session), check_id(id), check_id(of, "of")
        if row_id == other_id:
            raise Conflict("A ticket is not a duplicate of itself.")
        rows, chain = await duplicates.lock_chain(session, row_id, other_id)
        if row_id not in rows:
            raise NotFound
        if other_id not in rows:
            raise InvalidReference("of: no such ticket in this project.")
        if rows[row_id].status not in OPEN_STATUSES:
            raise IllegalTransition(f"A ticket that is {rows[row_id].status} does not become DUPLICATE.")
        if row_id in chain:
            raise Conflict("The other ticket is a duplicate of this one: duplicates form no circle.")
        return (await session.fetch(_mark_duplicate_statement(), {"id": row_id, "of": other_id}))[0]

    async def find_by_fingerprint(self, session: ProjectSession, fingerprint: str) -> QATicket | None:
        """Return the newest ticket of this fingerprint, or None.

        Cost:
            One statement, through the index on it.
        """
        values = {"fingerprint": checked(_FINGERPRINT, fingerprint, "fingerprint")}
        rows = await project_session(session).fetch(_by_fingerprint_statement(), values)
        return rows[0] if rows else None

    async def search(
        self,
        session: ProjectSession,
        text: str,
        *,
        limit: int = 50,
        cursor: str | None = None,
        **filters: Unpack[QATicketFilters],
    ) -> Page[QATicket]:
        """Return a page of the tickets that have words of the text: in title, description, steps, expected, actual, reference.

        A rare word counts more than a common one. Scores are those of the moment: where tickets are written between two pages,
        one at their edge may come twice or not at all.

        Shape:
            1 to 10,000 characters, of which the 64 longest words count.

        Order:
            Best first, then newest.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement, that looks at the words of all tickets of the project that pass the filters.
        """
        session = project_session(session)
        limit = check_limit(limit)
        conditions = self._conditions_of(filters)
        values = {**values_of(conditions), "text": checked(_TEXT, text, "text"), "limit": limit + 1}
        digest = query_digest(session.project_id, "qa_tickets.search", values["text"], *query_of(conditions, NEWEST_FIRST))
        if cursor is not None:
            values["after_score"], values["after_id"] = decode_cursor(cursor, digest, int)
        found = await session.fetch(self._search_statement(shape_of(conditions), follows=cursor is not None), values)
        next_cursor = None
        if len(found) > limit:
            last, score = found[limit - 1]
            next_cursor = encode_cursor(digest, score, last.id)
        return Page[QATicket].model_construct(items=[ticket for ticket, _ in found[:limit]], next_cursor=next_cursor)

    async def counts_by_status(self, session: ProjectSession) -> dict[TicketStatus, int]:
        """Count tickets by status; a status without tickets counts 0.

        Cost:
            One statement.
        """
        counts = dict(await project_session(session).fetch(_counts_statement(), {}))
        return {status: counts.get(status, 0) for status in TicketStatus}

    async def delete(self, session: ProjectSession, id: UUID) -> None:
        """Delete the ticket and its attempts; its signals and its duplicates stay, without it.

        Errors:
            NotFound; RetentionLocked while evidence of it, or of its attempts, is kept.

        Locks:
            The ticket, its duplicates and its attempts, before evidence is searched for, so that none is recorded in between.

        Cost:
            Three statements; two more where there were attempts, whose outcomes count no longer.
        """
        session, row_id = project_session(session), check_id(id)
        row = await duplicates.lock_with_duplicates(session, row_id)
        if row is None:
            raise NotFound
        had_attempts = await session.fetch(_lock_attempts_statement(), {"id": row_id})
        if not await session.execute(_delete_statement(), {"id": row_id}):
            raise RetentionLocked
        if had_attempts:
            await trust.bring_up_to_date(session, (row.classification,))

    def _search_statement(self, shape: Shape, *, follows: bool) -> Statement[tuple[QATicket, int]]:
        key = ("search", shape, follows)
        if key not in self._statements:
            scored = words.scores(_SEARCHED, self._conditions(shape, _SEARCHED))
            query = sa.select(scored.c.id, scored.c.score)
            if follows:
                place = sa.tuple_(sa.bindparam("after_score", type_=sa.BigInteger()), param("after_id", _TICKETS.c.id))
                query = query.where(sa.tuple_(scored.c.score, scored.c.id) < place)
            query = query.order_by(scored.c.score.desc(), scored.c.id.desc()).limit(sa.bindparam("limit", type_=sa.Integer()))
            self._statements[key] = _scored("search", query.subquery("best"))
        return self._statements[key]

    async def _lock(self, session: ProjectSession, id: UUID) -> QATicket:
        rows = await project_session(session).fetch(_lock_statement(), {"id": check_id(id)})
        if not rows:
            raise NotFound
        return rows[0]


def _scored(verb: str, best: sa.Subquery) -> Statement[tuple[QATicket, int]]:
    """Return the statement that looks up the tickets of these ids, each with its score."""
    ticket = _TICKETS.alias("ticket")
    one = sa.select(*ticket.c).where(scope_of(ticket), ticket.c.id == best.c.id).limit(1).correlate(best).lateral("one")
    query = (
        sa.select(*one.c, best.c.score).select_from(best.join(one, sa.true())).order_by(best.c.score.desc(), best.c.id.desc())
    )
    tickets = hydrator(QATicket, _TICKETS.c)

    def rows(records: Sequence[Sequence[Any]]) -> list[tuple[QATicket, int]]:
        found = tickets([tuple(record)[:-1] for record in records])
        return [(row, record[-1]) for row, record in zip(found, records, strict=True)]

    return Statement(f"qa_tickets.{verb}", query, rows)


def _changed(verb: str, query: sa.Update) -> Statement[QATicket]:
    query = query.values(version=_TICKETS.c.version + 1)
    return entities(f"qa_tickets.{verb}", query.returning(*_TICKETS.c), QATicket)


@cache
def _lock_statement() -> Statement[QATicket]:
    return entities("qa_tickets.lock", scoped(QATicket).where(_TICKETS.c.id == _ID).with_for_update(), QATicket)


@cache
def _transition_statement(to: TicketStatus, *, guarded: bool) -> Statement[QATicket]:
    values: dict[str, Any] = {"status": to}
    if to is TicketStatus.RESOLVED:
        values["resolved_at"] = sa.func.now()
    elif to is TicketStatus.OPEN:
        values["resolved_at"] = None
    query = scoped_update(QATicket).where(_TICKETS.c.id == _ID, one_of(_TICKETS.c.status, TRANSITIONS[to])).values(values)
    if guarded:
        query = query.where(_TICKETS.c.version == param("expected_version", _TICKETS.c.version))
    return _changed("transition", query)


@cache
def _assign_bucket_statement() -> Statement[QATicket]:
    bucket = param("bucket", _TICKETS.c.final_bucket)
    query = scoped_update(QATicket).where(_TICKETS.c.id == _ID)
    return _changed(
        "assign_bucket",
        query.values(final_bucket=bucket, initial_bucket=sa.func.coalesce(_TICKETS.c.initial_bucket, bucket)),
    )


@cache
def _mark_duplicate_statement() -> Statement[QATicket]:
    query = scoped_update(QATicket).where(_TICKETS.c.id == _ID)
    query = query.values(status=TicketStatus.DUPLICATE, duplicate_of_id=param("of", _TICKETS.c.duplicate_of_id))
    return _changed("mark_duplicate", query)


@cache
def _by_fingerprint_statement() -> Statement[QATicket]:
    query = scoped(QATicket).where(_TICKETS.c.fingerprint == param("fingerprint", _TICKETS.c.fingerprint))
    query = query.order_by(_TICKETS.c.created_at.desc(), _TICKETS.c.id.desc()).limit(1)
    return entities("qa_tickets.find_by_fingerprint", query, QATicket)


@cache
def _counts_statement() -> Statement[tuple[Any, ...]]:
    query = scoped(QATicket, _TICKETS.c.status, sa.func.count()).group_by(_TICKETS.c.status)
    return tuples("qa_tickets.counts_by_status", query)


@cache
def _has_attempt_statement() -> Statement[int]:
    query = scoped(QAFixAttempt, sa.literal(1)).where(_ATTEMPTS.c.ticket_id == param("id", _ATTEMPTS.c.ticket_id)).limit(1)
    return scalars("qa_tickets.has_attempt", query)


@cache
def _has_attempts_statement() -> Statement[int]:
    of_these = _ATTEMPTS.c.ticket_id == sa.any_(array_param("ids", _ATTEMPTS.c.ticket_id))
    return scalars("qa_tickets.has_attempt", scoped(QAFixAttempt, sa.literal(1)).where(of_these).limit(1))


@cache
def _lock_attempts_statement() -> Statement[UUID]:
    query = scoped(QAFixAttempt, _ATTEMPTS.c.id).where(_ATTEMPTS.c.ticket_id == param("id", _ATTEMPTS.c.ticket_id))
    return scalars("qa_tickets.delete", query.order_by(_ATTEMPTS.c.id).with_for_update())


@cache
def _delete_statement() -> Statement[None]:
    """Delete the ticket once its signals and duplicates name it no longer, unless there is evidence of it or its attempts."""
    of_ticket = scoped(AuditArtifact, sa.literal(1)).where(_ARTIFACTS.c.ticket_id == _ID)
    of_attempts = (
        sa.select(sa.literal(1))
        .select_from(_ATTEMPTS.join(_ARTIFACTS, sa.and_(scope_of(_ARTIFACTS), _ARTIFACTS.c.fix_attempt_id == _ATTEMPTS.c.id)))
        .where(scope_of(_ATTEMPTS), _ATTEMPTS.c.ticket_id == _ID)
    )
    is_free = sa.and_(~sa.exists(of_ticket.correlate(None)), ~sa.exists(of_attempts.correlate(None)))
    cleared = scoped_update(RawSignal).where(_SIGNALS.c.ticket_id == _ID, is_free).values(ticket_id=None).cte("cleared")
    released = duplicates.released(_ID).where(is_free).cte("released")
    return command("qa_tickets.delete", scoped_delete(QATicket).where(_TICKETS.c.id == _ID, is_free).add_cte(cleared, released))
