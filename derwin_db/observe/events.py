"""Observation: which statements ran, how long they took, how they ended. All observers are told here.

The slow-query log (`derwin_db.slow`) and OpenTelemetry (`derwin_db.otel`) are observers of a `Database`. Where there is none,
a statement costs one look-up of an attribute more. No observer is given a value, a caller's SQL, or an error's text.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import UUID

from derwin_db.query.statement import Statement
from derwin_db.translation.driver_errors import sqlstate_of

T = TypeVar("T")
logger: logging.Logger = logging.getLogger("derwin_db")

PoolTime = Literal["create", "use", "wait"]
"""What of a connection takes time: to be made, between taking and giving back, to be had."""

_SQL = "session.sql"
_VERBS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "EXPLAIN", "SET", "SHOW", "LOCK"})
_VERBS |= {"SAVEPOINT", "RELEASE", "ROLLBACK", "DECLARE", "FETCH", "CLOSE", "COPY", "PREPARE", "CALL", "DO"}
_VERB_LENGTH = max(map(len, _VERBS)) + 1


class Endpoint(NamedTuple):
    """Where a pool's connections lead: of several hosts of a URL, the first that it names."""

    host: str
    port: int
    database: str
    login: str


@dataclass(frozen=True, slots=True)
class StatementEvent:
    """One call of the driver that has ended. `statement` is a repository's; SQL of callers and commands have a name alone."""

    name: str
    statement: Statement[Any] | None
    batch: int | None
    project_id: UUID | None
    server: Endpoint
    started_at: int
    """Nanoseconds since 1970."""
    seconds: float
    error: str | None
    """The exception's type, None where all went well."""
    sqlstate: str | None


RunStep = Literal["claimed", "completed", "failed", "given back", "lost", "requeued"]
"""What became of a run: `lost` is a claim that its worker could not keep, `requeued` what stalled runs of others are."""


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something that a worker did with a run; `requeued` is about `count` runs of the project, whoever had claimed them."""

    step: RunStep
    worker: str | None
    project_id: UUID
    run_id: UUID | None
    seconds: float | None
    """How long it had waited when it was claimed; how long it was being done when it ended. None of `requeued` alone."""
    count: int = 1

    def as_extra(self) -> dict[str, Any]:
        """Return the attributes of a log record."""
        return {
            "step": self.step,
            "worker": self.worker,
            "project_id": str(self.project_id),
            "run_id": None if self.run_id is None else str(self.run_id),
            "seconds": self.seconds,
        }


class UnitObserver:
    """Is told what happens in one unit of work. The methods of this base do nothing."""

    def ran(self, call: StatementEvent) -> None:
        """A call of the driver has ended."""

    def left(self, outcome: str, error: str | None) -> None:
        """The unit has ended; `error` is the type of what its block or its commit raised."""


class Observer:
    """Is told what happens in a `Database`. The methods of this base do nothing."""

    def entered(self, project_id: UUID | None) -> UnitObserver:  # noqa: ARG002  # for those who override it
        """A unit of work begins, of the admin door where there is no project."""
        return UnitObserver()

    def timed(self, server: Endpoint, what: PoolTime, seconds: float) -> None:
        """A pool has made, handed out or got back a connection."""

    def timed_out(self, server: Endpoint) -> None:
        """A pool had no connection in time."""

    def gave_up(self, server: Endpoint) -> None:
        """A pool has given up a connection that broke, or on which a statement may run on."""

    def worked(self, event: RunEvent) -> None:
        """A worker has claimed, ended or lost a run, or a sweep has put stalled ones back."""


def tell(observers: Sequence[Observer], event: RunEvent) -> None:
    """Tell all of them."""
    for observer in observers:
        _tell(observer.worked, event)


class Watch:
    """The observers of one unit of work. What one of them raises is logged, and does not disturb the unit."""

    def __init__(self, observers: Sequence[Observer], project_id: UUID | None) -> None:
        self._project_id = project_id
        self._units: list[UnitObserver] = []
        self._server = Endpoint("", 0, "", "")
        for observer in observers:
            _tell(self._enter, observer)

    def _enter(self, observer: Observer) -> None:
        unit: UnitObserver | None = observer.entered(self._project_id)
        if unit is not None:  # as of one who looks at pools alone
            self._units.append(unit)

    def at(self, server: Endpoint) -> None:
        """Know from then on which server it is."""
        self._server = server

    def opening(self, call: Awaitable[T], name: str, server: Endpoint) -> Awaitable[T]:
        """Observe the preamble, and know from then on which server it is."""
        self.at(server)
        return self.over(call, name)

    def called(
        self, call: Awaitable[T], method: str, sql: str, by: Statement[Any] | None, arguments: Sequence[Any]
    ) -> Awaitable[T]:
        """Observe a method of the driver, called by a repository's statement or with a command."""
        name = by.name if by is not None else sql.partition(" ")[0]
        return self.over(call, name, by, len(arguments[0]) if method == "executemany" else None)

    async def over(self, call: Awaitable[T], name: str, statement: Statement[Any] | None = None, batch: int | None = None) -> T:
        """Await the call, and tell how it went."""
        error = sqlstate = None
        started_at, start = time.time_ns(), time.perf_counter()
        try:
            return await call
        except BaseException as raised:
            error, sqlstate = type(raised).__qualname__, sqlstate_of(raised)
            raise
        finally:
            seconds = time.perf_counter() - start
            seen = StatementEvent(name, statement, batch, self._project_id, self._server, started_at, seconds, error, sqlstate)
            for unit in self._units:
                _tell(unit.ran, seen)

    def left(self, outcome: str, error: BaseException | None) -> None:
        """Tell that the unit has ended."""
        kind = None if error is None else type(error).__qualname__
        for unit in self._units:
            _tell(unit.left, outcome, kind)


