"""The fifteen invariants, each as a scenario that many tasks run at once and that fails when the invariant is broken.

A scenario knows what has to come out from a plain model of its own, never from the code that it checks.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import (
    BudgetExceeded,
    Conflict,
    IllegalTransition,
    NotFound,
    ProjectNotFound,
    ScopeError,
    StaleWrite,
)
from derwin_db.fields.scalars import new_id
from derwin_db.models import (
    QARunCreate,
    QATicketUpdate,
    RunStats,
    SpendCap,
    TicketStatus,
)
from derwin_db.models.enums import ProjectMode
from derwin_db.sql import PROJECT_TABLES
from tests.faults.fill import fill_all
from tests.faults.load import entry, make_ticket, new_project, raised, settled, spend, ticket
from tests.faults.victim import Victim

Scenario = Callable[["World"], Awaitable[None]]


class World:
    """What a scenario needs: a `Database`, its server, and two projects."""

    def __init__(self, db: Database, victim: Victim, one: UUID, other: UUID) -> None:
        self.db, self.victim, self.one, self.other = db, victim, one, other
        self.patience = 5.0
        """Seconds that a clean-up is waited for: it takes 2 s at most."""

    @classmethod
    async def make(cls, db: Database, victim: Victim) -> "World":
        """Make two projects."""
        return cls(db, victim, (await new_project(db)).id, (await new_project(db)).id)

    @property
    def database(self) -> str:
        """The name of the database."""
        return self.db._urls.service.database

    async def as_owner(self, sql: str, *arguments: Any) -> list[Any]:
        """Run a statement past all fences."""
        return await self.victim.fetch(sql, *arguments, database=self.database)

    async def fingerprint(self, project: UUID) -> dict[str, tuple[Any, ...]]:
        """Return what is stored of a project: rows, a digest of them, and the newest transaction that wrote one."""
        seen = {}
        for table in PROJECT_TABLES:
            sql = (
                "SELECT count(*), md5(string_agg(t::text, '' ORDER BY t.id)), max(t.xmin::text::bigint)"
                f" FROM public.{table} t WHERE project_id = $1"
            )
            seen[table] = tuple((await self.as_owner(sql, project))[0])
        return seen


class Overlap:
    """Holds units of work open until so many have done their step, or wait for a lock of those that have.

    The next ones pass. So units overlap whether their step takes a lock or has forgotten to.
    """

    def __init__(self, world: World, number: int) -> None:
        assert number <= world.db.settings.pool_size, "these can't all be open at once"
        self._world, self._number, self._done = world, number, 0

    async def wait(self) -> None:
        """Return when the others have come as far as they come."""
        self._done += 1
        async with asyncio.timeout(10):
            while self._done + await self._blocked() < self._number:
                await asyncio.sleep(0.002)

    async def _blocked(self) -> int:
        user = self._world.db._urls.service.user
        sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND wait_event_type = 'Lock'"
        return (await self._world.as_owner(sql, user))[0]["count"]


async def reads_stay_in_their_project(world: World) -> None:
    """1. No read under A ever returns a row of B, on any table."""
    for project in (world.one, world.other):
        async with world.db.project(project) as session:
            await fill_all(session)

    async def look(project: UUID) -> None:
        for table in PROJECT_TABLES:
            async with world.db.project(project) as session:
                page = await getattr(repos, table).list(session, limit=500)
                assert page.items, f"{table} is empty"
                assert {row.project_id for row in page.items} == {project}, f"{table} shows another project"

    await asyncio.gather(*(look(project) for project in (world.one, world.other) * 4))


async def writes_stay_in_their_project(world: World) -> None:
    """2. No write under A changes a count, digest or newest transaction of B's rows."""
    for project in (world.one, world.other):
        async with world.db.project(project) as session:
            await fill_all(session)
    before = await world.fingerprint(world.other)
    async with world.db.project(world.other) as session:
        theirs = [row.id async for row in repos.qa_tickets.stream(session)]

    async def write(number: int) -> None:
        async with world.db.project(world.one) as session:
            mine = await make_ticket(session, f"{number}")
            await repos.qa_tickets.update(session, mine.id, QATicketUpdate(title="changed"))
            await repos.spend_ledger.append(session, entry())
            for id in theirs:
                reached = await raised(_delete_alone(session, id))
                assert type(reached) is NotFound, "another project's row was reached"

    await asyncio.gather(*(write(number) for number in range(6)))
    assert await world.fingerprint(world.other) == before, "another project's rows were changed"


