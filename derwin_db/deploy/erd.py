"""The entity-relationship diagram, in Mermaid, from the tables themselves."""

import sqlalchemy as sa
from sqlmodel import SQLModel

import derwin_db.models  # noqa: F401  # fills the metadata
from derwin_db.sql import PROJECT_TABLES

_SHORT = {"timestamp with time zone": "timestamptz", "double precision": "float8"}


def diagram() -> str:
    """Return the diagram of all 14 tables. What every project table has (project_id, id, times) is left out."""
    tables = [SQLModel.metadata.tables[f"public.{name}"] for name in ("projects", *PROJECT_TABLES)]
    lines = ["erDiagram"]
    for table in tables:
        lines.append(f"    {table.name} {{")
        lines += [
            f"        {_type(column)} {column.name}{_key(table, column)}" for column in table.columns if _is_shown(column)
        ]
        lines.append("    }")
    for table in tables:
        lines += sorted(_relations(table))
    return "\n".join(lines) + "\n"


def _is_shown(column: sa.Column[object]) -> bool:
    return column.name not in ("project_id", "created_at", "updated_at") and not (
        column.name == "id" and column.table.name != "projects"
    )


def _type(column: sa.Column[object]) -> str:
    name = str(column.type.compile()).lower() if not hasattr(column.type, "shape") else "jsonb"
    base = _SHORT.get(name, name).partition("(")[0]
    return {"datetime": "timestamptz", "char": "uuid", "double": "float8", "varchar": "enum"}.get(base, base)


def _key(table: sa.Table, column: sa.Column[object]) -> str:
    if column.primary_key:
        return " PK"
    if any(column.name in constraint.column_keys for constraint in table.foreign_key_constraints):
        return " FK"
    unique = [c for c in table.constraints if isinstance(c, sa.UniqueConstraint)]
    return " UK" if any(column.name in constraint.columns for constraint in unique) else ""


def _relations(table: sa.Table) -> set[str]:
    """One line a foreign key: solid where the row goes with what it refers to."""
    lines = set()
    for constraint in table.foreign_key_constraints:
        column = constraint.column_keys[-1]
        line = "--" if constraint.ondelete == "CASCADE" else ".."
        many = "o{" if not (table.name == "project_profiles" and column == "project_id") else "o|"
        lines.add(f"    {constraint.referred_table.name} ||{line}{many} {table.name} : {column}")
    return lines
