"""qa_fix_attempts: attempts at fixing tickets, and their outcomes, which count in classification_trust at once."""

from collections.abc import AsyncIterator, Iterable, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, Literal, Unpack
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from derwin_db.errors import IllegalTransition, NotFound
from derwin_db.fields.money import Cost
from derwin_db.fields.scalars import Id, Timestamp, new_id
from derwin_db.filters import Filter, OptionalFilter
from derwin_db.models.qa_fix_attempt import (
    TRANSITIONS,
    DiffStat,
    FixOutcome,
    FixStatus,
    QAFixAttempt,
    QAFixAttemptConclusion,
    QAFixAttemptCreate,
)
from derwin_db.models.qa_ticket import QATicket, TicketStatus
from derwin_db.paging import Page
from derwin_db.query.builders import insert_of_project, newest_of_each, one_of, param, scope_of, scoped, scoped_update, table_of
from derwin_db.query.statement import Statement, entities, scalars
from derwin_db.repos.base import Repository, TimeFilters
from derwin_db.repos.rules import trust
from derwin_db.repos.validation import check_id, check_ids, checked, invalid
from derwin_db.session import ProjectSession, project_session

_ATTEMPTS = table_of(QAFixAttempt)
_TICKETS = table_of(QATicket)
_ID = param("id", _ATTEMPTS.c.id)
_CLOSED = (TicketStatus.DUPLICATE, TicketStatus.REJECTED, TicketStatus.WONT_FIX)
_SUCCESSES = (FixOutcome.MERGED, FixOutcome.PR_OPENED)
_AFTER_PR = (FixOutcome.MERGED, FixOutcome.REJECTED)

_OUTCOME: TypeAdapter[FixOutcome] = TypeAdapter(FixOutcome)


class _Unset:
    """Stands for a keyword that was not given: the column stays as it is."""

    def __repr__(self) -> str:
        return "<unchanged>"


_UNSET: Any = _Unset()


class QAFixAttemptFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    ticket_id: Filter[Id]
    status: Filter[FixStatus]
    outcome: OptionalFilter[FixOutcome]
    min_cost_usd: Cost | None
    max_cost_usd: Cost | None
    concluded_since: Timestamp | None
    concluded_until: Timestamp | None


QAFixAttemptOrder = Literal["-created_at", "created_at", "cost_usd", "-cost_usd"]
"""Orders of `list`: `-` says that the greatest comes first."""


