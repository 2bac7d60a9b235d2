"""Fields of columns: how a model says that a column is optional, has a default, holds an enumeration or JSON.

A required column needs none of these: its alias in `derwin_db.fields.scalars` carries the column type and the CHECK.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, get_args

import sqlalchemy as sa
from sqlmodel import Field


def nullable(alias: Any) -> Any:
    """Return the field of a column of this alias that may be NULL, and is unless it is given."""
    return _column_field(alias, default=None)


def with_default(alias: Any, *, default: Any, server_default: str) -> Any:
    """Return the field of a NOT NULL column of this alias with a default, in Python and in the database."""
    return _column_field(alias, default=default, sa_column_kwargs={"server_default": sa.text(server_default)})


def _column_field(alias: Any, *, default: Any, sa_column_kwargs: dict[str, Any] | None = None) -> Any:
    carrier = next(meta for meta in get_args(alias)[1:] if _is_set(getattr(meta, "sa_type", None)))
    kwargs = dict(carrier.sa_column_kwargs) if _is_set(carrier.sa_column_kwargs) else {}
    return Field(default=default, sa_type=carrier.sa_type, sa_column_kwargs={**kwargs, **(sa_column_kwargs or {})})


def as_json(sa_type: Any, default_factory: Callable[[], Any], *, server_default: str | None = "{}") -> Any:
    """Return the field of a JSONB column that is empty unless it is given."""
    kwargs = {"server_default": sa.text(f"'{server_default}'")} if server_default is not None else {}
    return Field(default_factory=default_factory, sa_type=sa_type, sa_column_kwargs=kwargs)


def _is_set(value: Any) -> bool:
    return value is not None and type(value).__name__ != "PydanticUndefinedType"


def choice(kind: type[StrEnum], **default: StrEnum | None) -> Any:
    """Return the field of an enumeration: `varchar` with a named CHECK, so that a new value is a cheap migration.

    Required: `Annotated[Severity, choice(Severity)]`; else `= choice(Severity, default=...)`.
    """
    labels = ", ".join(f"'{_in_a_check(value)}'" for value in _values(kind))
    kwargs: dict[str, Any] = {"info": {"check": f"{{0}} IN ({labels})"}}
    if (value := default.get("default")) is not None:
        kwargs["server_default"] = value.value
    sa_type: Any = sa.Enum(kind, native_enum=False, length=32, create_constraint=False, values_callable=_values)
    options: dict[str, Any] = dict(default)
    return Field(**options, sa_type=sa_type, sa_column_kwargs=kwargs)


def _values(kind: type[StrEnum]) -> list[str]:
    """Return what is stored of each member: SQLAlchemy takes their names unless it is told."""
    return [member.value for member in kind]


def _in_a_check(label: str) -> str:
    """Return the label inside of a literal of SQL, inside of a text that is formatted."""
    return label.replace("'", "''").replace("{", "{{").replace("}", "}}")


def timestamp() -> Any:
    """Return the field of a point in time that a repository sets; NULL until then."""
    return Field(default=None, sa_type=sa.DateTime(timezone=True))


def timestamp_now() -> Any:
    """Return the field of a point in time that is the database's now() unless the repository sets it."""
    return Field(
        default=None,
        sa_type=sa.DateTime(timezone=True),
        sa_column_kwargs={"server_default": sa.text("now()")},
    )


def unset() -> Any:
    """Return the field of an update that leaves the column untouched unless it is given."""
    return Field(default_factory=lambda: None)
