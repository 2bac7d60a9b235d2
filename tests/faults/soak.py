"""Fifty tasks at work while faults arrive at random; afterwards nothing is lost, checked out, open or growing.

python -m tests.faults.soak --minutes 60
"""

import argparse
import asyncio
import gc
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import psutil
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.connection.driver import PooledConnection
from derwin_db.errors import DatabaseTimeout, DatabaseUnavailable, NotFound, OutcomeUnknown, StaleWrite
from derwin_db.fields.scalars import new_id
from derwin_db.models import QATicketUpdate
from derwin_db.session import UnitOfWork
from derwin_db.settings import Settings
from tests.faults.load import entry, keys_of, make_ticket, new_project, settled
from tests.faults.proxy import Mode, Proxy
from tests.faults.victim import Victim, make_base
from tests.faults.watch import CANARY, shown, watching

EXPECTED = (DatabaseUnavailable, DatabaseTimeout, StaleWrite)
_OF_A_CONNECTION = 3
"""How many tasks, and how many files, a connection through the proxy has at most."""

_TO_END_SECONDS = 10.0
"""For how long a transaction may be open after the last unit of work: twice its time limit, and more on a busy machine."""

_FEWEST = 3
"""How many faults of the line and the server there are in any case."""


@dataclass
class Size:
    """What must not grow."""

    memory: int
    files: int
    tasks: int
    units: int
    connections: int

    @classmethod
    def now(cls) -> "Size":
        """Look at this process."""
        gc.collect()
        process = psutil.Process()
        living = Counter(type(one) for one in gc.get_objects() if isinstance(one, UnitOfWork | PooledConnection))
        units = sum(number for kind, number in living.items() if issubclass(kind, UnitOfWork))
        tasks = len(asyncio.all_tasks())
        return cls(process.memory_info().rss, process.num_fds(), tasks, units, living[PooledConnection])


@dataclass
class Report:
    """What was done and seen."""

    units: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    lost: int = 0
    stray: int = 0
    idle_in_transaction: int = 0
    leaks: int = 0
    foreign: list[str] = field(default_factory=list)
    others: int = 0
    """How many connections this process had before: those of other tests."""
    before: Size | None = None
    after: Size | None = None

    @property
    def broken(self) -> int:
        """How many faults of the line and the server there were: a task that is cancelled is none of those."""
        return self.faults.total() - self.faults["cancel"]

    def lines(self) -> list[str]:
        """Return the report as text."""
        return [
            f"units of work     {self.units.total()}: {dict(sorted(self.units.items()))}",
            f"writes            {len(self.acknowledged)} acknowledged, {len(self.unknown)} of unknown outcome",
            f"faults            {dict(sorted(self.faults.items()))}",
            f"errors told       {dict(sorted(self.errors.items()))}",
            f"lost / stray      {self.lost} / {self.stray}",
            f"foreign errors    {len(self.foreign)} {self.foreign[:3]}",
            f"idle in tx        {self.idle_in_transaction}",
            f"before            {self.before}",
            f"after             {self.after}",
            f"others            {self.others} connections",
        ]

    @property
    def more_tasks(self) -> int:
        """How many tasks there are beyond those of before, one that is about to end, and those of further connections."""
        assert self.before is not None
        assert self.after is not None
        return self.after.tasks - self.before.tasks - 1 - self._of_more_connections

    @property
    def _of_more_connections(self) -> int:
        """The tasks and files of those that the pool had not made before."""
        assert self.before is not None
        assert self.after is not None
        return max(0, self.after.connections - self.before.connections) * _OF_A_CONNECTION

    def check(self) -> None:
        """Fail where something was lost, left open or grew."""
        assert self.before is not None
        assert self.after is not None
        assert (self.lost, self.stray, self.foreign, self.idle_in_transaction, self.leaks) == (0, 0, [], 0, 0), self.lines()
        assert self.after.units <= self.before.units + 1, self.lines()
        assert self.after.connections - self.others <= soak_settings().pool_size + 1, self.lines()
        assert self.more_tasks <= 0, self.lines()
        assert self.after.files <= self.before.files + 5 + self._of_more_connections, self.lines()
        assert self.after.memory <= self.before.memory * 1.15 + 30_000_000, self.lines()


