"""Every expression that repositories compile, kept from the first import on, for mutations of their filters.

Import this before any statement is built: `tests/isolation/conftest.py` does.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BinaryExpression

import derwin_db.query.statement
from derwin_db.query.guard import UnscopedStatement, check_scope
from derwin_db.query.statement import Statement

recorded: dict[str, list[sa.ClauseElement]] = {}
"""Scoped expressions, by the name of their statement."""

_original = Statement.__init__


def _recording(self: Any, name: str, expression: Any, *arguments: Any, **options: Any) -> None:
    _original(self, name, expression, *arguments, **options)
    if options.get("is_scoped", True) and _is_of_the_package(sys._getframe(1)):
        recorded.setdefault(name, []).append(expression)


def _is_of_the_package(frame: Any) -> bool:
    """Whether a repository asked for the statement. Other tests write statements too, some of them wrong on purpose."""
    while frame.f_globals["__name__"] == derwin_db.query.statement.__name__:
        frame = frame.f_back
    return bool(frame.f_globals["__name__"].startswith("derwin_db."))


derwin_db.query.statement.Statement.__init__ = _recording  # type: ignore[method-assign]


@contextmanager
def paused() -> Iterator[None]:
    """Keep nothing meanwhile: what is compiled under a mutation says nothing of the code as it is."""
    derwin_db.query.statement.Statement.__init__ = _original  # type: ignore[method-assign]
    try:
        yield
    finally:
        derwin_db.query.statement.Statement.__init__ = _recording  # type: ignore[method-assign]


def conditions(expression: sa.ClauseElement) -> list[sa.ClauseElement]:
    """Return the project conditions of the expression, each once: the way through it meets a CTE several times."""
    return list({id(element): element for element in visitors.iterate(expression) if _is_condition(element)}.values())


def mutants(expression: sa.ClauseElement) -> list[sa.ClauseElement]:
    """Return the expression once for each project condition in it, without that condition."""
    return [_without(expression, condition) for condition in conditions(expression)]


def _is_condition(element: Any) -> bool:
    if not isinstance(element, BinaryExpression):
        return False
    sides = (element.left, element.right)
    return any(isinstance(side, sa.BindParameter) and side.key == "project_id" for side in sides)


def _without(expression: sa.ClauseElement, condition: sa.ClauseElement) -> sa.ClauseElement:
    def replace(element: Any, **_: Any) -> Any:
        return sa.true() if element is condition else None

    return visitors.replacement_traverse(expression, {}, replace)


def survivors(stride: int = 1) -> tuple[int, list[str]]:
    """Return how many mutants there are, and those that the guard lets pass: there shall be none. Tries one in so many."""
    made, passed = 0, []
    for name, expressions in recorded.items():
        for expression in expressions:
            for number, mutant in enumerate(mutants(expression)):
                made += 1
                if made % stride:
                    continue
                try:
                    check_scope(mutant)
                except UnscopedStatement:
                    continue
                passed.append(f"{name}, condition {number}: {mutant}")
    return made, passed
