"""What repositories share: reads on all tables, and the plain writes that a table's file may offer.

A repository is stateless. It builds its statements once per shape (which filters, which changed columns), each from
`scoped(...)`, and hands them to the session with the values of the call. Checks come before the first statement, so that bad
input takes no connection.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Generic, Literal, TypedDict, TypeVar, get_args, get_type_hints
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import SQLModel

from derwin_db.errors import InvalidInput, NotFound, ProjectNotFound, StaleWrite
from derwin_db.fields.scalars import Timestamp, new_id
from derwin_db.fields.table import Input
from derwin_db.models.batch import BatchReport
from derwin_db.paging import Page, check_limit, decode_cursor, make_page, query_digest
from derwin_db.query.builders import (
    array_param,
    columnwise,
    insert_many_of_project,
    param,
    scoped,
    scoped_delete,
    scoped_update,
    table_of,
    unnested,
)
from derwin_db.query.guard import PROJECT
from derwin_db.query.statement import Statement, command, entities, scalars
from derwin_db.repos.bulk import Report, Write
from derwin_db.repos.conditions import (
    NEWEST_FIRST,
    Condition,
    FilterType,
    Order,
    Shape,
    condition_of,
    key_type,
    order_of,
)
from derwin_db.repos.validation import (
    check_flag,
    check_id,
    check_ids,
    check_input,
    check_inputs,
    check_version,
    iterated,
    naming_rows,
)
from derwin_db.session import ProjectSession, project_session

M = TypeVar("M", bound=SQLModel)
T = TypeVar("T")
B = TypeVar("B", bound=SQLModel)
R = TypeVar("R", bound=Input)

BATCH = 5000
"""Rows that one statement of a bulk write takes."""

MAX_TOTAL = 10_000
"""What `with_total` counts up to."""


class TimeFilters(TypedDict, total=False):
    """Filters over `created_at` that every list takes: from `since` on, and before `until`."""

    since: Timestamp | None
    until: Timestamp | None


class Repository(Generic[M]):
    """Reads of one table. The methods with a leading underscore are what the table's file spells with its own types."""

    model: type[M]
    filters: ClassVar[type]
    """TypedDict of the filters that `list`, `stream` and `count` take; None stands for no filter."""

    orders: ClassVar[Any] = Literal["-created_at", "created_at"]
    """Literal of the orders that `list` takes."""

    @cached_property
    def table(self) -> sa.Table:
        """The model's table."""
        return table_of(self.model)

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    @cached_property
    def columns(self) -> Sequence[sa.ColumnElement[Any]]:
        """What a read returns."""
        return tuple(self.table.c)

    async def get(self, session: ProjectSession, id: UUID) -> M:
        """Return the row.

        Errors:
            NotFound.

        Cost:
            One statement, primary key.
        """
        row = await self.find(session, id)
        if row is None:
            raise NotFound
        return row

    async def find(self, session: ProjectSession, id: UUID) -> M | None:
        """Return the row, or None.

        Cost:
            One statement, primary key.
        """
        rows = await self._session(session).fetch(self._find_statement, {"id": check_id(id)})
        return rows[0] if rows else None

    async def get_many(self, session: ProjectSession, ids: Iterable[UUID]) -> dict[UUID, M]:
        """Return the rows of up to 1,000 ids, by id; those that are not there are left out.

        Errors:
            InvalidInput, TooLarge above 1,000.

        Cost:
            One statement, primary key; none for no ids.
        """
        session = self._session(session)
        wanted = check_ids(ids)
        rows = await session.fetch(self._get_many_statement, {"ids": wanted}) if wanted else []
        return {row.id: row for row in rows}  # type: ignore[attr-defined]  # every table has it

    async def exists(self, session: ProjectSession, id: UUID) -> bool:
        """Tell whether the row exists.

        Cost:
            One statement, primary key.
        """
        return bool(await self._session(session).fetch(self._exists_statement, {"id": check_id(id)}))

    # --- whose rows ---------------------------------------------------------------------------------------------------

    _is_scoped: ClassVar[bool] = True

    def _session(self, session: Any) -> ProjectSession:
        """Return the session if these reads may take it.

        Errors:
            ScopeError.
        """
        return project_session(session)

    @property
    def allowed_orders(self) -> Sequence[str]:
        """The orders that `list` takes."""
        return get_args(self.orders)

    def _select(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        return scoped(self.model, *columns)

    def _listed(self) -> Sequence[sa.ColumnElement[bool]]:
        """What `list` leaves out, beside the filters."""
        return ()

    # --- what the table's file calls ----------------------------------------------------------------------------------

    async def _page(
        self,
        session: ProjectSession,
        limit: int,
        cursor: str | None,
        filters: Mapping[str, Any],
        *,
        order: str,
        with_total: bool,
    ) -> Page[M]:
        return await self._page_of(self.model, session, limit, cursor, filters, order=order, with_total=with_total)

    async def _page_of(
        self,
        model: type[B],
        session: ProjectSession,
        limit: int,
        cursor: str | None,
        filters: Mapping[str, Any],
        *,
        order: str,
        with_total: bool,
    ) -> Page[B]:
        """Return a page of rows in the shape of `model`: the table's own class, or one of some of its columns."""
        session = self._session(session)
        limit, is_counted = check_limit(limit), check_flag(with_total, "with_total")
        by = order_of(order, self.allowed_orders)
        conditions = self._conditions_of(filters)
        shape, values = shape_of(conditions), values_of(conditions)
        digest = query_digest(getattr(session, "project_id", None), self.name, *query_of(conditions, by))
        if cursor is not None:
            values["after_key"], values["after_id"] = decode_cursor(cursor, digest, key_type(self.table.c[by.column]))
        statement = self._list_statement(shape, follows=cursor is not None, order=by, model=model)
        rows = await session.fetch(statement, {**values, "limit": limit + 1})
        page = make_page(model, rows, limit, digest, by.column)
        if is_counted:
            [counted] = await session.fetch(self._total_statement(shape), {**values, "most": MAX_TOTAL + 1})
            page.total, page.is_total_exact = min(counted, MAX_TOTAL), counted <= MAX_TOTAL
        return page

    def _stream(self, session: ProjectSession, filters: Mapping[str, Any]) -> AsyncIterator[M]:
        conditions = self._conditions_of(filters)
        return self._session(session).stream(self._stream_statement(shape_of(conditions)), values_of(conditions))

    async def _count(self, session: ProjectSession, filters: Mapping[str, Any]) -> int:
        session = self._session(session)
        conditions = self._conditions_of(filters)
        return (await session.fetch(self._count_statement(shape_of(conditions)), values_of(conditions)))[0]

    def _conditions_of(self, filters: Mapping[str, Any]) -> dict[str, Condition]:
        types = self.filter_types
        conditions = {}
        for name, given in filters.items():
            if name not in types:
                raise InvalidInput(f"{name[:64]}: no such filter. There are: {', '.join(types)}.")
            if given is not None:
                conditions[name] = types[name].condition(given, name)
        return conditions

    @cached_property
    def filter_types(self) -> dict[str, FilterType]:
        """What each filter takes, by its name."""
        return {name: FilterType(hint) for name, hint in get_type_hints(self.filters, include_extras=True).items()}

    # --- statements ---------------------------------------------------------------------------------------------------

    @cached_property
    def _statements(self) -> dict[Any, Statement[Any]]:
        return {}

    def _entities(self, verb: str, query: sa.Executable) -> Statement[M]:
        return entities(f"{self.name}.{verb}", query, self.model, is_scoped=self._is_scoped)

    def _scalars(self, verb: str, query: sa.Executable) -> Statement[Any]:
        return scalars(f"{self.name}.{verb}", query, is_scoped=self._is_scoped)

    @cached_property
    def _find_statement(self) -> Statement[M]:
        condition = self.table.c.id == param("id", self.table.c.id)
        return self._entities("get", self._select(*self.columns).where(condition))

    @cached_property
    def _exists_statement(self) -> Statement[int]:
        condition = self.table.c.id == param("id", self.table.c.id)
        return self._scalars("exists", self._select(sa.literal(1)).where(condition))

    @cached_property
    def _get_many_statement(self) -> Statement[M]:
        condition = self.table.c.id == sa.any_(array_param("ids", self.table.c.id))
        return self._entities("get_many", self._select(*self.columns).where(condition))

    def _conditions(self, shape: Shape, face: sa.Table | None = None) -> list[sa.ColumnElement[bool]]:
        """Return the conditions of these filters, on another face of the table if there is one."""
        table = self.table if face is None else face
        return [condition_of(table, name, form) for name, form in shape]

    def _list_statement(
        self, shape: Shape, *, follows: bool, order: Order = NEWEST_FIRST, model: type[Any] | None = None
    ) -> Statement[Any]:
        model = model or self.model
        key = ("list", shape, follows, order, model)
        if key not in self._statements:
            query = self._select(*self._columns_for(model)).where(*self._conditions(shape), *self._listed())
            if follows:
                query = query.where(order.behind(self.table))
            query = query.order_by(*order.keys(self.table)).limit(sa.bindparam("limit", type_=sa.Integer()))
            self._statements[key] = entities(f"{self.name}.list", query, model, is_scoped=self._is_scoped)
        return self._statements[key]

    def _columns_for(self, model: type[SQLModel]) -> Sequence[sa.ColumnElement[Any]]:
        return self.columns if model is self.model else [self.table.c[name] for name in model.model_fields]

    def _total_statement(self, shape: Shape) -> Statement[int]:
        key = ("total", shape)
        if key not in self._statements:
            most = sa.bindparam("most", type_=sa.Integer())
            rows = self._select(sa.literal(1).label("one")).where(*self._conditions(shape), *self._listed()).limit(most)
            self._statements[key] = self._scalars("list", sa.select(sa.func.count()).select_from(rows.subquery("counted")))
        return self._statements[key]

    def _stream_statement(self, shape: Shape) -> Statement[M]:
        key = ("stream", shape)
        if key not in self._statements:
            query = self._select(*self.columns).where(*self._conditions(shape))
            self._statements[key] = self._entities("stream", query.order_by(*NEWEST_FIRST.keys(self.table)))
        return self._statements[key]

    def _count_statement(self, shape: Shape) -> Statement[int]:
        key = ("count", shape)
        if key not in self._statements:
            query = self._select(sa.func.count()).where(*self._conditions(shape))
            self._statements[key] = self._scalars("count", query)
        return self._statements[key]


class Reads(Repository[M]):
    """Reads that a table's file keeps beside its own; it spells their filters and calls these with what it was given."""

    async def list(
        self,
        session: Any,
        limit: int,
        cursor: str | None,
        filters: Mapping[str, Any],
        *,
        order: str = "-created_at",
        with_total: bool = False,
    ) -> Page[M]:
        """Return a page."""
        return await self._page(session, limit, cursor, filters, order=order, with_total=with_total)

    def stream(self, session: Any, filters: Mapping[str, Any]) -> AsyncIterator[M]:
        """Iterate over all rows, newest first."""
        return self._stream(session, filters)

    async def count(self, session: Any, filters: Mapping[str, Any]) -> int:
        """Count rows."""
        return await self._count(session, filters)


def shape_of(conditions: Mapping[str, Condition]) -> Shape:
    """Return what a statement with these filters is cached by."""
    return tuple((name, conditions[name].form) for name in sorted(conditions))


def values_of(conditions: Mapping[str, Condition]) -> dict[str, Any]:
    """Return what is sent along with these filters."""
    return {name: condition.value for name, condition in conditions.items()}


def query_of(conditions: Mapping[str, Condition], order: Order) -> list[Any]:
    """Return what a cursor is bound to. For one value each, newest first, it is as it always was: cursors outlive a release."""
    parts = [(name, value) if form == "one" else (name, form, value) for name, (form, value) in sorted(conditions.items())]
    return [parts] if order == NEWEST_FIRST else [parts, order.name]


class WritableRepository(Repository[M]):
    """Adds the plain writes. A table's file offers those that mean something there."""

    create_model: ClassVar[type[Input]]
    update_model: ClassVar[type[Input]]

    async def _insert(self, session: ProjectSession, data: Input, **more: Any) -> M:
        """Insert one row and return it, with what the database filled in."""
        values = {**self._create_values(data), **more, "id": new_id()}
        statement = self._insert_statement(tuple(values))
        return (await project_session(session).fetch(statement, values))[0]

    async def _insert_many(self, session: ProjectSession, rows: Iterable[R]) -> int:
        """Insert rows, 5,000 a statement; all or none within the unit. Returns how many."""
        session = project_session(session)
        total = 0
        for batch in self._batches(rows, BATCH):
            with naming_rows(batch, "rows", total):
                total += await self._write_batch(session, batch)
        return total

    async def _write_batch(self, session: ProjectSession, batch: Sequence[Any]) -> int:
        """Insert rows by one statement."""
        values = {**columnwise(batch, tuple(self.create_model.model_fields)), "id": [new_id() for _ in batch]}
        written = await session.execute(self._insert_many_statement, values)
        if not written:
            raise ProjectNotFound
        return written

    async def _insert_reporting(
        self,
        session: ProjectSession,
        rows: Iterable[object],
        *,
        field: str = "rows",
        verb: str = "create_many",
        write: Write | None = None,
        batch_size: int | None = None,
        in_order: Callable[[Any], Any] | None = None,
    ) -> BatchReport:
        """Insert the rows that can be, and say of each other one why it was not."""
        source, session = iterated(rows, field), project_session(session)
        report = Report(session, f"{self.name}.{verb}", self.table, self.create_model, write or self._write_batch)
        return await report.of(source, batch_size or BATCH, in_order)

    async def _update(self, session: ProjectSession, id: UUID, data: Input, *, expected_version: int | None = None) -> M:
        """Change the fields that are set in `data` and return the row.

        Errors:
            NotFound, StaleWrite.
        """
        session = project_session(session)
        row_id = check_id(id)
        check_input(data, self.update_model)
        fields = self._update_fields & data.model_fields_set
        expected = None if expected_version is None else check_version(expected_version)
        if not fields:
            row = await self.get(session, row_id)
            if expected is not None and getattr(row, "version", None) != expected:
                raise StaleWrite
            return row
        values = {**data.__dict__, "id": row_id, "expected_version": expected}
        rows = await session.fetch(self._update_statement(fields, guarded=expected is not None), values)
        if rows:
            return rows[0]
        if expected is not None and await self.exists(session, row_id):
            raise StaleWrite
        raise NotFound

    async def _update_many(self, session: ProjectSession, data: Input, filters: Mapping[str, Any]) -> int:
        """Change the fields that are set, in all rows that the filters select. Returns how many.

        Errors:
            InvalidInput without a filter.

        Locks:
            The rows, in the order of their ids.
        """
        session = project_session(session)
        fields, shape, values = self._changes(data, filters)
        return await session.execute(self._update_many_statement(fields, shape), values) if fields else 0

    def _changes(self, data: Input, filters: Mapping[str, Any]) -> tuple[frozenset[str], Shape, dict[str, Any]]:
        """Return which fields are set, which filters there are, and the values of both."""
        check_input(data, self.update_model)
        conditions = self._conditions_of(filters)
        if not conditions:
            raise InvalidInput(f"filters: at least one of {', '.join(self.filter_types)}; without any, all rows would change.")
        fields = self._update_fields & data.model_fields_set
        new = {f"new_{name}": getattr(data, name) for name in fields}
        return fields, shape_of(conditions), {**values_of(conditions), **new}

    async def _delete(self, session: ProjectSession, id: UUID) -> None:
        """Delete one row.

        Errors:
            NotFound.
        """
        if not await project_session(session).execute(self._delete_statement, {"id": check_id(id)}):
            raise NotFound

    @cached_property
    def _update_fields(self) -> frozenset[str]:
        return frozenset(self.update_model.model_fields)

    def _create_values(self, data: Input) -> dict[str, Any]:
        self._check_type(data)
        return dict(data.__dict__)

    def _check_type(self, data: object) -> None:
        check_input(data, self.create_model)

    def _batches(self, rows: Iterable[R], size: int, field: str = "rows", *, are_checked: bool = False) -> Iterator[list[R]]:
        """Cut rows into batches, each checked when its turn comes, unless all were before.

        Errors:
            InvalidInput for what is not the input.
        """
        source = iterated(rows, field)
        start = 0
        while batch := list(islice(source, size)):
            if not are_checked:
                check_inputs(batch, self.create_model, field, start)
            start += len(batch)
            yield batch

    def _insert_statement(self, names: tuple[str, ...]) -> Statement[M]:
        key = ("create", names)
        if key not in self._statements:
            table = self.table
            values = {name: param(name, table.c[name]) for name in names}
            query = sa.insert(table).values(project_id=PROJECT, **values).returning(*self.columns)
            self._statements[key] = self._entities("create", query)
        return self._statements[key]

    def _update_statement(self, fields: frozenset[str], *, guarded: bool) -> Statement[M]:
        key = ("update", fields, guarded)
        if key not in self._statements:
            table = self.table
            query = scoped_update(self.model).where(table.c.id == param("id", table.c.id))
            query = query.values({name: param(name, table.c[name]) for name in sorted(fields)})
            if "version" in table.c:
                query = query.values(version=table.c.version + 1)
            if guarded:
                query = query.where(table.c.version == param("expected_version", table.c.version))
            self._statements[key] = self._entities("update", query.returning(*self.columns))
        return self._statements[key]

    @cached_property
    def _insert_many_statement(self) -> Statement[None]:
        names = ("id", *self.create_model.model_fields)
        given = unnested(self.table, names)
        query = insert_many_of_project(self.model, {name: given.c[name] for name in names}, given)
        return command(f"{self.name}.create_many", query)

    def _update_many_statement(self, fields: frozenset[str], shape: Shape) -> Statement[None]:
        key = ("update_many", fields, shape)
        if key not in self._statements:
            locked = self._select(self.table.c.id).where(*self._conditions(shape)).with_for_update(key_share=True)
            self._statements[key] = command(f"{self.name}.update_many", self._update_locked(fields, locked)[0])
        return self._statements[key]

    def _update_locked(self, fields: frozenset[str], rows: sa.Select[Any]) -> tuple[sa.Update, sa.CTE]:
        """Return an update of the rows that are selected, once they are locked in the order of their ids, and these."""
        table = self.table
        locked = rows.order_by(table.c.id).cte("locked")
        values: dict[str, Any] = {name: param(f"new_{name}", table.c[name]) for name in sorted(fields)}
        if "version" in table.c:
            values["version"] = table.c.version + 1
        return scoped_update(self.model).where(table.c.id == locked.c.id).values(values), locked

    @cached_property
    def _delete_statement(self) -> Statement[None]:
        condition = self.table.c.id == param("id", self.table.c.id)
        return command(f"{self.name}.delete", scoped_delete(self.model).where(condition))