class QAFixAttempts(Repository[QAFixAttempt]):
    """Attempts: DISPATCHED -> RUNNING -> SUCCEEDED | FAILED, CANCELLED from either of the first two."""

    model = QAFixAttempt
    filters = QAFixAttemptFilters
    orders = QAFixAttemptOrder

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: QAFixAttemptOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[QAFixAttemptFilters],
    ) -> Page[QAFixAttempt]:
        """Return a page of attempts.

        Order:
            Newest first. `cost_usd` has no index: the attempts that the filters select are sorted.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page(session, limit, cursor, filters, order=order, with_total=with_total)

    def stream(self, session: ProjectSession, **filters: Unpack[QAFixAttemptFilters]) -> AsyncIterator[QAFixAttempt]:
        """Iterate over all attempts.

        Order:
            Newest first.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[QAFixAttemptFilters]) -> int:
        """Count attempts.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        return await self._count(session, filters)

    async def latest_of_tickets(self, session: ProjectSession, ticket_ids: Iterable[UUID]) -> dict[UUID, QAFixAttempt]:
        """Return the last attempt at each of up to 1,000 tickets, by the ticket's id; tickets without one are left out.

        Errors:
            InvalidInput, TooLarge above 1,000.

        Cost:
            One statement, a probe of the unique index on (ticket_id, attempt_no) for each ticket.
        """
        session, wanted = project_session(session), check_ids(ticket_ids, "ticket_ids")
        values = {"ids": wanted, "limit_each": 1}
        rows = await session.fetch(_latest_of_tickets_statement(), values) if wanted else []
        return {row.ticket_id: row for row in rows}

    async def dispatch(
        self,
        session: ProjectSession,
        ticket_id: UUID,
        *,
        model: str,
        branch: str | None = None,
        prompt_artifact_id: UUID | None = None,
    ) -> QAFixAttempt:
        """Begin the ticket's next attempt, numbered from 1 without gaps, also where several begin at once. Several may be open.

        Errors:
            NotFound; IllegalTransition for a ticket that is a duplicate, rejected or won't be fixed.

        Locks:
            The ticket's row, until the end of the unit.

        Cost:
            Two statements.
        """
        session, ticket = project_session(session), check_id(ticket_id, "ticket_id")
        try:
            data = QAFixAttemptCreate(model=model, branch=branch, prompt_artifact_id=prompt_artifact_id)
        except ValidationError as error:
            raise invalid(error) from None
        status = await session.fetch(_lock_ticket_statement(), {"ticket_id": ticket})
        if not status:
            raise NotFound("No such ticket in this project.")
        if status[0] in _CLOSED:
            raise IllegalTransition(f"A ticket that is {status[0]} gets no further attempt.")
        values = {name: getattr(data, name) for name in QAFixAttemptCreate.model_fields}
        return (await session.fetch(_dispatch_statement(), {**values, "id": new_id(), "ticket_id": ticket}))[0]

    async def start(self, session: ProjectSession, id: UUID) -> QAFixAttempt:
        """Note that the attempt runs.

        Errors:
            NotFound, IllegalTransition unless it is DISPATCHED.

        Cost:
            One statement.
        """
        return await self._move(session, _start_statement(), id, "A started attempt was DISPATCHED before.")

    async def cancel(self, session: ProjectSession, id: UUID) -> QAFixAttempt:
        """End an attempt without an outcome: it does not count.

        Errors:
            NotFound, IllegalTransition once it has ended.

        Cost:
            One statement.
        """
        return await self._move(session, _cancel_statement(), id, "The attempt has ended already.")

    async def conclude(
        self,
        session: ProjectSession,
        id: UUID,
        outcome: FixOutcome,
        *,
        branch: str | None = _UNSET,
        pr_url: str | None = _UNSET,
        diff_stat: DiffStat | None = _UNSET,
        input_tokens: int = _UNSET,
        output_tokens: int = _UNSET,
        cost_usd: Decimal | str = _UNSET,
        error: str | None = _UNSET,
    ) -> QAFixAttempt:
        """End a running attempt, or conclude one whose PR was opened as MERGED or REJECTED. The ticket does not move.

        Trust in the ticket's classification is brought up to date in the same transaction; PR_OPENED does not count yet.
        Keywords that are not given leave their columns as they are.

        Units:
            US dollars.

        Errors:
            NotFound, IllegalTransition, InvalidInput.

        Locks:
            The ticket's row against reclassification and deletion (others may conclude and change it), then the attempt's row,
            then the row of the score.

        Cost:
            Four statements.
        """
        session, row_id, result = project_session(session), check_id(id), checked(_OUTCOME, outcome, "outcome")
        given = {
            "branch": branch,
            "pr_url": pr_url,
            "diff_stat": diff_stat,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cost_usd": cost_usd,
            "error": error,
        }
        try:
            data = QAFixAttemptConclusion(**{name: value for name, value in given.items() if value is not _UNSET})  # type: ignore[arg-type]
        except ValidationError as problem:
            raise invalid(problem) from None
        fields = tuple(sorted(data.model_fields_set))
        values = {name: getattr(data, name) for name in fields}
        names = await self._hold_classification(session, row_id)
        rows = await session.fetch(_conclude_statement(result, fields), {"id": row_id, **values})
        if not rows:
            raise IllegalTransition("A running attempt is concluded, or one whose PR is open, as MERGED or REJECTED.")
        await trust.bring_up_to_date(session, names)
        return rows[0]

    async def mark_reverted(self, session: ProjectSession, id: UUID) -> QAFixAttempt:
        """Turn a merged attempt into a failure, for trust too; it stays in the window of its merge.

        Errors:
            NotFound, IllegalTransition unless it is MERGED.

        Locks:
            As `conclude`.

        Cost:
            As `conclude`.
        """
        session, row_id = project_session(session), check_id(id)
        names = await self._hold_classification(session, row_id)
        row = await self._move(session, _revert_statement(), row_id, "Only a merged attempt can be reverted.")
        await trust.bring_up_to_date(session, names)
        return row

    async def _move(self, session: ProjectSession, statement: Statement[QAFixAttempt], id: UUID, rule: str) -> QAFixAttempt:
        rows = await project_session(session).fetch(statement, {"id": check_id(id)})
        if rows:
            return rows[0]
        await self.get(session, id)
        raise IllegalTransition(rule)

    async def _hold_classification(self, session: ProjectSession, id: UUID) -> Sequence[str]:
        """Return the classification of the attempt's ticket, which stays what it is until the end of the unit."""
        names = await session.fetch(_classification_statement(), {"id": id})
        if not names:
            raise NotFound
        return names


