"""`Repository`: the reads and plain writes of our own tables, for a table of a service.

    webhooks = Repository(Webhook, create=WebhookCreate, update=WebhookUpdate)

    await webhooks.list(session, event=WebhookEvent.RESOLVED, order="-created_at")

Its filters are read off the columns: a value, several, `IS_NULL` or `not_`, and bounds of numbers and times. Verbs of one's own
are methods of a subclass.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Generic, Literal, Union, cast, get_args, get_origin, get_type_hints, overload
from uuid import UUID

import sqlalchemy as sa
from typing_extensions import TypeVar

from derwin_db.errors import AppendOnlyViolation, InvalidInput
from derwin_db.fields.own import ProjectTable
from derwin_db.fields.table import Input, PydanticJson
from derwin_db.fields.vector import Vector
from derwin_db.filters import Filter, OptionalFilter
from derwin_db.models.batch import BatchReport
from derwin_db.paging import Page
from derwin_db.repos.base import TimeFilters, WritableRepository
from derwin_db.repos.conditions import FilterType, key_type, plain_type
from derwin_db.repos.validation import check_on_error
from derwin_db.session import ProjectSession

W = TypeVar("W", bound=ProjectTable)
C = TypeVar("C", bound=Input, default=Input)
U = TypeVar("U", bound=Input, default=Input)

_KEYS = frozenset({"project_id", "id", "created_at", "updated_at"})
_BOUNDED = (sa.Integer, sa.BigInteger, sa.Numeric, sa.Float)

repositories: dict[str, "Repository[Any, Any, Any]"] = {}
"""Those that this process has made, by the names of their tables: what tests fill and attack."""


class Repository(WritableRepository[W], Generic[W, C, U]):
    """Reads and plain writes of one table of a service, checked as everywhere before a connection is taken."""

    filters = TimeFilters

    def __init__(self, model: type[W], *, create: type[C], update: type[U] | None = None, orders: Sequence[str] = ()) -> None:
        """Make the repository of a table.

        `orders` are NOT NULL columns that lists may be ordered by, beside `created_at`: of numbers, texts, dates, times with a
        zone, booleans or ids. Give each an index, or say what it costs: the rows that the filters select are sorted.

        Errors:
            ValueError for inputs and orders that do not fit the table.
        """
        self.model = model
        vars(self).update(create_model=create, update_model=update or _NoUpdate)  # of this instance alone
        self._orders = tuple(order for name in ("created_at", *orders) for order in (f"-{name}", name))
        self._check_fit(create, update, orders)
        repositories[self.name] = cast("Repository[Any, Any, Any]", self)

    def _check_fit(self, create: type[Input], update: type[Input] | None, orders: Sequence[str]) -> None:
        columns = self.table.c
        for kind in filter(None, (create, update)):
            for name in kind.model_fields:
                if name not in columns or name in _KEYS or name == "version":
                    raise ValueError(f"{kind.__name__}.{name}: no column of {self.name} that a caller sets.")
        for name in orders:
            if name not in columns or columns[name].nullable or key_type(columns[name]) is None:
                raise ValueError(f"orders: {name} is no NOT NULL column of {self.name} that has an order.")
        if "created_at" not in columns:
            raise ValueError(f"{self.name}: derive from Created or Changing, whose times lists are ordered by.")
        if update is not None and (self._is_append_only or "updated_at" not in columns):
            raise ValueError(f"{self.name}: rows that change derive from Changing, and are not append-only.")

    @property
    def _is_append_only(self) -> bool:
        return self.model.append_only

    @cached_property
    def filter_types(self) -> dict[str, FilterType]:
        types = {name: FilterType(hint) for name, hint in get_type_hints(TimeFilters, include_extras=True).items()}
        hints = get_type_hints(self.model, include_extras=True)
        for column in self.table.columns:
            if column.name not in _KEYS and not isinstance(column.type, PydanticJson | Vector):
                types.update(_filters_of(column, _value_type(hints[column.name])))
        return types

    @property
    def allowed_orders(self) -> Sequence[str]:
        return self._orders

    # --- reads --------------------------------------------------------------------------------------------------------

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: str = "-created_at",
        with_total: bool = False,
        **filters: Any,
    ) -> Page[W]:
        """Return a page of rows.

        Order:
            Newest first, or as `order` says.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page(session, limit, cursor, filters, order=order, with_total=with_total)

    def stream(self, session: ProjectSession, **filters: Any) -> AsyncIterator[W]:
        """Iterate over all rows.

        Order:
            Newest first.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Any) -> int:
        """Count rows.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        return await self._count(session, filters)

    # --- writes -------------------------------------------------------------------------------------------------------

    async def create(self, session: ProjectSession, data: C) -> W:
        """Write a row.

        Errors:
            InvalidReference; Conflict where a key is taken.

        Cost:
            One statement.
        """
        return await self._insert(session, data)

    @overload
    async def create_many(self, session: ProjectSession, rows: Iterable[C], *, on_error: Literal["raise"] = "raise") -> int: ...
    @overload
    async def create_many(
        self, session: ProjectSession, rows: Iterable[C | Mapping[str, Any]], *, on_error: Literal["report"]
    ) -> BatchReport: ...
    async def create_many(
        self,
        session: ProjectSession,
        rows: Iterable[C | Mapping[str, Any]],
        *,
        on_error: Literal["raise", "report"] = "raise",
    ) -> int | BatchReport:
        """Write rows, 5,000 a statement: all or none, and how many, or with a report what can be written, and why not the rest.

        Errors:
            InvalidReference, Conflict, unless they are reported.

        Cost:
            A statement for every 5,000 rows; with a report a savepoint for each.
        """
        if check_on_error(on_error):
            return await self._insert_reporting(session, rows)
        return await self._insert_many(session, cast("Iterable[C]", rows))

    async def update(self, session: ProjectSession, id: UUID, data: U, *, expected_version: int | None = None) -> W:
        """Change the fields that are set.

        Errors:
            NotFound; StaleWrite where the table has a `version` and it is another one; AppendOnlyViolation.

        Cost:
            One statement.
        """
        self._refuse_change()
        return await self._update(session, id, data, expected_version=self._versioned(expected_version))

    async def update_many(self, session: ProjectSession, data: U, **filters: Any) -> int:
        """Change the fields that are set, in all rows that the filters select. Returns how many.

        Errors:
            InvalidInput without a filter; AppendOnlyViolation.

        Locks:
            The rows, in the order of their ids.

        Cost:
            One statement.
        """
        self._refuse_change()
        return await self._update_many(session, data, filters)

    async def delete(self, session: ProjectSession, id: UUID) -> None:
        """Delete the row.

        Errors:
            NotFound; Conflict where others refer to it; AppendOnlyViolation.

        Cost:
            One statement.
        """
        self._refuse_change()
        await self._delete(session, id)

    def _refuse_change(self) -> None:
        if self._is_append_only:
            raise AppendOnlyViolation

    def _versioned(self, expected_version: int | None) -> int | None:
        if expected_version is not None and "version" not in self.table.c:
            raise InvalidInput(f"expected_version: {self.name} has no versions.")
        return expected_version


class _NoUpdate(Input):
    """Stands for the input of an update where there is none: nobody can make a fitting one."""


def _value_type(hint: Any) -> Any:
    """Return the annotated type of a column without None."""
    if get_origin(hint) is Annotated:
        inner, *more = get_args(hint)
        return Annotated[_value_type(inner), *more]
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return kinds[0] if type(None) in get_args(hint) and len(kinds) == 1 else hint


def _filters_of(column: sa.Column[Any], kind: Any) -> dict[str, FilterType]:
    """Return the filters of one column: by its values, and bounds of a number or a time."""
    bound = FilterType(Union[kind, None])  # noqa: UP007  # built at run time
    if isinstance(plain_type(column), sa.DateTime):
        stem = column.name.removesuffix("_at")
        return {f"{stem}_since": bound, f"{stem}_until": bound} if column.name.endswith("_at") else {}
    alias: Any = OptionalFilter if column.nullable else Filter
    by_value = FilterType(alias[kind])
    bounds = {f"min_{column.name}": bound, f"max_{column.name}": bound} if isinstance(column.type, _BOUNDED) else {}
    return {column.name: by_value, **bounds}