class Soak:
    """One run. `run` works and breaks for so many seconds."""

    def __init__(self, db: Database, victim: Victim, proxy: Proxy, user: str, *, tasks: int, seed: int, others: int) -> None:
        self.db, self.victim, self.proxy, self.user = db, victim, proxy, user
        self.tasks, self.rng = tasks, random.Random(seed)
        self.report = Report(others=others)
        self._is_on = True
        self._workers: list[asyncio.Task[None]] = []

    async def run(self, seconds: float) -> Report:
        """Work and break; then let everything settle and look at what is left."""
        self.project = (await new_project(self.db)).id
        self._workers = [asyncio.create_task(self._work()) for _ in range(self.tasks)]
        end, warm = time.monotonic() + seconds, time.monotonic() + min(seconds / 4, 120)
        while time.monotonic() < end or self.report.broken < _FEWEST:
            await self._break_something()
            if self.report.before is None and time.monotonic() > warm:
                self.report.before = await self._size()
        await self._mend()
        self._is_on = False
        await asyncio.gather(*self._workers, return_exceptions=True)
        await settled(self.db, seconds=10)
        self.report.after = await self._size()
        deadline = time.monotonic() + _TO_END_SECONDS
        while self.report.more_tasks > 0 and time.monotonic() < deadline:
            self.report.after = await self._size()  # what ends given-up statements goes on for a while
        await self._compare()
        return self.report

    # --- work ---------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        kinds = (self._spend, self._spend, self._edit, self._read, self._try_inside, self._by_sql, self._again)
        while self._is_on:
            work = self.rng.choice(kinds)
            self.report.units[work.__name__] += 1
            unit = asyncio.create_task(work())
            if self.rng.random() < 0.1:
                asyncio.get_running_loop().call_later(self.rng.uniform(0, 0.03), unit.cancel)
                self.report.faults["cancel"] += 1
            (result,) = await asyncio.gather(unit, return_exceptions=True)
            if isinstance(result, EXPECTED):
                self.report.errors[type(result).__name__] += 1
                self.report.leaks += any(CANARY in text for text in shown(result))
                await asyncio.sleep(self.rng.uniform(0, 0.05))
            elif isinstance(result, Exception):
                self.report.foreign.append(repr(result))

    async def _spend(self) -> None:
        key = new_id().hex
        try:
            async with self.db.project(self.project) as session:
                session.after_commit(lambda: self.report.acknowledged.add(key))
                await repos.spend_ledger.append(session, entry(key))
        except OutcomeUnknown:
            self.report.unknown.add(key)
            raise
        except asyncio.CancelledError:
            self.report.unknown.add(key)  # a commit may be seen through behind
            raise

    async def _edit(self) -> None:
        async with self.db.project(self.project) as session:
            row = await make_ticket(session)
            await repos.qa_tickets.update(session, row.id, QATicketUpdate(title="x"), expected_version=1)

    async def _read(self) -> None:
        async with self.db.project(self.project, read_only=True) as session:
            page = await repos.qa_tickets.list(session, limit=20)
            for row in page.items[:3]:
                await repos.qa_tickets.find(session, row.id)
            async for _ in repos.spend_ledger.stream(session):
                break

    async def _try_inside(self) -> None:
        async with self.db.project(self.project) as session:
            try:
                async with session.savepoint():
                    await make_ticket(session)
                    await repos.qa_tickets.get(session, new_id())
            except NotFound:
                await repos.qa_tickets.count(session)

    async def _by_sql(self) -> None:
        async with self.db.project(self.project) as session:
            await session.sql.execute(sa.text("SELECT count(*), pg_sleep(0.002) FROM public.qa_tickets"))

    async def _again(self) -> None:
        await self.db.run(self.project, make_ticket)

    # --- faults -------------------------------------------------------------------------------------------------------

    async def _break_something(self) -> None:
        faults: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (4, self._terminate),
            (2, lambda: self._with_mode("lost_ack", 0.05)),
            (2, lambda: self._with_mode("lost_req", 0.05)),
            (2, lambda: self._with_mode("refuse", 0.1)),
            (1, lambda: self._with_mode("blackhole", 0.3)),
            (2, lambda: self._with_mode("delay", 0.3)),
            (2, self._reset_all),
            (1, self._freeze),
            (1, self._lock),
            (0.5, self._kill_backend),
            (0.2, self._kill_server),
        ]
        await asyncio.sleep(self.rng.uniform(0.1, 0.6))
        (fault,) = self.rng.choices([fault for _, fault in faults], [weight for weight, _ in faults])
        await fault()

    async def _with_mode(self, mode: Mode, seconds: float) -> None:
        self.report.faults[mode] += 1
        self.proxy.delay = 0.02
        self.proxy.mode = mode
        if mode == "refuse":
            self.proxy.break_all()
        await asyncio.sleep(seconds)
        self.proxy.mode = "pass"

    async def _terminate(self) -> None:
        self.report.faults["terminate"] += 1
        for pid in await self.victim.backends(self.user):
            if self.rng.random() < 0.5:
                await self.victim.fetch("SELECT pg_terminate_backend($1)", pid)

    async def _reset_all(self) -> None:
        self.report.faults["reset"] += 1
        self.proxy.break_all()

    async def _freeze(self) -> None:
        self.report.faults["freeze"] += 1
        await asyncio.to_thread(self.victim.freeze)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(self.victim.thaw)

    async def _lock(self) -> None:
        self.report.faults["lock"] += 1
        connection = await self.victim.connect(self.db._urls.service.database)
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '2s'")
            await connection.execute("LOCK TABLE public.qa_tickets IN SHARE MODE")
            await asyncio.sleep(0.4)
        await connection.close()

    async def _kill_backend(self) -> None:
        self.report.faults["kill -9 a backend"] += 1
        pids = await self.victim.backends(self.user)
        if pids:
            os.kill(self.rng.choice(pids), signal.SIGKILL)
            await asyncio.sleep(0.5)

    async def _kill_server(self) -> None:
        self.report.faults["kill -9 the server"] += 1
        await asyncio.to_thread(self.victim.kill)
        await asyncio.to_thread(self.victim.start)

    async def _mend(self) -> None:
        self.proxy.mode = "pass"
        self.victim.thaw()
        await asyncio.sleep(1)

    # --- what is left -------------------------------------------------------------------------------------------------

    async def _size(self) -> Size:
        """Look at this process while nobody works."""
        self._is_on, was_on = False, self._is_on
        await asyncio.gather(*self._workers, return_exceptions=True)
        await settled(self.db, seconds=10)
        await asyncio.sleep(0.2)
        seen = Size.now()
        if was_on:
            self._is_on = True
            self._workers = [asyncio.create_task(self._work()) for _ in range(self.tasks)]
        return seen

    async def _compare(self) -> None:
        stored = set(await keys_of(self.db, self.project))
        self.report.lost = len(self.report.acknowledged - stored)
        self.report.stray = len(stored - self.report.acknowledged - self.report.unknown)
        idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        deadline = time.monotonic() + _TO_END_SECONDS
        while (left := (await self.victim.fetch(idle))[0]["count"]) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)  # what ends given-up statements is between two of its own
        self.report.idle_in_transaction = left


