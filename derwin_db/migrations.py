"""Migrations for services that migrate at their start, or in a script of their own. Public.

    from derwin_db.migrations import MigrationSettings, upgrade

    await asyncio.to_thread(upgrade, MigrationSettings(connection))

The calls block. How they work lives in `derwin_db.deploy.migrations`, which is not public.
"""

from derwin_db.deploy.migrations import MigrationSettings, MigrationStatus, check, downgrade, status, upgrade

__all__ = ["MigrationSettings", "MigrationStatus", "check", "downgrade", "status", "upgrade"]
