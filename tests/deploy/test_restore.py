"""Both backups of docs/how-to/backups.md, restored on servers that are new: whole, fenced, readable, and well by the doctor."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from derwin_db import Database, repos
from derwin_db.cli.psql import environment_of
from derwin_db.deploy import embedded
from derwin_db.deploy.logins import create_backup_login, create_logins, take_temporary_from_public
from derwin_db.deploy.rotation import rotate_key
from derwin_db.doctor import examine
from derwin_db.errors import NotFound
from derwin_db.fields.scalars import project_id_of
from derwin_db.isolation.catalog.tables import TABLES
from derwin_db.models import ProjectCreate, ProjectType
from derwin_db.seed import LIFELINE, seed_demo, seed_lifeline
from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.factories import create_ticket
from derwin_db.testing.folder import server_folder

from .conftest import run_sql
from .servers import Run, bare
from .test_backup import as_owner

pytestmark = pytest.mark.long

PROGRAMS = embedded.client_program("psql").parent


@dataclass(frozen=True)
class Source:
    """A server with two projects, and what is asked of each copy of it."""

    administrator: ConnectionInfo
    database: TestDatabase
    ticket: object
    """Of the second project."""

    def on(self, administrator: ConnectionInfo) -> TestDatabase:
        """The same database with the same logins on another server."""
        place = {"host": administrator.host, "port": administrator.port}
        return TestDatabase(*(replace(one, **place) for one in vars(self.database).values()))


@pytest.fixture(scope="module")
def source(server: TestServer) -> Iterator[Source]:
    """It comes after the server of all tests, whose system user it needs."""
    with new_server("derwin-backed-up-") as administrator:
        database = TestServer(administrator).migrated()
        yield Source(administrator, database, asyncio.run(fill(database)))


@contextmanager
def new_server(name: str, **options: object) -> Iterator[ConnectionInfo]:
    with server_folder(name) as folder, bare(PROGRAMS, folder, **options) as administrator:
        yield administrator


async def fill(database: TestDatabase) -> object:
    async with Database(**database.urls) as db:
        await seed_lifeline(db)
        await seed_demo(db)
        async with db.admin(reason="a test") as admin:
            await repos.projects.create(admin, ProjectCreate(slug="acme", name="Acme", type=ProjectType.CRM))
        async with db.project("acme") as session:
            return (await create_ticket(session)).id


def client(program: str, connection: ConnectionInfo, *arguments: str, stdin: bytes = b"") -> bytes:
    environment = {**os.environ, **environment_of(connection)}
    result = subprocess.run([PROGRAMS / program, *arguments], env=environment, input=stdin, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def roles_of(administrator: ConnectionInfo) -> list[tuple[object, ...]]:
    """The logins and roles with their password verifiers, what they are, and what they may become."""
    query = """
    SELECT r.rolname, r.rolpassword, r.rolsuper, r.rolbypassrls, r.rolinherit, r.rolcanlogin, (
        SELECT string_agg(g.rolname || m.inherit_option || m.set_option, ',' ORDER BY g.rolname)
        FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid
    ) FROM pg_authid r WHERE r.rolname LIKE 'derwin%' ORDER BY 1
    """
    return [tuple(row) for row in run_sql(administrator, query)]


def counts_of(owner: ConnectionInfo) -> dict[str, object]:
    return {
        name: run_sql(owner, f"SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM public.{name} t")[0]
        for name in TABLES
    }


def key_of(owner: ConnectionInfo) -> object:
    return run_sql(owner, "SELECT inner_pad FROM derwin.scope_key")[0][0]


async def check_serves(database: TestDatabase, ticket: object) -> None:
    """Read and write in one project; see nothing of the other one."""
    async with Database(**database.urls) as db:
        async with db.project("acme") as session:
            assert [row.id async for row in repos.qa_tickets.stream(session)] == [ticket]
            await create_ticket(session)
        async with db.project(LIFELINE) as session:
            assert await repos.qa_tickets.count(session) > 1
            with pytest.raises(NotFound):
                await repos.qa_tickets.get(session, ticket)


def check_is_well(database: TestDatabase, ticket: object) -> None:
    report = asyncio.run(examine(database.service, owner=database.owner))
    assert report.ok, [check for check in report.checks if not check.ok]
    asyncio.run(check_serves(database, ticket))


class TestLogical:
    def test_roles_and_database_on_a_new_server(self, source: Source) -> None:
        owner = source.database.owner
        asyncio.run(as_owner(owner, lambda c: create_backup_login(c, login="derwin_backup", password="b")))
        roles = client("pg_dumpall", source.administrator, "--roles-only")
        dump = client("pg_dump", replace(owner, user="derwin_backup", password="b"), "--format=custom")
        with new_server("derwin-restored-") as administrator:
            target = source.on(administrator)
            client("psql", administrator, "--quiet", stdin=roles)
            client("createdb", administrator, owner.database)
            client("pg_restore", target.owner, "--exit-on-error", "--dbname", owner.database, stdin=dump)
            assert key_of(target.owner) == key_of(owner)

            asyncio.run(as_owner(target.owner, take_temporary_from_public))  # what `roles create --no-passwords` does
            logins = {"service": target.service.user, "operator": target.operator.user}
            asyncio.run(as_owner(target.owner, lambda c: create_logins(c, **logins)))
            asyncio.run(as_owner(target.owner, rotate_key))

            assert roles_of(administrator) == roles_of(source.administrator)
            assert counts_of(target.owner) == counts_of(owner)
            assert key_of(target.owner) != key_of(owner)
            check_is_well(target, source.ticket)

    def test_without_the_roles_nothing_is_restored(self, source: Source) -> None:
        dump = client("pg_dump", source.database.owner, "--format=custom")
        with new_server("derwin-restored-") as administrator:
            environment = {**os.environ, **environment_of(administrator)}
            command = [PROGRAMS / "pg_restore", "--exit-on-error", "--single-transaction", "--dbname", "postgres"]
            result = subprocess.run(command, env=environment, input=dump, capture_output=True, check=False)
            assert (result.returncode, b'role "derwin_' in result.stderr) == (1, True)


class TestPhysical:
    def test_a_base_backup_starts_with_roles_and_key(self, source: Source) -> None:
        with new_server("derwin-copied-", made_by=lambda run, _: base_backup(run, source)) as administrator:
            target = source.on(administrator)
            assert roles_of(administrator) == roles_of(source.administrator)
            assert counts_of(target.owner) == counts_of(source.database.owner)
            assert key_of(target.owner) == key_of(source.database.owner)
            check_is_well(target, source.ticket)

    def test_with_its_wal_it_leads_to_the_moment_before_a_mistake(self, source: Source) -> None:
        asyncio.run(make_globex(source.database))

        def rewound(run: Run, data: Path) -> None:
            base_backup(run, source)
            run_sql(source.administrator, "SELECT pg_create_restore_point('before the mistake')")
            asyncio.run(erase_globex(source.database))
            run_sql(source.administrator, "SELECT pg_switch_wal()")
            archive = f"{source.administrator.host}/data/pg_wal"
            with (data / "postgresql.auto.conf").open("a") as settings:
                settings.write(f"restore_command = 'cp {archive}/%f %p'\nrecovery_target_name = 'before the mistake'\n")
                settings.write("recovery_target_action = 'promote'\n")
            (data / "recovery.signal").touch()

        with new_server("derwin-rewound-", made_by=rewound) as administrator:
            target = source.on(administrator)
            while run_sql(administrator, "SELECT pg_is_in_recovery()")[0][0]:
                time.sleep(0.1)
            slugs = "SELECT slug FROM public.projects ORDER BY 1"
            assert [row[0] for row in run_sql(source.database.owner, slugs)] == ["acme", "lifeline"]
            assert [row[0] for row in run_sql(target.owner, slugs)] == ["acme", "globex", "lifeline"]
            check_is_well(target, source.ticket)


def base_backup(run: Run, source: Source) -> None:
    where = ("--host", str(source.administrator.host), "--username", "postgres")
    run("pg_basebackup", *where, "--pgdata", "data", "--checkpoint=fast", "--wal-method=stream")


async def make_globex(database: TestDatabase) -> None:
    async with Database(**database.urls) as db, db.admin(reason="a test") as admin:
        await repos.projects.create(admin, ProjectCreate(slug="globex", name="Globex", type=ProjectType.SAAS))


async def erase_globex(database: TestDatabase) -> None:
    async with Database(**database.urls) as db, db.admin(reason="a mistake") as admin:
        await repos.projects.delete(admin, project_id_of("globex"))
