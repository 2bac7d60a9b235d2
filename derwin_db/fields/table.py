"""What all tables share: base classes, column types of our own, names of constraints and indexes.

Every project-scoped table has the key `(project_id, id)`, and every key, unique constraint and btree index of it begins
with `project_id`: fence 3. Names leave out `project_id` and the referred table, and stay within 50 characters.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import ValidationError, core_schema, from_json
from sqlalchemy import event
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import declared_attr, registry
from sqlalchemy.orm.base import instance_state
from sqlalchemy.orm.state import InstanceState
from sqlmodel import Field, SQLModel
from sqlmodel._compat import SQLModelConfig

from derwin_db.fields.columns import timestamp_now
from derwin_db.fields.described import Described
from derwin_db.fields.reading import read_model
from derwin_db.fields.scalars import new_id
from derwin_db.sql import PROJECT_TABLES

SCHEMA = "public"
"""Schema of all tables. Statements name it: a temporary table may not step in front of a real one."""

MAX_NAME_LENGTH = 50

_PREPARER = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]  # SQLAlchemy's

VERSIONED = ("projects", "project_profiles", "qa_tickets")
"""Tables whose rows have a version that every change raises. (Of a policy the version is what it is called by.)"""


class PydanticJson(sa.TypeDecorator[Any]):
    """A JSONB column that holds one Pydantic shape: validated when written, rebuilt when read.

    `shape` is whatever `TypeAdapter` takes: a model, a list of models, `dict[str, float]`.
    """

    impl: Any = JSONB
    cache_ok: bool | None = True

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.shape = shape
        self._adapter: TypeAdapter[Any] | None = None

    @property
    def adapter(self) -> TypeAdapter[Any]:
        if self._adapter is None:
            self._adapter = TypeAdapter(self.shape)
        return self._adapter

    @property
    def read(self) -> Callable[[str], Any]:
        """Return what makes the shape of a stored text.

        A value that SQL of a caller wrote in another shape is returned as the plain JSON that it is: one row that does not fit
        is no reason to read none.
        """
        validate = self.adapter.validator.validate_json

        def read(text: str) -> Any:
            try:
                return validate(text)
            except ValidationError:
                return json.loads(text)

        return read

    def bind_processor(self, dialect: Dialect) -> Any:  # noqa: ARG002  # SQLAlchemy\'s signature
        dump = self.adapter.serializer.to_json

        def process(value: Any) -> str | None:
            # warnings="error": a value that was changed past its validation is refused, and not printed by a warning
            return None if value is None else dump(value, by_alias=True, warnings="error").decode()

        return process

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:  # noqa: ARG002
        read = self.read

        def process(value: Any) -> Any:
            return None if value is None else read(value)

        return process

    def __repr__(self) -> str:
        return "JSONB()"


class JsonModel(Described, BaseModel):
    """Base of the models inside JSON columns: known fields only, no values in errors."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", hide_input_in_errors=True, populate_by_name=True)


def _config(**options: Any) -> Any:
    """Return a Pydantic configuration; SQLModel declares a type of its own for it."""
    return options


class Fields(Described, SQLModel):
    """Base of the fields that a table and its XCreate share: known fields only, no values in errors."""

    model_config: ClassVar[SQLModelConfig] = _config(extra="forbid", hide_input_in_errors=True)


class Input(Fields):
    """Base of XCreate and XUpdate: what is assigned later is checked too."""

    model_config: ClassVar[SQLModelConfig] = _config(validate_assignment=True)


OWN = registry(metadata=SQLModel.metadata)
"""The table classes of this package. A service may give its own classes any names: relationships by name look elsewhere."""