@cache
def _latest_of_tickets_statement() -> Statement[QAFixAttempt]:
    query = newest_of_each(QAFixAttempt, _ATTEMPTS.c.ticket_id, _ATTEMPTS.c.attempt_no.desc())
    return entities("qa_fix_attempts.latest_of_tickets", query, QAFixAttempt)


@cache
def _lock_ticket_statement() -> Statement[TicketStatus]:
    query = scoped(QATicket, _TICKETS.c.status).where(_TICKETS.c.id == param("ticket_id", _TICKETS.c.id))
    return scalars("qa_fix_attempts.dispatch", query.with_for_update(key_share=True))


@cache
def _dispatch_statement() -> Statement[QAFixAttempt]:
    ticket = param("ticket_id", _ATTEMPTS.c.ticket_id)
    last = scoped(QAFixAttempt, sa.func.coalesce(sa.func.max(_ATTEMPTS.c.attempt_no), 0)).where(_ATTEMPTS.c.ticket_id == ticket)
    values = {name: param(name, _ATTEMPTS.c[name]) for name in ("id", *QAFixAttemptCreate.model_fields)}
    number = last.correlate(None).scalar_subquery() + 1
    query = insert_of_project(QAFixAttempt, {**values, "ticket_id": ticket, "attempt_no": number})
    return entities("qa_fix_attempts.dispatch", query.returning(*_ATTEMPTS.c), QAFixAttempt)


def _moved(verb: str, *from_: sa.ColumnElement[bool], **values: Any) -> Statement[QAFixAttempt]:
    query = scoped_update(QAFixAttempt).where(_ATTEMPTS.c.id == _ID, *from_).values(values)
    return entities(f"qa_fix_attempts.{verb}", query.returning(*_ATTEMPTS.c), QAFixAttempt)


@cache
def _start_statement() -> Statement[QAFixAttempt]:
    is_new = _ATTEMPTS.c.status == FixStatus.DISPATCHED
    return _moved("start", is_new, status=FixStatus.RUNNING, started_at=sa.func.now())


@cache
def _cancel_statement() -> Statement[QAFixAttempt]:
    is_open = one_of(_ATTEMPTS.c.status, TRANSITIONS[FixStatus.CANCELLED])
    return _moved("cancel", is_open, status=FixStatus.CANCELLED)


@cache
def _conclude_statement(outcome: FixOutcome, fields: tuple[str, ...]) -> Statement[QAFixAttempt]:
    from_ = _ATTEMPTS.c.status == FixStatus.RUNNING
    if outcome in _AFTER_PR:
        from_ = sa.or_(from_, _ATTEMPTS.c.outcome == FixOutcome.PR_OPENED)
    status = FixStatus.SUCCEEDED if outcome in _SUCCESSES else FixStatus.FAILED
    values = {name: param(name, _ATTEMPTS.c[name]) for name in fields}
    return _moved("conclude", from_, status=status, outcome=outcome, concluded_at=sa.func.now(), **values)


@cache
def _revert_statement() -> Statement[QAFixAttempt]:
    is_merged = _ATTEMPTS.c.outcome == FixOutcome.MERGED
    return _moved("mark_reverted", is_merged, status=FixStatus.FAILED, outcome=FixOutcome.REVERTED)


@cache
def _classification_statement() -> Statement[str]:
    """Key-share: it stands beside other conclusions and changes, and keeps off FOR UPDATE of `qa_tickets` alone."""
    query = (
        sa.select(_TICKETS.c.classification)
        .select_from(_ATTEMPTS.join(_TICKETS, sa.and_(scope_of(_TICKETS), _TICKETS.c.id == _ATTEMPTS.c.ticket_id)))
        .where(scope_of(_ATTEMPTS), _ATTEMPTS.c.id == _ID)
        .with_for_update(read=True, key_share=True, of=_TICKETS)
    )
    return scalars("qa_fix_attempts.conclude", query)