async def _delete_alone(session: ProjectSession, id: UUID) -> None:
    async with session.savepoint():
        await repos.qa_tickets.delete(session, id)


async def the_ledger_adds_up(world: World) -> None:
    """3. A project's ledger sum is the sum of the accepted entries, exactly, as Decimal."""
    rng = random.Random(3)
    amounts = [Decimal(rng.randrange(1, 10**13)).scaleb(-6) for _ in range(60)]

    async def write(amount: Decimal) -> None:
        async with world.db.project(world.one) as session:
            await repos.spend_ledger.append(session, entry(amount=str(amount)))

    await asyncio.gather(*(write(amount) for amount in amounts))
    async with world.db.project(world.one) as session:
        total = await repos.spend_ledger.total(session)
        by_day = await repos.spend_ledger.totals_by(session, "day")
    assert total == sum(amounts), "the sum is another"
    assert str(total) == str(sum(amounts))
    assert sum(by_day.values()) == total


async def a_key_is_written_once(world: World) -> None:
    """4. n concurrent writes with one key give one row and n equal answers; the same key with other content never writes."""
    answers = await asyncio.gather(*(spend(world.db, world.one, "key") for _ in range(20)))
    assert len({answer.id for answer in answers}) == 1

    async def other(number: int) -> None:
        async with world.db.project(world.one) as session:
            await repos.spend_ledger.append(session, entry("key", amount=str(2 + number)))

    errors = await asyncio.gather(*(raised(other(number)) for number in range(8)))
    assert [type(error) for error in errors] == [Conflict] * 8, "other content under the same key was taken"
    rows = await world.as_owner("SELECT amount_usd FROM public.spend_ledger WHERE project_id = $1", world.one)
    assert [row["amount_usd"] for row in rows] == [1]


async def the_budget_holds(world: World) -> None:
    """5. Spent <= cap at every instant, in any interleaving."""
    cap = SpendCap(usd="60", window=timedelta(hours=1))
    overlap = Overlap(world, 10)

    async def write(_: int) -> bool:
        try:
            async with world.db.project(world.one) as session:
                await repos.spend_ledger.append(session, entry(amount="7"), cap=cap)
                await overlap.wait()
        except BudgetExceeded:
            return False
        return True

    written = sum(await asyncio.gather(*(write(number) for number in range(60))))
    async with world.db.project(world.one) as session:
        spent = await repos.spend_ledger.total(session)
    assert spent <= 60, f"{spent} of 60 were spent"
    assert (written, spent) == (8, 56)


async def logs_only_grow(world: World) -> None:
    """6. Append-only tables only grow, whatever SQL an application's session runs."""
    async with world.db.project(world.one) as session:
        await fill_all(session)
    before = await world.fingerprint(world.one)
    upsert = "ON CONFLICT (project_id, id) DO UPDATE SET id = EXCLUDED.id"
    for table in ("spend_ledger", "profile_evolution_logs", "project_mode_logs"):
        for sql in (
            f"UPDATE public.{table} SET created_at = created_at",
            f"DELETE FROM public.{table}",
            f"TRUNCATE public.{table}",
            f"INSERT INTO public.{table} SELECT * FROM public.{table} {upsert}",
        ):
            await raised(_execute(world, sql))
    after = await world.fingerprint(world.one)
    for table in ("spend_ledger", "profile_evolution_logs", "project_mode_logs"):
        assert after[table] == before[table], f"{table} did not only grow"


async def _execute(world: World, sql: str) -> None:
    async with world.db.project(world.one) as session:
        await session.sql.execute(sa.text(sql))


