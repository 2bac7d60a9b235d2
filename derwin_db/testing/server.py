"""A PostgreSQL server to test on: DERWIN_TEST_DATABASE_URL, else Docker where it answers, else the embedded server.

DERWIN_TEST_CITUS_URL comes before all of them: the coordinator of a cluster, on which each database is distributed.

Databases are migrated once, as a template, and cloned: 20 ms for a database of one's own. Logins are unprivileged, as in
production: what a superuser sees proves nothing.
"""

import asyncio
import contextlib
import gc
import os
import secrets
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TypedDict

from derwin_db.connection.driver import Connection, connect
from derwin_db.deploy import citus, logins, migrations
from derwin_db.errors import ConfigurationError
from derwin_db.settings import ConnectionInfo
from derwin_db.settings.url import POOLER_PORT

_IMAGE = "pgvector/pgvector:0.8.1-pg18"
_END_CONNECTIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
"""What a pooler keeps open after its clients have left."""

_FEW = ("citus.shard_count = 8", "citus.max_adaptive_executor_pool_size = 1")
"""On two workers each has four shards, and a statement over all of them asks for one connection to each."""

_PLENTY = 16 << 30
"""So much memory is free on a machine whose tests may keep their databases in it: some gigabytes, of several servers."""

_WORKERS = "SELECT nodename, nodeport FROM pg_dist_node WHERE noderole = 'primary' AND groupid <> 0 ORDER BY groupid"


class DatabaseUrls(TypedDict):
    """The logins of one database, as the keyword arguments of `Database`."""

    url: str
    admin_url: str
    direct_url: str


@dataclass(frozen=True)
class TestDatabase:
    """One database and its three logins, as connections and as URLs."""

    __test__ = False

    owner: ConnectionInfo
    service: ConnectionInfo
    operator: ConnectionInfo

    @property
    def urls(self) -> DatabaseUrls:
        """The keyword arguments of `Database`."""
        return {"url": url_of(self.service), "admin_url": url_of(self.operator), "direct_url": url_of(self.owner)}


class TestServer:
    """A server that databases are made on, and removed from."""

    __test__ = False

    def __init__(self, owner: ConnectionInfo) -> None:
        self._owner = owner
        self._suffix = secrets.token_hex(4)
        self._password = secrets.token_urlsafe(24)
        self._template: str | None = None
        self._made: list[str] = []
        self._route: Callable[[ConnectionInfo], ConnectionInfo] | None = None

    @property
    def owner(self) -> ConnectionInfo:
        """The administrator's login, in the maintenance database."""
        return self._owner

    @property
    def logins(self) -> tuple[ConnectionInfo, ConnectionInfo]:
        """The service's and the operator's login, in the maintenance database. They exist once a database was made."""
        service, operator = self._logins
        return (
            replace(self._owner, user=service, password=self._password, password_file=None),
            replace(self._owner, user=operator, password=self._password, password_file=None),
        )

    def lead_through(self, route: Callable[[ConnectionInfo], ConnectionInfo]) -> None:
        """Have the service and the operator of databases that are made from now on go another way: through a pooler."""
        self._route = route

    def empty(self) -> TestDatabase:
        """Make an empty database: no schema, but the logins."""
        name = self._new_name()
        asyncio.run(self._create(name, None))
        return self._described(name)

    def migrated(self) -> TestDatabase:
        """Make a database at the newest revision: a clone of the template, which is migrated at the first call."""
        if self._template is None:
            template = self.empty()
            migrations.upgrade(migrations.MigrationSettings(template.owner))
            self._template = template.owner.database
        name = self._new_name()
        asyncio.run(self._create(name, self._template))
        return self._described(name)

    def clone(self, database: TestDatabase) -> TestDatabase:
        """Make a copy of a database that nobody is connected to."""
        name = self._new_name()
        if self._route is not None:
            asyncio.run(self._administer(_END_CONNECTIONS.format(database=database.owner.database)))
        asyncio.run(self._create(name, database.owner.database))
        return self._described(name)

    def drop(self, database: TestDatabase) -> None:
        """Remove a database, whoever is connected."""
        asyncio.run(self._administer(f'DROP DATABASE IF EXISTS "{database.owner.database}" WITH (FORCE)'))

    def close(self) -> None:
        """Remove all that was made."""
        drops = [f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)' for name in self._made]
        asyncio.run(self._administer(*drops, *(f"DROP ROLE IF EXISTS {login}" for login in self._logins)))

    @property
    def _logins(self) -> tuple[str, str]:
        return f"derwin_test_service_{self._suffix}", f"derwin_test_operator_{self._suffix}"

    async def _create_logins(self, connection: Connection) -> None:
        service, operator = self._logins
        await logins.create_logins(
            connection, service=service, operator=operator, service_password=self._password, operator_password=self._password
        )

    def _new_name(self) -> str:
        name = f"derwin_test_{self._suffix}_{len(self._made)}"
        self._made.append(name)
        return name

    def _described(self, name: str) -> TestDatabase:
        service, operator = (replace(login, database=name) for login in self.logins)
        if self._route is not None:
            service, operator = self._route(service), self._route(operator)
        return TestDatabase(replace(self._owner, database=name), service, operator)

    async def _create(self, name: str, template: str | None) -> None:
        connection = await self._connect()
        try:
            if template is None:
                await self._create_logins(connection)
            await connection.execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
            await connection.execute(f'REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC')  # a template does not hand it on
        finally:
            await connection.close()

    async def _administer(self, *statements: str) -> None:
        connection = await self._connect()
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def _connect(self) -> Connection:
        return await connect(self._owner)


