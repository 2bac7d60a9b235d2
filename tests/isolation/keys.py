"""Fence 3 alone: rows that refer across projects, written by the owner, for whom nothing else holds (family 5)."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import asyncpg
import sqlalchemy as sa

from derwin_db.query.builders import table_of
from derwin_db.testing.filling import models_by_table
from tests.isolation.arena import Arena
from tests.isolation.damage import key_damage
from tests.isolation.texts import NEW
from tests.isolation.units import Script

ABSENT = UUID("01900000-0000-7000-8000-00000000dcba")


def references() -> Iterator[tuple[str, sa.ForeignKeyConstraint]]:
    """Yield every foreign key between project-scoped tables."""
    for table, model in models_by_table().items():
        for key in sorted(table_of(model).foreign_key_constraints, key=lambda key: str(key.name)):
            if key.referred_table.name != "projects":
                yield table, key


def as_owner(table: str, key: sa.ForeignKeyConstraint, form: str) -> Any:
    column = next(element.parent.name for element in key.elements if element.parent.name != "project_id")
    target = key.referred_table.name

    async def run(arena: Arena) -> None:
        outcomes = []
        for parent in (arena.b.ids(target)[0], ABSENT):
            transaction = arena.shared.owner.transaction()
            await transaction.start()
            try:
                await arena.shared.owner.execute(_child(arena, table, column, parent, form))
                outcomes.append("accepted")
            except asyncpg.ForeignKeyViolationError as error:
                outcomes.append(f"{error.constraint_name}: {error.message}")
            except asyncpg.PostgresError as error:
                outcomes.append(f"{error.sqlstate}: {error.message}")
            finally:
                await transaction.rollback()
        assert outcomes[0] == outcomes[1], f"B's row and an absent one can be told apart: {outcomes}"
        assert "accepted" not in outcomes[0], f"{table}.{column} takes a row of B"

    return run


def _child(arena: Arena, table: str, column: str, parent: Any, form: str) -> str:
    names = [one.name for one in table_of(models_by_table()[table]).c]
    own = arena.a.rows[table][0]
    if form == "insert":
        changed = {column: f"'{parent}'::uuid", "id": f"'{NEW}'::uuid"}
        if "to_version" in names:
            changed["to_version"] = "99"
        if "attempt_no" in names:
            changed["attempt_no"] = "99"
        if "fingerprint" in names and table == "raw_signals":
            changed["fingerprint"] = "'another'"
        values = ", ".join(changed.get(name, name) for name in names)
        return f"INSERT INTO public.{table} ({', '.join(names)}) SELECT {values} FROM public.{table} WHERE id = '{own.id}'"
    if form == "update":
        return f"UPDATE public.{table} SET {column} = '{parent}' WHERE id = '{own.id}'"
    held = f"SELECT id FROM public.{table} WHERE project_id = '{arena.a.project_id}' AND {column} IS NOT NULL LIMIT 1"
    elsewhere = arena.b.project_id if parent != ABSENT else ABSENT
    return f"UPDATE public.{table} SET project_id = '{elsewhere}' WHERE id = ({held})"


def key_scripts() -> Iterator[Script]:
    for table, key in references():
        for form in ("insert", "update"):
            yield Script(5, f"{form} through {key.name}, as the owner", as_owner(table, key, form))


async def keys_caught(arena: Arena) -> dict[str, str | None]:
    """Take each key away, then the project out of it, and return which attack notices. All of it is undone."""
    found: dict[str, str | None] = {}
    scripts = list(key_scripts())
    names = tuple(f"{key.name} is " for _, key in references())
    for damage in key_damage():
        if damage.name.startswith(names):
            transaction = arena.shared.owner.transaction()
            await transaction.start()
            try:
                for statement in damage.statements:
                    await arena.shared.owner.execute(statement)
                tried = [one for one in scripts if f"through {damage.name.split()[0]}," in one.name]
                found[damage.name] = await _first_accepted(arena, tried)
            finally:
                await transaction.rollback()
    return found


async def _first_accepted(arena: Arena, scripts: list[Script]) -> str | None:
    for script in scripts:
        try:
            await script.run(arena)
        except AssertionError:
            return script.title
    return None