class Table(Described, SQLModel, registry=OWN):
    """Base of all table classes: read-only faces of rows. Reading one validates nothing; input goes through XCreate.

    A row that a repository returned is detached: assigning to it changes nothing in the database. `update` and the verbs of its
    repository do, or `session.sql.add(row)`.
    """

    model_config: ClassVar[SQLModelConfig] = _config(json_schema_serialization_defaults_required=True)

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805  # SQLAlchemy calls it with the class
        """Have the ORM of `session.sql` raise and compare versions, and read what the database computed."""
        versioned = {"version_id_col": cls.version} if cls.__tablename__ in VERSIONED else {}  # type: ignore[attr-defined]
        return {"eager_defaults": True, **versioned}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
        """Have what is no row yet (a dict, JSON) checked like an input, wherever a row is wanted in another model."""
        schema = handler(source)
        if not cls.model_config.get("table"):
            return schema
        name = f"{cls.__module__}.{cls.__qualname__}:{id(cls)}"  # one description of it, however often it is used
        return core_schema.no_info_wrap_validator_function(lambda value, _: cls._checked(value), schema, ref=name)

    @classmethod
    def _checked(cls, value: Any) -> Self:
        """Return the row itself, or one made of checked values."""
        table: Any = cls
        return value if isinstance(value, cls) else cls(**dict(read_model(table).model_validate(value)))

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Return a row of this JSON, all its values checked."""
        if not cls.model_config.get("table"):
            return super().model_validate_json(json_data, **options)
        return cls._checked(from_json(json_data))

    @classmethod
    def model_validate(cls, obj: Any, *, update: dict[str, Any] | None = None, **options: Any) -> Self:
        """Return a row with these values, all of them checked."""
        if not cls.model_config.get("table"):
            return super().model_validate(obj, update=update, **options)
        if update is None:
            return cls._checked(obj)
        present = obj if isinstance(obj, dict) else {name: getattr(obj, name) for name in cls.model_fields}
        return cls._checked({**present, **update})

    def __copy__(self) -> Self:
        """Return a twin with a state of its own: one that is shared dies with the first of both."""
        twin = super().__copy__()
        state = instance_state(self)
        own = InstanceState(twin, state.manager)
        own.key, own.modified = state.key, state.modified
        own.info.update(state.info)
        own.committed_state.update(state.committed_state)
        object.__setattr__(twin, "_sa_instance_state", own)
        return twin


class ProjectTable(Table):
    """A row of one project. Its key is `(project_id, id)`; the repository sets both."""

    project_id: UUID = Field(default=None, sa_type=sa.Uuid, primary_key=True)
    id: UUID = Field(
        default_factory=new_id,
        sa_type=sa.Uuid,
        primary_key=True,
        sa_column_kwargs={"server_default": sa.text("derwin_uuid7()")},
    )


class Created(SQLModel):
    """When the row was written, by the database's clock: the start of its transaction; of the two logs, the moment itself."""

    created_at: datetime = timestamp_now()


class Changing(Created):
    """A row that changes: when it last did, by the database's clock."""

    updated_at: datetime = timestamp_now()


def name_of(kind: str, table: str, columns: Sequence[str]) -> str:
    """Return the name of a constraint or index: `<kind>_<table>_<columns>`, without project_id."""
    name = "_".join([kind, table, *(column.split()[0] for column in columns if column != "project_id")])
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"{name} has more than {MAX_NAME_LENGTH} characters")
    return name


def primary_key(table: str) -> sa.PrimaryKeyConstraint:
    """Return the key `(project_id, id)`."""
    return sa.PrimaryKeyConstraint("project_id", "id", name=f"pk_{table}")


def unique(table: str, *columns: str) -> sa.UniqueConstraint:
    """Return a unique constraint within the project."""
    return sa.UniqueConstraint("project_id", *columns, name=name_of("uq", table, columns))


def owned_by_project(table: str) -> sa.ForeignKeyConstraint:
    """Return the foreign key to the project: the row goes with it."""
    return sa.ForeignKeyConstraint(["project_id"], [f"{SCHEMA}.projects.id"], name=f"fk_{table}_project_id", ondelete="CASCADE")