class TestCluster(TestServer):
    """A Citus cluster, by its coordinator. Each database is made on all nodes, migrated and distributed: seconds, no clone."""

    def migrated(self) -> TestDatabase:
        """Make a database at the newest revision, its tables distributed by project."""
        database = self.empty()
        asyncio.run(self._migrate(database.owner))
        return database

    def drop(self, database: TestDatabase) -> None:
        """Remove a database from all nodes, whoever is connected."""
        asyncio.run(self._drop(database.owner.database))

    def close(self) -> None:
        """Remove all that was made."""
        asyncio.run(self._close())

    async def workers(self) -> list[ConnectionInfo]:
        """Return the administrator's login on each worker, in the maintenance database."""
        connection = await self._connect()
        try:
            rows = await connection.fetch(_WORKERS)
        finally:
            await connection.close()
        return [replace(self._owner, host=row["nodename"], port=row["nodeport"]) for row in rows]

    async def _create(self, name: str, template: str | None) -> None:
        assert template is None, "a distributed database can't be cloned"
        async with self._alone() as coordinator:
            await self._create_logins(coordinator)
            workers = await self.workers()
            prepare = [
                f'REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC',
                "CREATE EXTENSION citus",
                "CREATE EXTENSION vector",
            ]
            for node in (self._owner, *workers):
                await _run_on(node, "SET citus.enable_create_database_propagation = off", f'CREATE DATABASE "{name}"')
                await _run_on(replace(node, database=name), *prepare)
            await _run_on(self._owner, *(f'ALTER DATABASE "{name}" SET {setting}' for setting in _FEW))
            place = f"SELECT citus_set_coordinator_host('{self._owner.host}', {self._owner.port})"
            added = [f"SELECT citus_add_node('{worker.host}', {worker.port})" for worker in workers]
            await _run_on(replace(self._owner, database=name), place, *added)

    async def _migrate(self, owner: ConnectionInfo) -> None:
        async with self._alone():
            await asyncio.to_thread(migrations.upgrade, migrations.MigrationSettings(owner))
            await _distribute(owner)

    async def _close(self) -> None:
        async with self._alone():
            for name in self._made:
                await self._drop(name)
            await self._administer(*(f"DROP ROLE IF EXISTS {login}" for login in self._logins))

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[Connection]:
        """Keep others that test on this cluster waiting: Citus fails where two change roles, which all databases share."""
        connection = await self._connect()
        try:
            await connection.execute("SELECT pg_advisory_lock(hashtext('derwin_db.testing'))")
            yield connection
        finally:
            await connection.close()

    async def _drop(self, name: str) -> None:
        for node in (self._owner, *await self.workers()):
            await _run_on(node, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _distribute(owner: ConnectionInfo) -> None:
    connection = await connect(owner)
    try:
        await citus.distribute(connection)
    finally:
        await connection.close()


async def _run_on(info: ConnectionInfo, *statements: str) -> None:
    connection = await connect(info)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@contextmanager
def choose_server() -> Iterator[TestServer]:
    """Yield the server to test on, and clean up after it."""
    cluster, url = os.environ.get("DERWIN_TEST_CITUS_URL"), os.environ.get("DERWIN_TEST_DATABASE_URL")
    given = _given(cluster, "DERWIN_TEST_CITUS_URL") if cluster else _given(url, "DERWIN_TEST_DATABASE_URL") if url else None
    with given or (_docker() if docker_answers() else _embedded()) as owner:
        server = TestCluster(owner) if cluster else TestServer(owner)
        try:
            yield server
        finally:
            if given is not None:  # else the server goes with all that is on it
                server.close()


@contextmanager
def _given(url: str, name: str) -> Iterator[ConnectionInfo]:
    yield ConnectionInfo.parse(url, name=name)


@contextmanager
def _embedded() -> Iterator[ConnectionInfo]:
    """A server of its own in a temporary folder, in memory where there is plenty, without fsync: its data is not to last."""
    from derwin_db.deploy import embedded
    from derwin_db.testing.folder import server_folder

    with server_folder("derwin-test-", room=_PLENTY) as folder:
        data = folder / "data"
        try:
            owner = embedded.start(data).owner
            asyncio.run(_hurry(owner))
            yield replace(owner, database="postgres")
        finally:
            with contextlib.suppress(ConfigurationError):
                embedded.abandon(data)


@contextmanager
def _docker() -> Iterator[ConnectionInfo]:
    from testcontainers.community.postgres import PostgresContainer

    with PostgresContainer(_IMAGE, driver=None) as container:
        yield ConnectionInfo.parse(container.get_connection_url())


def docker_answers() -> bool:
    """Tell whether a Docker engine runs here and testcontainers is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        answers = _ping_docker()
        gc.collect()  # where no engine answers, docker leaves its socket open: a warning at some later moment
    return answers


def _ping_docker() -> bool:
    try:
        import docker  # comes with testcontainers
        import testcontainers.community.postgres  # noqa: F401

        docker.from_env(timeout=2).ping()
    except Exception:
        return False
    return True


async def _hurry(owner: ConnectionInfo) -> None:
    connection = await connect(owner)
    try:
        for setting in ("fsync = off", "full_page_writes = off", "synchronous_commit = off", "max_connections = 200"):
            await connection.execute(f"ALTER SYSTEM SET {setting}")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


def url_of(connection: ConnectionInfo) -> str:
    """Return the URL of a connection, for settings and subprocesses."""
    from urllib.parse import quote

    login = quote(connection.user, safe="") + (f":{quote(connection.password, safe='')}" if connection.password else "")
    said = ("sslmode", "sslrootcert", "sslcert", "sslkey", "password_file", "target_session_attrs")
    options = "".join(
        f"&{name}={quote(str(getattr(connection, name)), safe='/{}')}" for name in said if getattr(connection, name)
    )
    options += "&pgbouncer=true" if connection.is_pooled else "&pgbouncer=false" if connection.port == POOLER_PORT else ""
    database = quote(connection.database, safe="")
    hosts, ports = (",".join(str(part) for part in parts) for parts in zip(*connection.places, strict=True))
    if connection.host.startswith("/"):
        place = f"host={quote(hosts, safe='/,')}&port={ports}"
        return f"postgresql://{login}@/{database}?{place}{options}"
    place = ",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in connection.places)
    return f"postgresql://{login}@{place}/{database}{options and '?' + options[1:]}"
