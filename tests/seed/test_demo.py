"""The demo's data: written once, however often it is asked for."""

from derwin_db import Database, repos, sql
from derwin_db.seed import LIFELINE, seed_demo, seed_lifeline


async def counts(db: Database) -> dict[str, int]:
    async with db.project(LIFELINE, read_only=True) as session:
        return {table: await getattr(repos, table).count(session) for table in sql.PROJECT_TABLES}


async def test_again_adds_nothing_and_learns_nothing(own_db: Database) -> None:
    await seed_lifeline(own_db)
    await seed_demo(own_db)
    first = await counts(own_db)
    async with own_db.project(LIFELINE) as session:
        profile = await repos.project_profiles.current(session)
    await seed_demo(own_db)
    assert await counts(own_db) == first
    assert first["profile_evolution_logs"] > 1
    async with own_db.project(LIFELINE) as session:
        assert await repos.project_profiles.current(session) == profile