def soak_settings() -> Settings:
    """Short times, so that faults come to an end."""
    return Settings(
        _env_file=None,
        pool_size=20,
        pool_timeout=5,
        connect_timeout=2,
        command_timeout=2,
        statement_timeout=1.5,
        lock_timeout=0.5,
        cleanup_timeout=1,
        connection_life=20,
    )


async def run(victim: Victim, urls: dict[str, str], user: str, *, seconds: float, tasks: int, seed: int) -> Report:
    """Soak a server; `urls` are its logins, the service's replaced by one through a proxy."""
    from derwin_db.settings import ConnectionInfo
    from derwin_db.testing.server import url_of

    others = Size.now().connections
    async with Proxy(victim.socket) as proxy:
        service = url_of(proxy.before(ConnectionInfo.parse(urls["url"])))
        async with Database(**{**urls, "url": service}, settings=soak_settings()) as db:
            report = await Soak(db, victim, proxy, user, tasks=tasks, seed=seed, others=others).run(seconds)
        assert await victim.until_quiet(user) == 0
        return report


def main() -> int:
    """Soak a server of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    print(f"soaking for {options.minutes:g} minutes with {options.tasks} tasks, seed {options.seed}", flush=True)
    victim, database = make_base()
    try:
        victim.start()
        with watching(keep=0) as watch:
            assert database.service.password
            watch.secrets.add(database.service.password)
            work = run(
                victim,
                database.urls,
                database.service.user,
                seconds=options.minutes * 60,
                tasks=options.tasks,
                seed=options.seed,
            )
            report = asyncio.run(work)
            lost, leaks = watch.lost(), watch.leaks()
    finally:
        victim.remove()
    print("\n".join([*report.lines(), f"log: never retrieved {len(lost)}, secrets {len(leaks)}"]))
    report.check()
    assert not lost, lost[:3]
    assert not leaks, "a secret was shown"
    return 0


if __name__ == "__main__":
    sys.exit(main())
