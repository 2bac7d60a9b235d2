"""The demo's data: Lifeline with a history of 60 days, and Acme, which has nothing yet."""

import asyncio

from derwin_db import Database, migrations, repos
from derwin_db.deploy.targets import owner_connection
from derwin_db.fields.scalars import project_id_of
from derwin_db.models import ProjectCreate, ProjectType
from derwin_db.seed import seed_demo, seed_lifeline


async def prepare() -> None:
    """Migrate and seed the database that the settings name, or the embedded one. Idempotent, whatever projects are there."""
    owner = await asyncio.to_thread(owner_connection)
    await asyncio.to_thread(migrations.upgrade, migrations.MigrationSettings(owner))
    async with Database() as db:
        await seed_lifeline(db)
        await seed_demo(db)
        async with db.admin(reason="demo") as admin:
            if not await repos.projects.exists(admin, project_id_of("acme")):
                await repos.projects.create(admin, ProjectCreate(slug="acme", name="Acme", type=ProjectType.ECOMMERCE))