async def a_run_has_one_owner(world: World) -> None:
    """7. A claimed run has one owner; it ends completed, or claimable again within one sweep."""
    async with world.db.project(world.one) as session:
        for _ in range(10):
            await repos.qa_runs.enqueue(session, QARunCreate(trigger="MANUAL", routes=["ADAPTER"]))
    owners: Counter[UUID] = Counter()
    errors: list[object] = []
    overlap = Overlap(world, 8)

    async def work(name: str) -> None:
        while True:
            async with world.db.project(world.one) as session:
                run = await repos.qa_runs.claim(session, name)
                await overlap.wait()
            if run is None:
                return
            owners[run.id] += 1
            if len(owners) % 3:
                errors.append(await raised(complete(run.id, name)))

    async def complete(id: UUID, name: str) -> None:
        async with world.db.project(world.one) as session:
            await repos.qa_runs.complete(session, id, RunStats(), worker=name)

    await asyncio.gather(*(work(f"worker {number}") for number in range(8)))
    assert set(owners.values()) == {1}, "a run was claimed twice"
    assert (len(owners), set(errors)) == (10, {None})
    async with world.db.project(world.one) as session:
        stalled = await repos.qa_runs.requeue_stalled(session, older_than=timedelta(microseconds=1))
        counts = Counter([run.status.value async for run in repos.qa_runs.stream(session)])
    assert counts == {"COMPLETED": 10 - stalled, "QUEUED": stalled}


EDGES = {
    "OPEN": {"TRIAGED", "REJECTED", "WONT_FIX"},
    "TRIAGED": {"IN_PROGRESS", "REJECTED", "WONT_FIX"},
    "IN_PROGRESS": {"FIX_PROPOSED", "REJECTED", "WONT_FIX"},
    "FIX_PROPOSED": {"RESOLVED", "IN_PROGRESS", "REJECTED", "WONT_FIX"},
    "RESOLVED": {"OPEN"},
    "DUPLICATE": set(),
    "REJECTED": set(),
    "WONT_FIX": set(),
}
"""The state machine of a ticket as it is specified."""


WAYS = {
    "OPEN": [],
    "TRIAGED": ["TRIAGED"],
    "IN_PROGRESS": ["TRIAGED", "IN_PROGRESS"],
    "FIX_PROPOSED": ["TRIAGED", "IN_PROGRESS", "FIX_PROPOSED"],
    "RESOLVED": ["TRIAGED", "IN_PROGRESS", "FIX_PROPOSED", "RESOLVED"],
    "REJECTED": ["REJECTED"],
    "WONT_FIX": ["WONT_FIX"],
}
"""How a new ticket gets into each status."""


async def only_legal_edges(world: World) -> None:
    """8. A ticket moves along the edges of its state machine only, whoever else moves it at the same time."""
    for present, way in WAYS.items():
        for to in TicketStatus:
            async with world.db.project(world.one) as session:
                id = (await make_ticket(session)).id
                for step in way:
                    await repos.qa_tickets.transition(session, id, step)
                refused = await raised(_move_alone(session, id, to))
                assert (refused is None) is (to in EDGES[present]), f"{present} -> {to}: {refused!r}"
                assert refused is None or type(refused) is IllegalTransition
    async with world.db.project(world.one) as session:
        id = (await make_ticket(session)).id
    seen: dict[int, str] = {1: "OPEN"}
    rng = random.Random(8)

    async def push() -> None:
        for _ in range(12):
            to = rng.choice(["OPEN", "TRIAGED", "IN_PROGRESS", "FIX_PROPOSED", "RESOLVED"])
            try:
                async with world.db.project(world.one) as session:
                    row = await repos.qa_tickets.transition(session, id, to)
            except IllegalTransition:
                continue
            seen[row.version] = row.status.value

    await asyncio.gather(*(push() for _ in range(5)))
    assert sorted(seen) == list(range(1, len(seen) + 1)), "two moves made one version"
    for version in range(1, len(seen)):
        assert seen[version + 1] in EDGES[seen[version]], f"{seen[version]} -> {seen[version + 1]} was made"


async def _move_alone(session: ProjectSession, id: UUID, to: TicketStatus) -> None:
    async with session.savepoint():
        await repos.qa_tickets.transition(session, id, to)


