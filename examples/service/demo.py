"""The demo's data: Lifeline with a history of 60 days, and Acme, which has nothing yet."""

import asyncio
from pathlib import Path

from derwin_db import Database, migrations, repos
from derwin_db.deploy.migrations import upgrade_service
from derwin_db.deploy.targets import owner_connection
from derwin_db.fields.scalars import project_id_of
from derwin_db.models import ProjectCreate, ProjectType
from derwin_db.seed import seed_demo, seed_lifeline

CHAIN = Path(__file__).with_name("alembic.ini")
"""The service's own revisions: its table of webhooks."""


async def prepare() -> None:
    """Migrate and seed the database that the settings name, or the embedded one. Idempotent, whatever projects are there."""
    owner = await asyncio.to_thread(owner_connection)
    settings = migrations.MigrationSettings(owner)
    await asyncio.to_thread(migrations.upgrade, settings)
    await asyncio.to_thread(upgrade_service, settings, CHAIN)
    async with Database() as db:
        await fill(db)


async def fill(db: Database) -> None:
    """Write both projects and the history. Idempotent too."""
    await seed_lifeline(db)
    await seed_demo(db)
    async with db.admin(reason="demo") as admin:
        if not await repos.projects.exists(admin, project_id_of("acme")):
            await repos.projects.create(admin, ProjectCreate(slug="acme", name="Acme", type=ProjectType.ECOMMERCE))
