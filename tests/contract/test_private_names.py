"""Every private name of another package that this one relies on: there is none besides, and each is where it is expected.

A new version of a package that fails here has renamed something: look at what reads the name before the bound in
pyproject.toml is raised (docs/decisions/0005-private-names-are-bounded.md).
"""

import ast
import asyncio
import re
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa
import sqlmodel
from pydantic import BaseModel
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.postgresql.dml import OnConflictClause, OnConflictDoUpdate
from sqlalchemy.orm.instrumentation import ClassManager
from sqlalchemy.orm.state import InstanceState
from sqlalchemy.sql.dml import UpdateBase, ValuesBase
from sqlalchemy.sql.selectable import HasPrefixes, HasSuffixes, _OffsetLimitParam

ROOT = Path(__file__).parent.parent.parent

PRIVATE = {
    # SQLAlchemy: the guard reads what an expression is made of
    (sa.Select, "_auto_correlate"),
    (sa.Select, "_hints"),
    (sa.Select, "_statement_hints"),
    (HasPrefixes, "_prefixes"),
    (HasSuffixes, "_suffixes"),
    (UpdateBase, "_hints"),
    (ValuesBase, "_values"),
    (ValuesBase, "_multi_values"),
    (ValuesBase, "_select_names"),
    (sa.Update, "_maintain_values_ordering"),
    (sa.Insert, "_post_values_clause"),
    (sa.sql.selectable, "_OffsetLimitParam"),
    # SQLAlchemy: rows get their state
    (ClassManager, "STATE_ATTR"),
    # SQLModel: the type of a model's configuration
    (sqlmodel, "_compat"),
    # asyncpg: a connection goes back as it came
    (asyncpg.Connection, "_drop_local_statement_cache"),
    (asyncpg.Connection, "_listeners"),
    (asyncpg.Connection, "_log_listeners"),
    (asyncpg.Connection, "_on_release"),
    (asyncpg.Connection, "_transport"),
    # asyncpg: one timer for all statements of a pool, and a short way for those that are prepared
    (asyncpg.Connection, "_config"),
    (asyncpg.Connection, "_protocol"),
    (asyncpg.Connection, "_query_loggers"),
    (asyncpg.Connection, "_stmt_cache"),
    (asyncpg.Connection, "_stmt_exclusive_section"),
    (asyncpg.connection._Atomic, "_acquired"),
    (asyncpg.protocol.Protocol, "_is_cancelling"),
    (asyncpg.protocol.Protocol, "_request_cancel"),
    # asyncio: a socket whose loop is closed; a coroutine that is stepped by hand
    (asyncio.selector_events._SelectorTransport, "_sock"),
    (asyncio.Future, "_asyncio_future_blocking"),
}
"""What is private by its name, with the class or module that has it."""

UNDOCUMENTED = {
    (OnConflictClause, "inferred_target_elements"),
    (OnConflictDoUpdate, "update_values_to_set"),
    (PGDialect_asyncpg, "setup_asyncpg_json_codec"),
    (PGDialect_asyncpg, "setup_asyncpg_jsonb_codec"),
    (asyncpg.protocol.Protocol, "bind_execute"),
    (asyncpg.protocol.Protocol, "get_record_class"),
    (asyncpg.protocol.Protocol, "query"),
    (InstanceState, "key"),
    (BaseModel, "__pydantic_fields_set__"),
    (BaseModel, "__pydantic_extra__"),
    (BaseModel, "__pydantic_private__"),
}
"""What has a public name, and no promise."""


def exists(owner: object, name: str) -> bool:
    """Tell whether the class or module has it: by itself, by an annotation, or from its __init__ on."""
    if hasattr(owner, name) or not isinstance(owner, type):
        return hasattr(owner, name)
    annotated = {key for kind in owner.__mro__ for key in vars(kind).get("__annotations__", {})}
    return name in annotated or name in getattr(owner.__init__, "__code__", exists.__code__).co_names


class TestPrivateNames:
    @pytest.mark.parametrize(("owner", "name"), sorted(PRIVATE | UNDOCUMENTED, key=str), ids=str)
    def test_exists(self, owner, name):
        assert exists(owner, name)

    def test_a_limit_has_the_kind_that_the_guard_knows(self):
        children = sa.select(sa.literal(1)).limit(1).get_children()
        assert _OffsetLimitParam in {type(child) for child in children}

    def test_there_is_none_that_is_not_listed(self):
        assert foreign_names() <= {name for _, name in PRIVATE}

    def test_each_that_is_listed_is_used(self):
        used = {name for path in sources() for name in re.findall(r"\b\w+\b", path.read_text(encoding="utf-8"))}
        assert {name for _, name in PRIVATE | UNDOCUMENTED} <= used


def sources() -> list[Path]:
    return sorted((ROOT / "derwin_db").rglob("*.py"))


def foreign_names() -> set[str]:
    """Return the private names that the package reads, by attribute or as text, and does not define itself."""
    own: set[str] = set()
    read: set[str] = set()
    for node in (node for path in sources() for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute):
            is_own = isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            (own if is_own else read).add(node.attr)
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"getattr", "setattr", "hasattr"}
        ):
            read.update(str(part.value) for part in node.args[1:2] if isinstance(part, ast.Constant))
    return {name for name in read - own - {"_replace"} if re.match("_[a-z]", name)}  # a documented method of named tuples
