"""spend_ledger: the books. Entries are appended once, by their idempotency key, and never change."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from itertools import chain
from typing import Any, ClassVar, Literal, Unpack, cast, overload
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects.postgresql import insert

from derwin_db.errors import BudgetExceeded, Conflict, InvalidInput, ProjectNotFound
from derwin_db.fields.money import EXACT, MONEY, Money
from derwin_db.fields.scalars import Id, Timestamp, new_id, project_id_of
from derwin_db.filters import Filter, OptionalFilter
from derwin_db.models.batch import BatchReport
from derwin_db.models.project import Project
from derwin_db.models.spend_ledger import SpendCap, SpendKind, SpendLedger, SpendLedgerCreate, SpendSource
from derwin_db.paging import Page
from derwin_db.query.builders import ago, array_param, columnwise, param, scope_of, scoped, table_of, unnested
from derwin_db.query.statement import Statement, entities, scalars, tuples
from derwin_db.repos.base import TimeFilters, WritableRepository
from derwin_db.repos.bulk import RowsRefusedError
from derwin_db.repos.validation import check_on_error, checked, naming_rows
from derwin_db.session import AdminSession, ProjectSession, admin_session, project_session

_LEDGER = table_of(SpendLedger)
_PROJECTS = table_of(Project)
_NAMES = tuple(SpendLedgerCreate.model_fields)
_BATCH = 5000
_IDENTITY = tuple(name for name in _NAMES if name != "occurred_at")
"""What makes two entries of one key the same: all but the time, which a caller that tries again takes anew. The first stays."""
_OTHER_CONTENT = "An entry with this idempotency key and other content is on the books. Nothing was written."

_TIME: TypeAdapter[datetime] = TypeAdapter(Timestamp)

TotalsKey = Literal["source", "model", "day"]
"""What `totals_by` groups by; a day is a day in UTC."""


class SpendLedgerFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    kind: Filter[SpendKind]
    source: Filter[SpendSource]
    run_id: OptionalFilter[Id]
    ticket_id: OptionalFilter[Id]
    fix_attempt_id: OptionalFilter[Id]
    min_amount_usd: Money | None
    max_amount_usd: Money | None
    occurred_since: Timestamp | None
    occurred_until: Timestamp | None


SpendLedgerOrder = Literal["-created_at", "created_at", "occurred_at", "-occurred_at", "amount_usd", "-amount_usd"]
"""Orders of `list`: `-` says that the greatest comes first."""


class SpendLedgers(WritableRepository[SpendLedger]):
    """Money spent, exactly, in US dollars."""

    model = SpendLedger
    create_model: ClassVar[type[SpendLedgerCreate]] = SpendLedgerCreate
    filters = SpendLedgerFilters
    orders = SpendLedgerOrder

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: SpendLedgerOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[SpendLedgerFilters],
    ) -> Page[SpendLedger]:
        """Return a page of entries.

        Order:
            Newest first, by when they were written. `occurred_at` goes through its index; `amount_usd` has none: the entries
            that the filters select are sorted.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page(session, limit, cursor, filters, order=order, with_total=with_total)

    def stream(self, session: ProjectSession, **filters: Unpack[SpendLedgerFilters]) -> AsyncIterator[SpendLedger]:
        """Iterate over all entries.

        Order:
            Newest first, by when they were written.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[SpendLedgerFilters]) -> int:
        """Count entries.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        return await self._count(session, filters)

    async def append(self, session: ProjectSession, data: SpendLedgerCreate, *, cap: SpendCap | None = None) -> SpendLedger:
        """Write the entry, or return the one that has its key and the same content: every field but `occurred_at`.

        So a retry may say another time, that of its own clock. The first time stays on the books.

        With a cap, the spending within its window stays at or below it, in any interleaving; credits always pass.

        Errors:
            Conflict for the same key with other content; BudgetExceeded over the cap.

        Locks:
            The project's row in key-share mode, as every new row does, so that it can't go before the entry is on the books;
            with a cap, against other capped entries.

        Cost:
            One statement, one more with a cap; one more for a repetition or a refusal.
        """
        session = project_session(session)
        values = {**self._create_values(data), "id": new_id()}
        if cap is not None:
            if not isinstance(cap, SpendCap):
                raise InvalidInput("cap: a SpendCap is wanted here.")
            if not await session.fetch(_lock_project_statement(), {}):
                raise ProjectNotFound
            values |= {"window": cap.window, "cap": cap.usd}
        rows = await session.fetch(_append_statement(is_capped=cap is not None), values)
        if rows:
            return rows[0]
        known = await self._by_key(session, [data.idempotency_key])
        if not known:
            raise ProjectNotFound if cap is None else BudgetExceeded
        return _same(known[0], data)

    @overload
    async def append_many(
        self, session: ProjectSession, rows: Iterable[SpendLedgerCreate], *, on_error: Literal["raise"] = "raise"
    ) -> int: ...
    @overload
    async def append_many(
        self, session: ProjectSession, rows: Iterable[SpendLedgerCreate | Mapping[str, Any]], *, on_error: Literal["report"]
    ) -> BatchReport: ...
    async def append_many(
        self,
        session: ProjectSession,
        rows: Iterable[SpendLedgerCreate | Mapping[str, Any]],
        *,
        on_error: Literal["raise", "report"] = "raise",
    ) -> int | BatchReport:
        """Write entries, 5,000 a statement, in constant memory. Returns how many were new: a repetition is not.

        `on_error="report"` writes those that can be written, takes plain mappings too, and says of each other one which rule it
        breaks.

        Errors:
            Conflict for a key with other content, in the books or in the batch; nothing is written then, unless it is reported.

        Cost:
            With a report, a savepoint for each statement.
        """
        if check_on_error(on_error):
            return await self._insert_reporting(session, rows, verb="append_many", write=self._append_batch, batch_size=_BATCH)
        session = project_session(session)
        batches, written = self._batches(cast("Iterable[SpendLedgerCreate]", rows), _BATCH), 0
        first = next(batches, None)  # bad input takes no connection
        if first is None:
            return 0
        async with session.savepoint():
            given = 0
            for batch in chain([first], batches):
                with naming_rows(batch, "rows", given):
                    try:
                        written += await self._append_batch(session, batch)
                    except RowsRefusedError:
                        raise Conflict(_OTHER_CONTENT) from None
                given += len(batch)
        return written

    async def total(self, session: ProjectSession, *, since: datetime | None = None, until: datetime | None = None) -> Decimal:
        """Return what was spent, by `occurred_at`, from `since` on and before `until`.

        Units:
            US dollars, exact.

        Errors:
            InvalidInput for a time without a time zone.

        Cost:
            One statement.
        """
        values = _bounds(since, until)
        return Decimal((await project_session(session).fetch(_total_statement(tuple(values)), values))[0])

    async def totals_by(
        self, session: ProjectSession, key: TotalsKey, *, since: datetime | None = None, until: datetime | None = None
    ) -> dict[Any, Decimal]:
        """Return what was spent by source (SpendSource), model (text or None) or day (a date in UTC), by `occurred_at`.

        Units:
            US dollars, exact.

        Errors:
            InvalidInput.

        Cost:
            One statement.
        """
        if key not in ("source", "model", "day"):
            raise InvalidInput("key: one of source, model and day.")
        values = _bounds(since, until)
        return dict(await project_session(session).fetch(_totals_statement(key, tuple(values)), values))

    async def totals_by_project(
        self, session: AdminSession, *, since: datetime | None = None, until: datetime | None = None
    ) -> dict[str, Decimal]:
        """Return what was spent by project slug, deleted projects too. Through the admin door.

        Units:
            US dollars, exact.

        Errors:
            InvalidInput.

        Cost:
            One statement, over all entries of all projects within the bounds.
        """
        admin_session(session).note("spend_ledger.totals_by_project")
        values = _bounds(since, until)
        totals: dict[UUID, Decimal] = defaultdict(Decimal)
        slugs: dict[UUID, str] = {}
        for project_id, slug, amount in await session.fetch(_totals_by_project_statement(tuple(values)), values):
            totals[project_id] = EXACT.add(totals[project_id], amount)
            if project_id_of(slug) == project_id:
                slugs[project_id] = slug
        return {slugs.get(project_id, str(project_id)): amount for project_id, amount in totals.items()}

    async def _by_key(self, session: ProjectSession, keys: Sequence[str]) -> Sequence[SpendLedger]:
        return await session.fetch(_by_key_statement(), {"keys": keys})

    async def _append_batch(self, session: ProjectSession, batch: Sequence[SpendLedgerCreate]) -> int:
        distinct: dict[str, SpendLedgerCreate] = {}
        _refuse_others(
            number for number, row in enumerate(batch) if not _equal(distinct.setdefault(row.idempotency_key, row), row)
        )
        fresh = sorted(distinct.values(), key=lambda row: row.idempotency_key)
        values = {**columnwise(fresh, _NAMES), "id": [new_id() for _ in fresh]}
        written = set(await session.fetch(_append_many_statement(), values))
        known = [key for key in distinct if key not in written]
        if known:
            stored = {row.idempotency_key: row for row in await self._by_key(session, known)}
            if len(stored) < len(known):
                raise ProjectNotFound
            others = {key for key in known if not _equal(stored[key], distinct[key])}
            _refuse_others(number for number, row in enumerate(batch) if row.idempotency_key in others)
        return len(written)