async def one_of_n_wins(world: World) -> None:
    """9. Of n updates at one version exactly one wins, and n - 1 get StaleWrite."""
    async with world.db.project(world.one) as session:
        id = (await make_ticket(session)).id

    async def change(number: int) -> None:
        async with world.db.project(world.one) as session:
            await repos.qa_tickets.update(session, id, QATicketUpdate(title=f"{number}"), expected_version=1)

    errors = await asyncio.gather(*(raised(change(number)) for number in range(10)))
    assert Counter(type(error) for error in errors) == {StaleWrite: 9, type(None): 1}, "not one of ten won"
    async with world.db.project(world.one) as session:
        assert (await repos.qa_tickets.get(session, id)).version == 2


async def trust_follows_the_evidence(world: World) -> None:
    """10. The trust score is what its evidence says; recomputing gives the same numbers."""
    async with world.db.project(world.one) as session:
        ids = [(await make_ticket(session)).id for _ in range(9)]
        attempts = [(await repos.qa_fix_attempts.dispatch(session, id, model="m")).id for id in ids]
        for id in attempts:
            await repos.qa_fix_attempts.start(session, id)
        await repos.qa_fix_attempts.conclude(session, attempts.pop(), "ERROR")

    overlap = Overlap(world, len(attempts))

    async def conclude(id: UUID) -> None:
        async with world.db.project(world.one) as session:
            await repos.qa_fix_attempts.conclude(session, id, "MERGED")
            await overlap.wait()

    await asyncio.gather(*(conclude(id) for id in attempts))
    async with world.db.project(world.one) as session:
        seen = await repos.classification_trust.for_classification(session, "ui_bug")
        await repos.classification_trust.refresh(session)
        again = await repos.classification_trust.for_classification(session, "ui_bug")
    assert (seen.attempts, seen.successes, seen.reverts) == (9, 8, 0), "evidence is missing from the score"
    assert (again.attempts, again.successes, again.score) == (seen.attempts, seen.successes, seen.score)


async def the_mode_follows_its_log(world: World) -> None:
    """11. A project's mode is what its log says: the entries make one way from the first mode to the present one."""
    modes, overlap = list(ProjectMode), Overlap(world, 10)

    async def change(number: int) -> None:
        mode = modes[number % len(modes)]
        async with world.db.project(world.one) as session:
            try:
                await repos.projects.set_mode(session, mode, actor=f"{number}", reason="r")
            finally:  # one that the database refuses has come as far as it comes, too
                await overlap.wait()

    errors = await asyncio.gather(*(raised(change(number)) for number in range(20)))
    assert set(errors) == {None}, "the database refused what units of work wrote into the log"
    async with world.db.project(world.one) as session:
        present = (await repos.projects.current(session)).mode
        entries = [row async for row in repos.project_mode_logs.stream(session)]
    balance = Counter(row.to_mode for row in entries)
    balance.subtract(row.from_mode for row in entries)
    assert {mode: gap for mode, gap in balance.items() if gap} == {present: 1, None: -1}, "the log is not the way of the mode"


async def what_is_undone_leaves_no_trace(world: World) -> None:
    """12. A rolled-back or cancelled unit of work leaves no trace; one that says that it is committed is there."""
    said: set[str] = set()

    async def unit(name: str, *, fails: bool = False, is_late: bool = False) -> None:
        async with world.db.project(world.one) as session:
            session.after_commit(lambda: said.add(name))
            await repos.spend_ledger.append(session, entry(name))
            await make_ticket(session, name)
            if fails:
                raise KeyError(name)
            if is_late:  # the cancellation arrives when COMMIT is on its way
                asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)

    async def cut(name: str) -> None:
        task = asyncio.create_task(unit(name))
        await asyncio.sleep(random.uniform(0, 0.02))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await asyncio.gather(
        *(unit(f"failed {number}", fails=True) for number in range(10)),
        *(cut(f"cut {number}") for number in range(60)),
        *(unit(f"late {number}", is_late=True) for number in range(10)),
        return_exceptions=True,
    )
    await settled(world.db)
    rows = await world.as_owner("SELECT idempotency_key FROM public.spend_ledger WHERE project_id = $1", world.one)
    stored = {row["idempotency_key"] for row in rows}
    assert stored == said, f"undone units left {len(stored - said)} traces, {len(said - stored)} that were committed are gone"
    assert {f"late {number}" for number in range(10)} <= stored