def reference(table: str, column: str, target: str, *, ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    """Return a composite foreign key to a row of the same project. Without `ondelete` it refuses (NO ACTION)."""
    return sa.ForeignKeyConstraint(
        ["project_id", column],
        [f"{SCHEMA}.{target}.project_id", f"{SCHEMA}.{target}.id"],
        name=name_of("fk", table, [column]),
        ondelete=ondelete,
    )


def index(table: str, *columns: str, where: str | None = None, unique: bool = False) -> sa.Index:
    """Return a btree index that begins with project_id. A column may say its order: `"created_at DESC"`.

    `"fingerprint text_pattern_ops"` serves `=` as ever, and the prefixes of texts in any collation.
    """
    ops = {column.split()[0]: "text_pattern_ops" for column in columns if column.endswith(" text_pattern_ops")}
    plain = [column.removesuffix(" text_pattern_ops") for column in columns]
    parts = [sa.text(_ordered(column)) if " " in column else column for column in plain]
    options: dict[str, Any] = {"postgresql_where": sa.text(where)} if where else {}
    if ops:
        options["postgresql_ops"] = ops
    return sa.Index(name_of("uq" if unique else "ix", table, columns), "project_id", *parts, unique=unique, **options)


def _ordered(column: str) -> str:
    name, order = column.split(" ", 1)
    return f"{_quoted(name)} {order}"


def paged(table: str, *columns: str) -> sa.Index:
    """Return the index behind `list` with these filters: newest first, both columns descending for the row comparison."""
    return index(table, *columns, "created_at DESC", "id DESC")


GROWING = {"autovacuum_vacuum_insert_scale_factor": 0.05, "autovacuum_analyze_scale_factor": 0.02}
"""Storage settings of a table that only grows: autovacuum comes at a twentieth, so that counts go on without the heap.

Source: benchmarks/retention.py, docs/explanation/scale.md.
"""

TURNING_OVER = {"autovacuum_vacuum_scale_factor": 0.02, **GROWING}
"""Storage settings of a table whose rows come and go: autovacuum comes at a fiftieth, a day's rows, and not at a fifth."""


TIME_CHECK = "{0} > '0001-01-01 00:00:00+00' AND {0} < '9999-12-31 23:59:59.999999+00'"
"""What a time may be: the server's own go from 4713 BC to 294276, and to infinity, the client's from year 1 to 9999."""

JSON_CHECK = (
    "NOT jsonb_path_exists({0}, 'strict $.**{{100 to last}}') "
    "AND NOT jsonb_path_exists({0}, 'strict $.** ? (@ > 1e300 || @ < -1e300)', '{{}}', true) "
    "AND pg_column_size({0}) <= 16777216"
)
"""What JSON may be, whoever writes it: as deep, as large, and with numbers as every reader takes them. The package's own bounds
are narrower (`JsonObject`)."""

TEXT_CHECK = "octet_length({0}) <= 4000000"
"""How long a text without a CHECK of its own may be, whoever writes it: a million characters."""


@event.listens_for(sa.Table, "after_parent_attach")
def _finish(table: sa.Table, metadata: sa.MetaData) -> None:
    """Finish a table of ours: name its CHECKs, and leave defaults to the database.

    A default on the Python side would add a value to statements that did not mention the column.
    """
    if metadata is not OWN.metadata or table.schema != SCHEMA or table.name not in ("projects", *PROJECT_TABLES):
        return  # a table of a service, maybe of the same name in another schema, or a copy that Alembic made
    finish_columns(table)


def finish_columns(table: sa.Table) -> None:
    """Name the CHECKs of a table's columns, and leave defaults to the database."""
    for column in table.columns:
        column.default = None
        check = column.info.get("check") or _check_of(column.type)
        if check is not None:
            name = name_of("ck", table.name, [column.name])
            table.append_constraint(sa.CheckConstraint(check.format(_quoted(column.name)), name=name))


def _quoted(column: str) -> str:
    """Return the name as SQL has it: `user` without quotes is the role that asks, and `dueAt` is another column."""
    return _PREPARER.quote(column)


def _check_of(kind: Any) -> str | None:
    """Return the CHECK of a type whose values the server takes further than they can be read back."""
    if isinstance(kind, sa.DateTime):
        return TIME_CHECK
    if isinstance(kind, PydanticJson):
        return JSON_CHECK
    return TEXT_CHECK if type(kind) is sa.Text else None