class PoolWatch:
    """The observers of one pool; falsy where there is none. They may come and go while the pool is in use."""

    def __init__(self, observers: Sequence[Observer], server: Endpoint) -> None:
        self._observers = observers
        self._server = server
        self._taken: dict[Any, float] = {}

    def __bool__(self) -> bool:
        return bool(self._observers)

    async def taking(self, connection: Awaitable[T]) -> T:
        """Await a connection for somebody, and tell how long it took to be had."""
        taken = await self.timing("wait", connection)
        self._taken[taken] = time.perf_counter()
        return taken

    def given_back(self, connection: object) -> None:
        """Tell how long the connection was in use, if it was seen to be taken."""
        start = self._taken.pop(connection, None)
        if start is not None:
            self._timed("use", time.perf_counter() - start)

    async def timing(self, what: PoolTime, work: Awaitable[T]) -> T:
        """Await the work, and tell how long it took if it came to a good end."""
        start = time.perf_counter()
        result = await work
        self._timed(what, time.perf_counter() - start)
        return result

    def timed_out(self) -> None:
        """Tell that there was no connection in time."""
        for observer in self._observers:
            _tell(observer.timed_out, self._server)

    def gave_up(self) -> None:
        """Tell that a connection was given up."""
        for observer in self._observers:
            _tell(observer.gave_up, self._server)

    def _timed(self, what: PoolTime, seconds: float) -> None:
        for observer in self._observers:
            _tell(observer.timed, self._server, what, seconds)


def _tell(method: Callable[..., object], *arguments: object) -> None:
    try:
        method(*arguments)
    except Exception:
        logger.exception("an observer failed")


def caller_name(sql: str) -> str:
    """Return the name of a caller's statement: its verb where it has a known one, and nothing else of its text."""
    words = sql.lstrip()[:_VERB_LENGTH].split(maxsplit=1)
    verb = words[0].rstrip(";").upper() if words else ""
    return f"{_SQL} {verb}" if verb in _VERBS else _SQL
