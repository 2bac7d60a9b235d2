"""Foreign keys of a service's own classes to tables of ours: what to write instead of an id that is no key by itself."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.orm import Mapper

from derwin_db.errors import ConfigurationError
from derwin_db.fields.table import OWN, SCHEMA
from derwin_db.sql import PROJECT_TABLES

_REFERRED = frozenset({"projects", *PROJECT_TABLES})


@event.listens_for(Mapper, "before_mapper_configured")
def _explain(mapper: Mapper[Any], _: type) -> None:
    """Look at the foreign keys of each mapped class of the service, where the ORM would fail, or the database would later."""
    table = mapper.local_table
    if isinstance(table, sa.Table) and mapper.registry is not OWN:
        for key in table.foreign_keys:
            if not is_whole(key):
                refuse_half_a_key(table, key)


def is_whole(key: sa.ForeignKey) -> bool:
    """Tell whether the key leads to a table, and not to an id of ours alone."""
    is_alone = key.constraint is not None and len(key.constraint.elements) == 1
    try:
        target = key.column.table
    except NoReferenceError:  # by its name, in other metadata
        return not is_alone
    return not (is_alone and target.name in PROJECT_TABLES and target.metadata is OWN.metadata and target.schema == SCHEMA)


def refuse_half_a_key(table: sa.Table, key: sa.ForeignKey) -> None:
    """Refuse a reference to a row of ours by its id alone; let others pass.

    Errors:
        ConfigurationError.
    """
    *schema, name = key.target_fullname.split(".")[:-1]
    if name not in _REFERRED or (schema or [SCHEMA]) != [SCHEMA] or (name == "projects" and schema):
        return
    column = key.parent.name
    if name == "projects":
        raise ConfigurationError(f"{table.name}.{column}: write foreign_key='{SCHEMA}.projects.id'.")
    target = next(found.class_.__name__ for found in OWN.mappers if found.local_table.name == name)  # type: ignore[attr-defined]
    raise ConfigurationError(
        f"{table.name}.{column}: the key of derwin-db's {name} is project_id and id. Derive the class from "
        f"derwin_db.tables.ProjectTable and write `{column}: Id = references({target})`; or give it a ForeignKeyConstraint("
        f"['project_id', '{column}'], ['{SCHEMA}.{name}.project_id', '{SCHEMA}.{name}.id'])."
    )
