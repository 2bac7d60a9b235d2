"""For proofs of fence 2 alone: repositories' statements without their project conditions, in this process, for a while.

Nothing of this is reachable through settings or the API, and it opens nothing: with the policies in force a statement without
its condition still reads and writes one project. That is what is shown with it.
"""

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from derwin_db.query.statement import AloneForm, Statement, short_form
from derwin_db.session import UnitOfWork

_METHODS = ("fetch", "execute", "execute_many", "stream")
_PROBE = UUID(int=1)

Choose = Callable[[Statement[Any], int], bool]
"""Says of the n-th project condition of a statement whether it is taken out."""


class _OnlyTheProject(dict[str, Any]):
    """Parameters of a statement, all None but the project: tells at which positions the project stands."""

    def __missing__(self, name: str) -> Any:
        return _PROBE if name == "project_id" else None


def conditions_of(statement: Statement[Any], form: Statement[Any] | AloneForm | None = None) -> list[re.Match[str]]:
    """Return where the statement's SQL, or that of the form that runs alone, compares a scope column with the project."""
    form = form or statement
    try:
        arguments = form.arguments(_OnlyTheProject())
    except (TypeError, AttributeError) as error:  # a value of a kind that nothing stands for
        raise AssertionError(f"{statement.name}: its parameters can't be told apart") from error
    numbers = "|".join(str(position + 1) for position, value in enumerate(arguments) if value == _PROBE)
    pattern = rf"(?:\w+\.)*(?:project_id|projects\.id) = (\$(?:{numbers})(?:::UUID)?)(?!\d)"
    return list(re.finditer(pattern, form.sql)) if numbers else []


def _sql_without(statement: Statement[Any], form: Statement[Any] | AloneForm, choose: Choose) -> str:
    sql = form.sql
    for number, found in reversed(list(enumerate(conditions_of(statement, form)))):
        if choose(statement, number):
            sql = f"{sql[: found.start()]}{found.group(1)} IS NOT NULL{sql[found.end() :]}"
    return sql


def unfiltered(statement: Statement[Any], choose: Choose = lambda _statement, _number: True) -> Statement[Any]:
    """Return a copy of the statement, in both its forms, that is true for every project where `choose` says so."""
    twin = copy.copy(statement)
    twin.sql = _sql_without(statement, statement, choose)
    if statement.reads:
        sql = _sql_without(statement, statement.alone, choose)
        twin.alone = statement.alone._replace(sql=sql, short=short_form(sql) if statement.alone.short is not None else None)
    return twin


@contextmanager
def without_filters(choose: Choose = lambda _statement, _number: True) -> Iterator[None]:
    """Run repositories' statements without their project conditions until the end of the block."""
    twins: dict[int, tuple[Statement[Any], Statement[Any]]] = {}

    def twin_of(statement: Statement[Any]) -> Statement[Any]:
        if id(statement) not in twins:
            twins[id(statement)] = statement, unfiltered(statement, choose) if statement.is_scoped else statement
        return twins[id(statement)][1]

    originals = {name: getattr(UnitOfWork, name) for name in _METHODS}

    def wrapped(original: Any) -> Any:
        return lambda unit, statement, values: original(unit, twin_of(statement), values)

    for name, original in originals.items():
        setattr(UnitOfWork, name, wrapped(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(UnitOfWork, name, original)
