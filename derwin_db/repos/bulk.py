"""Bulk writes that answer for each row.

References are looked up before anything is written, by one statement each. What breaks a rule of the database all the same, a
key that is taken, say, is found by halving the batch, each part in a savepoint.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import ValidationError

from derwin_db.errors import Conflict, DerwinError, InvalidInput, InvalidReference
from derwin_db.fields.table import Input
from derwin_db.models.batch import BatchReport, RowFailure
from derwin_db.query.builders import array_param, scope_of
from derwin_db.query.statement import Statement, scalars
from derwin_db.repos.validation import check_input, invalid
from derwin_db.session import ProjectSession

Numbered = tuple[int, Input]
"""A row, and its place in what was given."""


Write = Callable[[ProjectSession, Sequence[Any]], Awaitable[int]]
"""Writes a batch by one statement or a few, all or none, and returns how many rows are new."""


class RowsRefusedError(Exception):
    """What a batch is refused for, where its writer knows which rows it is: by their places in the batch."""

    def __init__(self, rows: Iterable[int], error: DerwinError) -> None:
        super().__init__(error.message)
        self.rows: frozenset[int] = frozenset(rows)
        self.error = error


class Report:
    """Writes batches, and keeps why rows were not written."""

    def __init__(self, session: ProjectSession, verb: str, table: sa.Table, create_model: type[Input], write: Write) -> None:
        self._session = session
        self._verb = verb
        self._table = table
        self._create_model = create_model
        self._write = write
        self._failures: list[RowFailure] = []

    async def of(self, rows: Iterator[object], batch_size: int, in_order: Callable[[Any], Any] | None = None) -> BatchReport:
        """Write what can be written. In an order of the rows, all of them are looked at before the first is written."""
        given = inserted = 0
        numbered: Iterator[tuple[int, object]] = enumerate(rows)
        if in_order is not None:
            valid = self._valid(numbered)
            numbered = iter(sorted(valid, key=lambda pair: in_order(pair[1])))
            given = len(valid) + len(self._failures)
        while batch := list(islice(numbered, batch_size)):
            given += len(batch) if in_order is None else 0
            inserted += await self._written(await self._with_known_references(self._valid(batch)))
        failures = tuple(sorted(self._failures, key=lambda failure: failure.row))
        return BatchReport(inserted, failures, given - inserted - len(failures))

    def _valid(self, rows: Iterable[tuple[int, object]]) -> list[Numbered]:
        return [(number, data) for number, row in rows if (data := self._checked(number, row)) is not None]

    def _checked(self, number: int, row: object) -> Input | None:
        try:
            if isinstance(row, Mapping):
                return self._create_model.model_validate(dict(row))
            check_input(row, self._create_model, "row")
        except ValidationError as error:
            self._note(number, invalid(error))
        except InvalidInput as error:
            self._note(number, error)
        else:
            return row  # type: ignore[return-value]  # checked above
        return None

    async def _with_known_references(self, rows: Sequence[Numbered]) -> list[Numbered]:
        """Leave out rows that refer to nothing. What the others refer to is locked against deletion until the unit ends."""
        kept = list(rows)
        for column, target in references_of(self._table, self._create_model.model_fields):
            wanted = sorted({id for _, row in kept if (id := getattr(row, column)) is not None})
            statement = _known_statement(self._verb, target)
            known = {None, *(await self._session.fetch(statement, {"ids": wanted}) if wanted else ())}
            missing = {number for number, row in kept if getattr(row, column) not in known}
            for number in missing:
                self._note(number, InvalidReference(f"{column}: no such row in this project."))
            kept = [pair for pair in kept if pair[0] not in missing]
        return kept

    async def _written(self, rows: Sequence[Numbered]) -> int:
        if not rows:
            return 0
        try:
            async with self._session.savepoint():
                return await self._write(self._session, [row for _, row in rows])
        except RowsRefusedError as refused:
            for place in refused.rows:
                self._note(rows[place][0], refused.error)
            return await self._written([pair for place, pair in enumerate(rows) if place not in refused.rows])
        except (InvalidInput, Conflict) as error:
            if len(rows) == 1:
                self._note(rows[0][0], error)
                return 0
        half = len(rows) // 2
        return await self._written(rows[:half]) + await self._written(rows[half:])

    def _note(self, number: int, error: DerwinError) -> None:
        self._failures.append(RowFailure(number, error.code, error.message))


def references_of(table: sa.Table, names: Iterable[str]) -> list[tuple[str, sa.Table]]:
    """Return the columns among these that refer to a row of the same project by its id, and the tables that they refer to."""
    found, wanted = [], set(names)
    for key in sorted(table.foreign_key_constraints, key=lambda key: str(key.name)):
        there = {element.parent.name: element.column.name for element in key.elements}
        if there.pop("project_id", None) == "project_id" and list(there.values()) == ["id"] and there.keys() <= wanted:
            found.append((next(iter(there)), key.referred_table))
    return found


@cache
def _known_statement(name: str, target: sa.Table) -> Statement[UUID]:
    wanted = target.c.id == sa.any_(array_param("ids", target.c.id))
    query = sa.select(target.c.id).where(scope_of(target), wanted).order_by(target.c.id)
    return scalars(name, query.with_for_update(read=True, key_share=True))