def _refuse_others(rows: Iterable[int]) -> None:
    """Refuse rows whose key is taken by an entry with other content."""
    others = frozenset(rows)
    if others:
        raise RowsRefusedError(others, Conflict("idempotency_key: an entry with it, and with other content, is there already."))


def _same(stored: SpendLedger, data: SpendLedgerCreate) -> SpendLedger:
    if not _equal(stored, data):
        raise Conflict(_OTHER_CONTENT)
    return stored


def _equal(one: SpendLedger | SpendLedgerCreate, other: SpendLedgerCreate) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in _IDENTITY) and _same_json(one.details, other.details)


def _same_json(one: Any, other: Any) -> bool:
    """Tell values apart that Python takes for equal and JSON does not: true and 1. For both, 1 and 1.0 are one number."""
    if isinstance(one, dict):
        return all(_same_json(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return all(_same_json(*pair) for pair in zip(one, other, strict=True))
    return isinstance(one, bool) is isinstance(other, bool)


def _bounds(since: datetime | None, until: datetime | None) -> dict[str, datetime]:
    given = {"since": since, "until": until}
    return {name: checked(_TIME, value, name) for name, value in given.items() if value is not None}


def _within(shape: tuple[str, ...]) -> list[sa.ColumnElement[bool]]:
    bounds = {
        "since": _LEDGER.c.occurred_at >= param("since", _LEDGER.c.occurred_at),
        "until": _LEDGER.c.occurred_at < param("until", _LEDGER.c.occurred_at),
    }
    return [bounds[name] for name in shape]


def _sum() -> sa.ColumnElement[Decimal]:
    return sa.func.coalesce(sa.func.sum(_LEDGER.c.amount_usd), sa.literal(Decimal(0), MONEY))


@cache
def _lock_project_statement() -> Statement[UUID]:
    return scalars("spend_ledger.append", scoped(Project, _PROJECTS.c.id).with_for_update(key_share=True))


@cache
def _append_statement(*, is_capped: bool) -> Statement[SpendLedger]:
    """Insert the entry from its project's row; with a cap, unless it leads over it. The lock is held by then."""
    names = ("id", *_NAMES)
    source = scoped(Project, _PROJECTS.c.id, _PROJECTS.c.slug, *(param(name, _LEDGER.c[name]) for name in names))
    if is_capped:
        amount = param("amount_usd", _LEDGER.c.amount_usd)
        recent = _LEDGER.c.created_at > ago(sa.bindparam("window", type_=sa.Interval()))
        spent = scoped(SpendLedger, _sum()).where(recent).correlate(None).scalar_subquery()
        source = source.where(sa.or_(amount <= 0, spent + amount <= sa.bindparam("cap", type_=sa.Numeric())))
    source = source.with_for_update(read=True, key_share=True)
    query = insert(_LEDGER).from_select(["project_id", "project_slug", *names], source)
    query = query.on_conflict_do_nothing(index_elements=["project_id", "idempotency_key"])
    return entities("spend_ledger.append", query.returning(*_LEDGER.c), SpendLedger)


@cache
def _append_many_statement() -> Statement[str]:
    names = ("id", *_NAMES)
    given = unnested(_LEDGER, names)
    source = (
        sa.select(_PROJECTS.c.id, _PROJECTS.c.slug, *(given.c[name] for name in names))
        .select_from(_PROJECTS.join(given, sa.true()))
        .where(scope_of(_PROJECTS))
        .order_by(given.c.idempotency_key.collate("C"))
        .with_for_update(read=True, key_share=True, of=_PROJECTS)
    )
    query = insert(_LEDGER).from_select(["project_id", "project_slug", *names], source)
    query = query.on_conflict_do_nothing(index_elements=["project_id", "idempotency_key"])
    return scalars("spend_ledger.append_many", query.returning(_LEDGER.c.idempotency_key))


@cache
def _by_key_statement() -> Statement[SpendLedger]:
    query = scoped(SpendLedger).where(_LEDGER.c.idempotency_key == sa.any_(array_param("keys", _LEDGER.c.idempotency_key)))
    return entities("spend_ledger.append", query, SpendLedger)


@cache
def _total_statement(shape: tuple[str, ...]) -> Statement[Decimal]:
    return scalars("spend_ledger.total", scoped(SpendLedger, _sum()).where(*_within(shape)))


@cache
def _totals_statement(key: TotalsKey, shape: tuple[str, ...]) -> Statement[tuple[Any, ...]]:
    keys: dict[str, sa.ColumnElement[Any]] = {
        "source": _LEDGER.c.source,
        "model": _LEDGER.c.model,
        "day": sa.cast(sa.func.timezone("UTC", _LEDGER.c.occurred_at), sa.Date),
    }
    group = keys[key]
    query = scoped(SpendLedger, group, _sum()).where(*_within(shape)).group_by(group).order_by(group)
    return tuples("spend_ledger.totals_by", query)


@cache
def _totals_by_project_statement(shape: tuple[str, ...]) -> Statement[tuple[Any, ...]]:
    """The sum goes by the id; a slug that is not the id's own names no project."""
    keys = (_LEDGER.c.project_id, _LEDGER.c.project_slug)
    query = sa.select(*keys, _sum()).where(*_within(shape)).group_by(*keys)
    return tuples("spend_ledger.totals_by_project", query.order_by(_LEDGER.c.project_slug), is_scoped=False)
