"""What repositories share: reads on all tables, and the plain writes that a table's file may offer.

A repository is stateless. It builds its statements once per shape (which filters, which changed columns), each from
`scoped(...)`, and hands them to the session with the values of the call. Checks come before the first statement, so that bad
input takes no connection.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Generic, TypedDict, TypeVar, get_type_hints
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlmodel import SQLModel

from derwin_db.errors import InvalidInput, NotFound, StaleWrite
from derwin_db.fields.scalars import Timestamp, new_id
from derwin_db.fields.table import Input
from derwin_db.paging import Page, check_limit, decode_cursor, make_page, query_digest
from derwin_db.query.builders import param, scoped, scoped_delete, scoped_update, table_of
from derwin_db.query.guard import PROJECT
from derwin_db.query.statement import Statement, command, entities, scalars
from derwin_db.repos.validation import check_id, check_input, check_version, checked, iterated
from derwin_db.session import ProjectSession, project_session

M = TypeVar("M", bound=SQLModel)
T = TypeVar("T")
R = TypeVar("R", bound=Input)


class TimeFilters(TypedDict, total=False):
    """Filters over `created_at` that every list takes: from `since` on, and before `until`."""

    since: Timestamp | None
    until: Timestamp | None


class Repository(Generic[M]):
    """Reads of one table. The methods with a leading underscore are what the table's file spells with its own types."""

    model: type[M]
    filters: ClassVar[type]
    """TypedDict of the filters that `list`, `stream` and `count` take; None stands for no filter."""

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

    def _select(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        return scoped(self.model, *columns)

    def _listed(self) -> Sequence[sa.ColumnElement[bool]]:
        """What `list` leaves out, beside the filters."""
        return ()

    # --- what the table's file calls ----------------------------------------------------------------------------------

    async def _page(self, session: ProjectSession, limit: int, cursor: str | None, filters: Mapping[str, Any]) -> Page[M]:
        session = self._session(session)
        limit = check_limit(limit)
        values = self._filter_values(filters)
        digest = query_digest(getattr(session, "project_id", None), self.name, sorted(values.items()))
        shape = tuple(sorted(values))
        if cursor is not None:
            values["after_created_at"], values["after_id"] = decode_cursor(cursor, digest)
        values["limit"] = limit + 1
        rows = await session.fetch(self._list_statement(shape, follows=cursor is not None), values)
        return make_page(self.model, rows, limit, digest)

    def _stream(self, session: ProjectSession, filters: Mapping[str, Any]) -> AsyncIterator[M]:
        values = self._filter_values(filters)
        return self._session(session).stream(self._stream_statement(tuple(sorted(values))), values)

    async def _count(self, session: ProjectSession, filters: Mapping[str, Any]) -> int:
        session = self._session(session)
        values = self._filter_values(filters)
        return (await session.fetch(self._count_statement(tuple(sorted(values))), values))[0]

    def _filter_values(self, filters: Mapping[str, Any]) -> dict[str, Any]:
        adapters = self._filter_adapters
        values = {}
        for name, value in filters.items():
            if name not in adapters:
                raise InvalidInput(f"{name[:64]}: no such filter. There are: {', '.join(adapters)}.")
            if value is not None:
                values[name] = checked(adapters[name], value, name)
        return values

    @cached_property
    def _filter_adapters(self) -> dict[str, TypeAdapter[Any]]:
        return {name: TypeAdapter(hint) for name, hint in get_type_hints(self.filters, include_extras=True).items()}

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

    def _conditions(self, shape: tuple[str, ...], face: sa.Table | None = None) -> list[sa.ColumnElement[bool]]:
        """Return the conditions of these filters, on another face of the table if there is one."""
        table = self.table if face is None else face
        bounds = {
            "since": table.c.created_at >= param("since", table.c.created_at),
            "until": table.c.created_at < param("until", table.c.created_at),
        }
        return [bounds[name] if name in bounds else table.c[name] == param(name, table.c[name]) for name in shape]

    def _list_statement(self, shape: tuple[str, ...], *, follows: bool) -> Statement[M]:
        key = ("list", shape, follows)
        if key not in self._statements:
            table = self.table
            query = self._select(*self.columns).where(*self._conditions(shape), *self._listed())
            if follows:
                place = sa.tuple_(param("after_created_at", table.c.created_at), param("after_id", table.c.id))
                query = query.where(sa.tuple_(table.c.created_at, table.c.id) < place)
            query = query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(
                sa.bindparam("limit", type_=sa.Integer())
            )
            self._statements[key] = self._entities("list", query)
        return self._statements[key]

    def _stream_statement(self, shape: tuple[str, ...]) -> Statement[M]:
        key = ("stream", shape)
        if key not in self._statements:
            table = self.table
            query = self._select(*self.columns).where(*self._conditions(shape))
            query = query.order_by(table.c.created_at.desc(), table.c.id.desc())
            self._statements[key] = self._entities("stream", query)
        return self._statements[key]

    def _count_statement(self, shape: tuple[str, ...]) -> Statement[int]:
        key = ("count", shape)
        if key not in self._statements:
            query = self._select(sa.func.count()).where(*self._conditions(shape))
            self._statements[key] = self._scalars("count", query)
        return self._statements[key]


class Reads(Repository[M]):
    """Reads that a table's file keeps beside its own; it spells their filters and calls these with what it was given."""

    async def list(self, session: Any, limit: int, cursor: str | None, filters: Mapping[str, Any]) -> Page[M]:
        """Return a page, newest first."""
        return await self._page(session, limit, cursor, filters)

    def stream(self, session: Any, filters: Mapping[str, Any]) -> AsyncIterator[M]:
        """Iterate over all rows, newest first."""
        return self._stream(session, filters)

    async def count(self, session: Any, filters: Mapping[str, Any]) -> int:
        """Count rows."""
        return await self._count(session, filters)


class WritableRepository(Repository[M]):
    """Adds the plain writes. A table's file offers those that mean something there."""

    create_model: ClassVar[type[Input]]
    update_model: ClassVar[type[Input]]

    async def _insert(self, session: ProjectSession, data: Input, **more: Any) -> M:
        """Insert one row and return it, with what the database filled in."""
        values = {**self._create_values(data), **more, "id": new_id()}
        statement = self._insert_statement(tuple(values))
        return (await project_session(session).fetch(statement, values))[0]

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

    def _batches(self, rows: Iterable[R], size: int, field: str = "rows") -> Iterator[list[R]]:
        """Cut rows into batches, each checked when its turn comes.

        Errors:
            InvalidInput for what is not the input.
        """
        source = iterated(rows, field)
        start = 0
        while batch := list(islice(source, size)):
            for number, row in enumerate(batch, start):
                check_input(row, self.create_model, field, number)
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
    def _delete_statement(self) -> Statement[None]:
        condition = self.table.c.id == param("id", self.table.c.id)
        return command(f"{self.name}.delete", scoped_delete(self.model).where(condition))