async def evidence_is_kept(world: World) -> None:
    """13. An artifact is never pruned before its time or on hold, also when the hold arrives during the sweep."""
    ids = []
    for days in (-3, -2, -1, 30):
        id = new_id()
        await world.as_owner(
            "INSERT INTO public.audit_artifacts (project_id, id, kind, storage_uri, mime_type, byte_size, content_hash,"
            " compliance_mode, retention_until) VALUES ($1, $2, 'LOG', 's3://b/x', 'text/plain', 1, $3, 'STANDARD',"
            " now() + make_interval(days => $4))",
            world.one,
            id,
            "a" * 64,
            days,
        )
        ids.append(id)
    blobs = []

    async def delete_blob(row: Any) -> None:
        if not blobs:
            async with world.db.project(world.one) as session:
                await repos.audit_artifacts.hold(session, ids[1])
        blobs.append(row.id)

    async with world.db.project(world.one) as session:
        await repos.audit_artifacts.prune_expired(session, delete_blob=delete_blob)
    async with world.db.project(world.one) as session:
        await raised(repos.audit_artifacts.prune_expired(session))
    rows = await world.as_owner("SELECT id FROM public.audit_artifacts WHERE project_id = $1", world.one)
    kept = {row["id"] for row in rows}
    assert {ids[1], ids[3]} <= kept, "evidence on hold, or before its time, is gone"
    assert kept == {ids[1], ids[3]}
    assert blobs == [ids[0], ids[2]]


async def a_project_goes_as_a_whole(world: World) -> None:
    """14. Deleting a project: nothing, or everything but the ledger; no orphan, also while others write."""
    async with world.db.project(world.one) as session:
        await fill_all(session)

    async def write(number: int) -> None:
        for _ in range(5):
            async with world.db.project(world.one) as session:
                await repos.qa_tickets.create(session, ticket(f"{number}"))
                await repos.spend_ledger.append(session, entry())

    async def delete() -> None:
        await asyncio.sleep(0.01)
        async with world.db.admin(reason="it goes") as admin:
            await repos.projects.delete(admin, world.one, despite_retention=True)

    results = await asyncio.gather(delete(), *(raised(write(number)) for number in range(4)))
    assert {type(error) for error in results if error} <= {ProjectNotFound}
    left = {table: seen[0] for table, seen in (await world.fingerprint(world.one)).items() if seen[0]}
    assert set(left) == {"spend_ledger"}, f"orphans: {left}"
    assert (await world.fingerprint(world.other))["project_mode_logs"][0] == 1


async def nothing_is_checked_out(world: World) -> None:
    """15. After any run: no connection is checked out, and none is idle in a transaction."""

    async def unit(number: int) -> None:
        async with world.db.project(world.one) as session:
            await make_ticket(session)
            if number % 3 == 0:
                raise KeyError
            if number % 3 == 1:
                await repos.qa_tickets.get(session, new_id())

    async def cut(number: int) -> None:
        task = asyncio.create_task(unit(3 * number + 2))
        await asyncio.sleep(random.uniform(0, 0.01))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await asyncio.gather(
        *(unit(number) for number in range(10)), *(cut(number) for number in range(20)), return_exceptions=True
    )
    with pytest.raises(ScopeError):
        await repos.qa_tickets.count(world.db.project(world.one))
    await settled(world.db, seconds=world.patience)
    async with asyncio.timeout(10):
        while (await world.as_owner(IDLE_IN_TRANSACTION))[0]["count"]:
            await asyncio.sleep(0.02)


IDLE_IN_TRANSACTION = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"

INVARIANTS: list[Scenario] = [
    reads_stay_in_their_project,
    writes_stay_in_their_project,
    the_ledger_adds_up,
    a_key_is_written_once,
    the_budget_holds,
    logs_only_grow,
    a_run_has_one_owner,
    only_legal_edges,
    one_of_n_wins,
    trust_follows_the_evidence,
    the_mode_follows_its_log,
    what_is_undone_leaves_no_trace,
    evidence_is_kept,
    a_project_goes_as_a_whole,
    nothing_is_checked_out,
]
