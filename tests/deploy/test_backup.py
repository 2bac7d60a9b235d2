"""Dumps are whole: by the backup login, restored elsewhere, sealed with a new key. An ordinary owner's dump is refused."""

import asyncio
import os
import subprocess
from dataclasses import replace

from derwin_db import Database, repos
from derwin_db.cli.psql import environment_of
from derwin_db.deploy import embedded
from derwin_db.deploy.logins import create_backup_login, create_logins, take_temporary_from_public
from derwin_db.deploy.rotation import rotate_key
from derwin_db.seed import LIFELINE, seed_demo, seed_lifeline
from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestDatabase

from .catalog import catalog
from .conftest import ServerOf, ordinary_owner, run_sql


def client(program: str, connection: ConnectionInfo, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [embedded.client_program(program), *arguments],
        env={**os.environ, **environment_of(connection)},
        input=stdin,
        capture_output=True,
        check=False,
    )


async def as_owner(connection: ConnectionInfo, work: object) -> object:
    import asyncpg

    opened = await asyncpg.connect(**connection.connect_arguments())
    try:
        return await work(opened)
    finally:
        await opened.close()


async def fill(database: TestDatabase) -> None:
    async with Database(**database.urls) as db:
        await seed_lifeline(db)
        await seed_demo(db)


async def tickets_of(database: TestDatabase) -> list[object]:
    async with Database(**database.urls) as db, db.project(LIFELINE) as session:
        return [row.id async for row in repos.qa_tickets.stream(session)]


def without_check_texts(connection: ConnectionInfo) -> dict[str, list[str]]:
    """The catalog; a restore parses each CHECK anew, and the server prints the same condition with other parentheses."""
    seen = catalog(connection)
    return {**seen, "constraints": [line.partition("CHECK (")[0] for line in seen["constraints"]]}


class TestBackup:
    def test_a_dump_by_the_backup_login_is_whole_and_serves_after_a_restore(self, server_of: ServerOf) -> None:
        server = server_of("18")
        source, target = server.migrated(), server.empty()
        asyncio.run(fill(source))
        asyncio.run(as_owner(source.owner, lambda c: create_backup_login(c, login="derwin_test_backup", password="b")))
        backup = replace(source.owner, user="derwin_test_backup", password="b")
        dump = client("pg_dump", backup, "--format=custom")
        assert dump.returncode == 0, dump.stderr
        restored = client("pg_restore", target.owner, "--exit-on-error", "--dbname", target.owner.database, stdin=dump.stdout)
        assert restored.returncode == 0, restored.stderr
        logins = {"service": target.service.user, "operator": target.operator.user}
        asyncio.run(as_owner(target.owner, lambda c: create_logins(c, **logins)))
        asyncio.run(as_owner(target.owner, rotate_key))
        assert without_check_texts(target.owner) == without_check_texts(source.owner)
        assert asyncio.run(tickets_of(target)) == asyncio.run(tickets_of(source))
        keys = [run_sql(one.owner, "SELECT inner_pad FROM derwin.scope_key")[0][0] for one in (source, target)]
        assert keys[0] != keys[1]

    def test_privileges_on_the_database_itself_are_in_shape_again(self, server_of: ServerOf) -> None:
        target = server_of("18").empty()
        query = "SELECT has_database_privilege('derwin_app', current_database(), 'TEMPORARY')"
        run_sql(target.owner, f'GRANT TEMPORARY ON DATABASE "{target.owner.database}" TO PUBLIC', "SELECT 1")
        assert run_sql(target.owner, query)[0][0] is True
        asyncio.run(as_owner(target.owner, take_temporary_from_public))
        assert run_sql(target.owner, query)[0][0] is False

    def test_a_dump_by_an_ordinary_owner_is_refused_not_partial(self, server_of: ServerOf) -> None:
        settings = ordinary_owner(server_of, "dumping_owner", with_extension=True)
        from derwin_db.deploy.migrations import upgrade

        upgrade(settings)
        dump = client("pg_dump", settings.connection)
        assert dump.returncode != 0
        assert b"row-level security" in dump.stderr
