"""All public names, pinned in `public_names.txt`: one that is added, renamed or removed is a decision, never an accident.

So is another parameter, default or number. What is meant to be new gets its line there; what goes is named in CHANGELOG.md.
"""

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pydantic import BaseModel

import derwin_db
from derwin_db import repos

LISTED = ("derwin_db", "derwin_db.models", "derwin_db.fastapi", "derwin_db.testing", "derwin_db.otel", "derwin_db.settings",
          "derwin_db.migrations", "derwin_db.embedded", "derwin_db.filters", "derwin_db.tables",
          "derwin_db.workers")  # fmt: skip
"""Modules whose `__all__` says what is public."""

DEFINING = ("derwin_db.database", "derwin_db.session", "derwin_db.paging", "derwin_db.errors")
"""Modules of which all is public that they define, and that has no underscore; the members of their classes, too."""

PINNED = Path(__file__).with_name("public_names.txt")


def public_names() -> Iterator[str]:
    for name in LISTED:
        module = importlib.import_module(name)
        yield from (f"{name}.{public}{form(getattr(module, public))}" for public in module.__all__ if hasattr(module, public))
    for name in DEFINING:
        for public, value in vars(importlib.import_module(name)).items():
            # Pydantic 2.12 leaves models with parameters in their module, by names such as `Page[Any]`
            if public.isidentifier() and not public.startswith("_") and is_defined_in(name, public, value):
                yield f"{name}.{public}{form(value)}"
                yield from members_of(value, [value], f"{name}.{public}")
    for table in repos.__all__:
        repository = getattr(repos, table)
        yield f"derwin_db.repos.{table}"
        yield from members_of(type(repository), type(repository).__mro__, f"derwin_db.repos.{table}")


def form(value: Any) -> str:
    """Return what else a caller relies on: the parameters with their defaults, or the number."""
    if isinstance(value, bool | int | float | timedelta):
        return f" = {value!r}"
    is_frozen = dataclasses.is_dataclass(value) and value.__dataclass_params__.frozen
    is_called = inspect.isfunction(value) or inspect.ismethod(value) or dataclasses.is_dataclass(value)
    if not is_called and not (inspect.isclass(value) and issubclass(value, BaseModel)):
        return ""
    taken = [one for one in inspect.signature(value).parameters.values() if not one.name.startswith("_")]
    return f"{inspect.Signature([one.replace(annotation=one.empty) for one in taken])}{', frozen' * is_frozen}"


def is_defined_in(module: str, name: str, value: Any) -> bool:
    if inspect.isclass(value) or inspect.isfunction(value):
        return value.__module__ == module
    tree = ast.parse(Path(importlib.import_module(module).__file__ or "").read_text(encoding="utf-8"))
    assigned = {
        one.id for node in tree.body if isinstance(node, ast.Assign) for one in node.targets if isinstance(one, ast.Name)
    }
    return name in assigned and not isinstance(value, TypeVar | ParamSpec)


def members_of(kind: Any, bases: Iterable[Any], name: str) -> Iterator[str]:
    """Name the public members of a class that it has of these bases, as far as they are in this package."""
    if not inspect.isclass(kind):
        return
    ours = [base for base in bases if base.__module__.startswith("derwin_db")]
    for member in {member for base in ours for member in vars(base) if not member.startswith(("_", "model_"))}:
        value = getattr(kind, member, None)
        yield f"{name}.{member}{'' if inspect.isclass(value) else form(value)}"


class TestPublicNames:
    def test_are_those_that_are_pinned(self):
        pinned = PINNED.read_text(encoding="utf-8").splitlines()

        assert pinned == sorted(set(pinned))
        assert sorted(set(public_names())) == pinned

    def test_every_listed_name_is_there(self):
        for name in LISTED:
            module = importlib.import_module(name)
            assert [public for public in module.__all__ if not hasattr(module, public)] == []

    def test_what_lies_flat_is_pinned(self):
        flat = {path.stem for path in Path(derwin_db.__file__).parent.glob("*.py") if not path.stem.startswith("_")}

        assert {f"derwin_db.{name}" for name in flat} <= {*LISTED, *DEFINING}

    def test_public_modules_say_that_they_are(self):
        for name in ("derwin_db.migrations", "derwin_db.embedded", "derwin_db.settings"):
            assert "Public." in inspect.getdoc(importlib.import_module(name))
