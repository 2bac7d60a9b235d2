"""Damage to the database, as `doctor` and a service's start see it: inside of a transaction that is rolled back."""

from collections.abc import Sequence

import asyncpg

from derwin_db.connection.facts import read_facts
from derwin_db.doctor.fences import check_fences
from derwin_db.doctor.server import look_at_schema
from derwin_db.errors import IsolationNotEnforced
from derwin_db.isolation.catalog.standing import missing_fences
from derwin_db.testing import TestDatabase
from tests.isolation.damage import Damage


async def noticed(owner: asyncpg.Connection, database: TestDatabase, damage: Damage) -> list[str]:
    """Do the damage, and return the checks that are not well; `start` is among them where a service refuses to start."""
    transaction = owner.transaction()
    await transaction.start()
    try:
        for statement in damage.statements:
            names = {"service": database.service.user, "database": f'"{database.owner.database}"'}
            await owner.execute(statement.format(**names) if "$$" not in statement else statement)
        await owner.execute("SET LOCAL search_path = pg_catalog")
        schema = await look_at_schema(owner)
        assert schema is not None
        found = [check.name for check in await check_fences(owner, database.service.user, schema) if not check.ok]
        return found + (["start"] if await refuses_to_start(owner) else [])
    finally:
        await transaction.rollback()


async def refuses_to_start(owner: asyncpg.Connection) -> bool:
    """Tell what `Database.start` makes of it: it looks as derwin_app."""
    form = (await read_facts(owner)).scope
    await owner.execute("SET LOCAL ROLE derwin_app")
    return bool(await missing_fences(owner, form))


async def unnoticed(owner: asyncpg.Connection, database: TestDatabase, damages: Sequence[Damage]) -> list[str]:
    """Return the damage that the check which is to find it does not find, or on which a service would start."""
    missed = []
    for damage in damages:
        found = await noticed(owner, database, damage)
        if damage.check not in found:
            missed.append(f"{damage.name}: {damage.check} says that all is well")
        if damage.at_start and "start" not in found:
            missed.append(f"{damage.name}: {IsolationNotEnforced.__name__} is not raised at start")
    return missed
