"""`Database`: settings, pools and the start-up check. It opens units of work; it runs no statement of the domain itself.

Nothing is opened at import or construction. `start()` asks the server once which schema it has, whether isolation is in
force, and how a transaction is opened for a project.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, get_args
from uuid import UUID

from derwin_db.connection.driver import idle_limit
from derwin_db.connection.ending import Ender
from derwin_db.connection.facts import ServerFacts, probe_server
from derwin_db.connection.pool import DataSource, Pool, open_pool
from derwin_db.connection.replica import Replica, check_position, current_position
from derwin_db.deploy.targets import Urls, find_keys
from derwin_db.errors import ConfigurationError, DatabaseTimeout, DatabaseUnavailable, DerwinError, ScopeError
from derwin_db.isolation.keys import KeyRing  # noqa: TC001  # loaded all the same
from derwin_db.isolation.preamble import ADMIN_ROLE, APP_ROLE, TransactionMode
from derwin_db.models import PruneResult
from derwin_db.observe.events import Observer  # noqa: TC001  # loaded all the same
from derwin_db.observe.progress import Progress
from derwin_db.observe.slow_log import observers_of
from derwin_db.repos.audit_artifacts import DeleteBlob
from derwin_db.session import (
    AdminSession,
    ImportSession,
    ProbeSession,
    ProjectSession,
    QueueSession,
    check_reason,
    parse_project,
)
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.settings.url import PasswordSource  # loaded all the same
from derwin_db.translation.debug import show_causes
from derwin_db.translation.driver_errors import raise_translated
from derwin_db.translation.sqlstates import COLLISIONS
from derwin_db.unit.backend import Backend, Limits, Route
from derwin_db.unit.sqlalchemy_session import SessionFactory
from derwin_db.workers import sweep
from derwin_db.workers.sweep import STALLED_AFTER, SweepResult, What
from derwin_db.workers.worker import Work, Worker

logger: logging.Logger = logging.getLogger("derwin_db")

P = ParamSpec("P")
T = TypeVar("T")

_CLOSED = "The Database was closed."
_RUN_ATTEMPTS = 3
_COLLISION_ATTEMPTS = 20
_RETRY_BASE_SECONDS = 0.05
_LONGEST_PAUSE = 2.0


class Database:
    """A database of derwin-db: opens units of work of one project, and the admin door.

    Without a URL it takes DATABASE_URL and the other settings from the environment or `.env`; where that is unset too, it
    starts the embedded server. Where URLs are given, none is taken from the environment.

    `password` is a function that gives the password of a login, told as a `ConnectionInfo`. It is called for each new
    connection, so that passwords and tokens may change; it may be a coroutine function, and one that blocks runs in a thread.

    Errors:
        At start: ConfigurationError, SchemaOutOfDate, IsolationNotEnforced, DatabaseUnavailable.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        admin_url: str | None = None,
        direct_url: str | None = None,
        read_url: str | None = None,
        password: PasswordSource | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.settings: Settings = settings or Settings.load()
        if self.settings.debug:
            show_causes()
        self.observers: list[Observer] = observers_of(self.settings)
        self.backend: Backend = Backend(
            sessions=SessionFactory(),
            observers=self.observers,
            cleanup_timeout=self.settings.cleanup_timeout,
            delete_timeout=self.settings.delete_timeout,
            read_wait=self.settings.read_wait,
            in_background=self.in_background,
            session_limits=self._session_limits,
            forget_project=self._forget_project,
            admin=self.admin,
        )
        self._to_service = Route(partial(self.app_pool, read_only=False))
        self._to_reader = Route(partial(self.app_pool, read_only=True), self._stand_in)
        self._to_operator = Route(self.admin_pool)
        self._urls = Urls.choose(self.settings, url, admin_url, direct_url, read_url, password)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: asyncio.Task[None] | None = None
        self._app: DataSource | None = None
        self._replica: Replica | None = None
        self._keys: KeyRing | None = None
        self._admin: DataSource | DerwinError | None = None
        """The pool of the operator's login, or why there is none."""
        self._operator: ConnectionInfo | None = None
        self._owner: DataSource | None = None
        self._owner_login: ConnectionInfo | None = None
        self._service_login: ConnectionInfo | None = None
        self._background: set[asyncio.Task[None]] = set()

    # --- start and close ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Check the server and make the pools. The first unit of work does this where nobody did it before.

        Callers at the same time share one attempt, which goes on when one of them is cancelled.

        Errors:
            What the class says.
        """
        self._enter_loop()
        starting = self._starting
        if starting is None:
            starting = self._starting = self.in_background(self._start())
            starting.add_done_callback(self._note_start)
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            if starting.cancelled():
                raise DatabaseUnavailable(_CLOSED) from None
            raise

    async def close(self) -> None:
        """Wait for clean-up, then close all connections. The next use starts again.

        Open units are waited for, up to `cleanup_timeout`; then their connections are closed.
        """
        self._enter_loop()
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
        try:
            if self._background:
                await asyncio.wait(self._background, timeout=2 * self.settings.cleanup_timeout)
            if self._keys is not None:
                await self._keys.close()
            await asyncio.gather(*(pool.close() for pool in self.pools()))
        finally:
            self._forget_pools()
            self._loop = None  # the next use may be on another one

    def _enter_loop(self) -> None:
        """See that this is the event loop of the connections. Those of a loop that is gone went with it."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise ScopeError(
                "This Database belongs to another event loop that is still open. Close it there first, or make one Database "
                "for each loop."
            )
        self._forget_pools()
        self._background.clear()
        self._starting = None
        self._loop = loop

    def _note_start(self, task: "asyncio.Task[None]") -> None:
        """Let the next caller try again where it failed."""
        if (task.cancelled() or task.exception() is not None) and self._starting is task:
            self._starting = None

    def pools(self) -> list[Pool]:
        """Return the pools that were made: the service's, the replica's, the operator's, the owner's."""
        read = None if self._replica is None else self._replica.opened
        made = (self._app, read, self._admin, self._owner)
        return [source.pool for source in made if isinstance(source, DataSource)]

    def _forget_pools(self) -> None:
        for pool in self.pools():
            pool.abandon()
        self._app = self._replica = self._keys = self._admin = self._owner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _start(self) -> None:
        urls = await self._urls.resolved(self.settings)
        server = await self._probe(urls)
        server.require_fences()
        keys = self._keys = await find_keys(urls, self.settings) if server.is_sealed else None
        if urls.read is not None:
            self._replica = Replica(urls.read, self.settings, keys, self.observers)
            await self._replica.choose()
        self._operator = urls.admin or urls.direct or urls.service
        self._owner_login = urls.direct or urls.service
        self._service_login = urls.service
        self._admin = await self._open_admin(server if self._operator is urls.service else None)
        self._app = open_pool(urls.service, self.settings, server, keys, self.observers, role=APP_ROLE)
        logger.info("derwin-db is ready: %s", server.summary(urls.service))
        for warning in server.warnings():
            logger.warning("%s", warning)

    async def _probe(self, urls: Urls) -> ServerFacts:
        """Look at the server; where that waits for a lock, end what holds it for longer than any unit may, and look again."""
        try:
            return await probe_server(urls.service, self.settings, APP_ROLE)
        except DatabaseTimeout:
            keys = None
            with contextlib.suppress(ConfigurationError):
                keys = await find_keys(urls, self.settings)
            try:
                ended = await Ender(urls.service, self.settings, keys, APP_ROLE).look()
            except Exception as error:
                raise_translated(error)
            if not ended:
                raise
        return await probe_server(urls.service, self.settings, APP_ROLE)

    async def _open_admin(self, seen: ServerFacts | None) -> DataSource | DerwinError:
        """Open the admin door, which has a login and a pool of its own. Returns why it is shut where that is so."""
        assert self._operator is not None
        try:
            admin = seen or await probe_server(self._operator, self.settings, ADMIN_ROLE)
        except (DatabaseUnavailable, DatabaseTimeout) as error:
            return error
        except DerwinError as error:
            return ConfigurationError(f"The admin door can't be opened: {error.message}")
        if not admin.may_become_admin:
            return ConfigurationError(
                "The admin door needs a login that may become derwin_admin: set ADMIN_URL (or DIRECT_URL) to one."
            )
        return open_pool(self._operator, self.settings, admin, None, self.observers, ending_keys=self._keys)

    # --- units of work ------------------------------------------------------------------------------------------------

    def project(
        self, project: str | UUID, *, read_only: bool = False, snapshot: bool = False, after: str | None = None
    ) -> ProjectSession:
        """Return a unit of work of one project, by slug or id: `async with db.project("acme") as session`.

        What the block writes is one transaction, committed at its end and rolled back on any exception; until the first write
        each read runs alone. `read_only` goes to READ_URL where there is one; `snapshot` is read-only too, and all its
        statements see one moment. On a replica the unit waits until it sees all that was committed before `after = await
        db.position()`; the primary sees that anyway.

        Errors:
            ScopeError for what can't name a project; ProjectNotFound at the first statement, also on a replica that does not
            know a new project yet; ReplicaBehind where READ_FALLBACK is off.

        Cost:
            Nothing before the first statement. A read is one round trip; a unit that writes takes two more than it has
            statements.
        """
        begin = TransactionMode.SNAPSHOT if snapshot else TransactionMode.READ_ONLY if read_only else TransactionMode.READ_WRITE
        project_id = parse_project(project)
        route = self._to_service if begin is TransactionMode.READ_WRITE else self._to_reader
        return ProjectSession(self.backend, route, project_id, begin, None if after is None else check_position(after))

    async def position(self) -> str:
        """Return how far the primary has written: a token for `project(..., read_only=True, after=...)`.

        Errors:
            ConfigurationError on a distributed server; DatabaseUnavailable.

        Cost:
            One round trip; three behind a pooler that keeps no prepared statements.
        """
        return await current_position(await self.app_pool(read_only=False))

    def admin(self, *, reason: str) -> AdminSession:
        """Return a unit of work of the admin door: creating, changing, listing and deleting projects, nothing else.

        Errors:
            ScopeError without a reason; ConfigurationError at the first statement where no login may open it.
        """
        return AdminSession(self.backend, self._to_operator, check_reason(reason))

    def importing(self, project_id: UUID, *, reason: str) -> ImportSession:
        """Return the unit of work that `derwin_db.transfer.import_project` makes a project in. It takes the owner's login.

        Errors:
            ScopeError without a reason; ConfigurationError at the first statement where no login may do it.
        """
        return ImportSession(self.backend, Route(self._owner_pool), project_id, check_reason(reason))

    def worker(
        self,
        name: str,
        work: Work,
        *,
        at_once: int = 10,
        at_once_per_project: int | None = None,
        poll_seconds: float = 5.0,
        stalled_seconds: float = STALLED_AFTER.total_seconds(),
        grace_seconds: float = 30.0,
    ) -> Worker:
        """Return a worker that takes queued runs of all projects, and has `work(job)` do each in its project's own scope.

        `await worker.run()` serves until SIGTERM; `async with worker:` for as long as the block runs. Up to `at_once` runs at a
        time here, and `at_once_per_project` of one project in all workers that give the same number. What `work` returns, a
        RunStats, is stored with the run; what it raises ends the run as FAILED, but for DatabaseUnavailable, which puts it back
        into the queue. So does the want of a heartbeat for `stalled_seconds`, which is to be the same in all workers.

        Order:
            In turn from one project with queued runs to the next, a run a turn; of one project the oldest first.

        Errors:
            InvalidInput.

        Cost:
            A look over all projects is three round trips, whatever their number; a claim is a unit of work.
        """
        return Worker(
            self,
            name,
            work,
            at_once=at_once,
            at_once_per_project=at_once_per_project,
            poll_seconds=poll_seconds,
            stalled_seconds=stalled_seconds,
            grace_seconds=grace_seconds,
        )

    def queue(self) -> QueueSession:
        """Return a unit of work without a project, which is told the ids of projects that have something to do. For workers."""
        return QueueSession(self.backend, self._to_service)

    async def listening_login(self) -> ConnectionInfo | None:
        """Return the login over which the server's notifications arrive: no pooler in transaction mode may stand between."""
        source = await self.app_pool(read_only=False)
        if not source.preamble.is_pooled:
            return self._service_login
        direct = self._owner_login
        return None if direct is None or direct.is_pooled or direct == self._service_login else direct

    def probe(self) -> ProbeSession:
        """Return a unit of work without a project, which only reads and sees no row of any. For health checks."""
        return ProbeSession(self.backend, self._to_service)

    async def run(
        self, project: str | UUID, fn: Callable[Concatenate[ProjectSession, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn(session, *args)` in a unit of work, and again as long as nothing of it can be stored.

        After locks that could not be had and connections that were lost before the commit it runs up to 3 times; after
        serialization failures and deadlocks, of which one always gets through, up to 20, with pauses that grow and spread.
        Each of both is counted for itself.
        It is never repeated after a commit, even if a callback of `after_commit` fails, nor where the outcome of the commit is
        unknown.

        Errors:
            What `fn` raises, or the last error of those above.
        """
        collisions = others = 0
        while True:
            session = self.project(project)
            try:
                async with session:
                    return await fn(session, *args, **kwargs)
            except DatabaseUnavailable as error:
                is_collision = error.sqlstate in COLLISIONS
                collisions, others = collisions + is_collision, others + (not is_collision)
                is_enough = collisions >= _COLLISION_ATTEMPTS or others >= _RUN_ATTEMPTS
                if session.outcome != "rolled back" or not error.may_run_again or is_enough:
                    raise
            longest = min(_RETRY_BASE_SECONDS * 2 ** (collisions + others - 1), _LONGEST_PAUSE)
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311  # full jitter

    async def prune(
        self,
        *,
        limit_per_unit: int = 500,
        delete_blob: DeleteBlob | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> PruneResult:
        """Remove expired artifacts of all projects: each blob first where `delete_blob` is given, then its row.

        Each batch of `limit_per_unit` artifacts (1..500) is a unit of work. A hold that is set meanwhile keeps its artifact.
        With `dry_run` nothing is removed: `remaining` says how many would be.

        Errors:
            ConfigurationError where the admin door can't be opened; what a project failed with, when all others had their turn.
        """
        result, errors = await sweep.prune(
            self, limit_per_unit=limit_per_unit, delete_blob=delete_blob, dry_run=dry_run, progress=progress
        )
        if errors:
            raise errors[0]
        return result

    async def sweep(
        self,
        *what: What,
        stalled_after: timedelta = STALLED_AFTER,
        limit_per_unit: int = 500,
        delete_blob: DeleteBlob | None = None,
        progress: Progress | None = None,
    ) -> SweepResult:
        """Sweep over all projects: `stalled` runs, expired `evidence`, `trust` scores; all of them where none is named.

        Each project is visited in its own scope. One that fails keeps no other from its turn: it is logged, and counted.

        Errors:
            InvalidInput; ConfigurationError where `evidence` or `trust` need the admin door, and it can't be opened.
        """
        return await sweep.sweep(
            self,
            what or get_args(What),
            stalled_after=stalled_after,
            limit_per_unit=limit_per_unit,
            delete_blob=delete_blob,
            progress=progress,
        )

    # --- where units of work take their connections -------------------------------------------------------------------

    async def app_pool(self, *, read_only: bool) -> DataSource:
        """Return the pool of the service's login, or of the replica, and how it is opened."""
        if self._app is None or self._loop is not asyncio.get_running_loop():
            await self.start()
        chosen = await self._replica.choose() if read_only and self._replica is not None else None
        if self._app is None:
            raise DatabaseUnavailable(_CLOSED)
        return chosen or self._app

    def _stand_in(self, failed: Pool, error: BaseException) -> DataSource | None:
        """Return the service's pool where it may do what failed on the replica."""
        replica = self._replica
        if replica is None or replica.opened is None or failed is not replica.opened.pool or not replica.may_stand_in(error):
            return None
        return self._app

    async def admin_pool(self) -> DataSource:
        """Return the pool of the operator's login.

        Errors:
            ConfigurationError where there is none.
        """
        if self._app is None or self._loop is not asyncio.get_running_loop():
            await self.start()
        app = self._app
        if isinstance(self._admin, DatabaseUnavailable | DatabaseTimeout):  # it did not answer when the service started
            opened = await self._open_admin(None)
            if self._app is app and not isinstance(self._admin, DataSource):  # neither closed nor opened by others meanwhile
                self._admin = opened
        if self._admin is None:
            raise DatabaseUnavailable(_CLOSED)
        if isinstance(self._admin, DerwinError):
            raise self._admin.with_traceback(None)  # else it would hold on to all to whom it was raised before
        return self._admin

    def _session_limits(self) -> Limits:
        version = 0 if self._app is None else self._app.preamble.server_version
        longest = self.settings.transaction_timeout if version >= 170000 else None
        return {"idle_timeout": idle_limit(self.settings), "transaction_timeout": longest}

    def _forget_project(self, project_id: UUID) -> None:
        """Look again whether the project is there: it was deleted here."""
        read = None if self._replica is None else self._replica.opened
        for source in filter(None, (self._app, read)):
            source.preamble.known_projects.discard(project_id)

    async def _owner_pool(self) -> DataSource:
        """Return a pool of the owner's login, made at the first import.

        Errors:
            ConfigurationError for a login that may not become both roles.
        """
        app = await self.app_pool(read_only=False)
        if self._owner is None:
            assert self._owner_login is not None
            server = await probe_server(self._owner_login, self.settings, APP_ROLE)
            if not server.may_become_admin:
                raise ConfigurationError(
                    "An import makes a project and its rows in one transaction, which takes the owner's login: set DIRECT_URL."
                )
            if self._app is not app:
                raise DatabaseUnavailable(_CLOSED)
            if self._owner is None:  # nor opened by others meanwhile
                self._owner = open_pool(self._owner_login, self.settings, server, self._keys, self.observers)
        return self._owner

    def in_background(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run clean-up in a task of its own, which `close` waits for."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def connections_in_use(self) -> int:
        """Return how many connections are checked out now, of all pools."""
        return sum(pool.in_use() for pool in self.pools())
