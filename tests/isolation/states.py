"""The states that a session of A is in when it is attacked, and how one attack is run and judged in both worlds."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from derwin_db import ProjectSession, repos
from derwin_db.errors import DerwinError
from derwin_db.models import QARunCreate
from derwin_db.testing.examples import example
from derwin_db.testing.traces import brought_along, canonical
from derwin_db.unit.transaction import State as UnitState
from tests.isolation.arena import Arena, World

State = Callable[[World], AbstractAsyncContextManager[ProjectSession]]
Attack = Callable[[World, ProjectSession, list[Any]], Awaitable[Any]]
"""Runs in a session of A; adds to the list what it brings along."""

STATES: dict[str, State] = {}


class Undo(Exception):
    """Rolls the attacker's unit of work back, so that the next attack finds A as it was."""


def titled(function: Callable[..., Any]) -> str:
    """Return the function's name as words; the project B keeps its capital."""
    return re.sub(r"\bb\b", "B", function.__name__.replace("_", " "))


def state(function: Callable[[World], AsyncIterator[ProjectSession]]) -> None:
    STATES[titled(function)] = asynccontextmanager(function)


@state
async def fresh(world):
    async with world.wide.project(world.seat) as session:
        yield session


@state
async def read_only(world):
    async with world.wide.project(world.seat, read_only=True) as session:
        yield session


@state
async def in_a_snapshot(world):
    async with world.wide.project(world.seat, snapshot=True) as session:
        yield session


@state
async def in_a_savepoint(world):
    async with world.wide.project(world.seat) as session, session.savepoint():
        yield session


@state
async def after_a_failed_savepoint(world):
    async with world.wide.project(world.seat) as session:
        try:
            async with session.savepoint():
                await session.sql.execute(sa.text("SELECT 1 / 0"))
        except Exception:  # what the attack is about comes now
            pass
        yield session


@state
async def after_session_sql(world):
    async with world.wide.project(world.seat) as session:
        await session.sql.execute(sa.text("SELECT count(*) FROM public.qa_tickets"))
        yield session


@state
async def after_b_on_this_connection(world):
    if world.has_b:
        async with world.narrow.project(world.b.project_id) as session:
            for name in repos.__all__:
                await getattr(repos, name).list(session, limit=1)
    async with world.narrow.project(world.seat) as session:
        yield session


@state
async def beside_an_open_unit_of_b(world):
    if not world.has_b:
        async with world.wide.project(world.seat) as session:
            yield session
        return
    try:
        async with world.wide.project(world.b.project_id) as other:
            await repos.qa_runs.enqueue(other, example(QARunCreate, marker=world.b.marker))
            await repos.qa_runs.claim(other, world.b.marker)
            async with world.wide.project(world.seat) as session:
                yield session
            raise Undo
    except Undo:
        pass


@dataclass(frozen=True)
class Case:
    """One attack: of a family of attacks, in a state."""

    family: int
    name: str
    attack: Attack
    state: str = "fresh"
    in_empty: bool = False
    expects: Callable[[Any], bool] = lambda _: True
    """What the outcome has to be, beside being the same as without B."""
    method: str = ""
    """The repository's method that is attacked, where the outcome is one to publish."""

    def seated(self, world: World) -> World:
        """Return the world with the project that this attack comes from."""
        return replace(world, seat=world.empty) if self.in_empty else world

    @property
    def title(self) -> str:
        return f"{self.family}. {self.name} ({self.state})"


@dataclass
class Verdict:
    """What an attack got: empty lists where the fences hold."""

    case: Case
    outcome: Any
    leaked: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not (self.leaked or self.changed or self.differs or isinstance(self.outcome, AssertionError))

    def __str__(self) -> str:
        return f"{self.case.title}: {self.leaked=}, {self.changed=}, {self.differs=}, {self.outcome!r:.300}"


async def judge(arena: Arena, case: Case) -> Verdict:
    """Run the attack in both worlds: nothing of B comes back or changes, and it ends as if there were no B."""
    brought: list[Any] = []
    (got, digest), (alone, _) = await asyncio.gather(
        attempt(case.seated(arena.shared), case, brought), attempt(case.seated(arena.alone), case, [])
    )
    verdict = Verdict(case, got)
    verdict.leaked = arena.of_b.found_in(got, allowed=brought_along(arena.of_b, brought))
    if isinstance(got, DerwinError):  # its text holds no value at all, not even the caller's own
        verdict.leaked += arena.of_b.found_in([str(got), repr(got)])
    if (digest or await arena.shared.digest(arena.b.project_id)) != arena.digest:
        verdict.changed.append("rows of B")
    here, there = (_plain(world, outcome, arena.known) for world, outcome in ((arena.shared, got), (arena.alone, alone)))
    if not case.expects(got):
        verdict.differs.append("not what is promised")
    elif here != there:
        verdict.differs = [there[:400], here[:400]]
    return verdict


def _plain(world: World, outcome: Any, known: set[Any]) -> str:
    return repr(canonical(outcome, known)).replace(world.database.owner.database, "database")


async def attempt(world: World, case: Case, brought: list[Any]) -> tuple[Any, str | None]:
    """Run the attack, digest B inside of its transaction, roll back. Returns what it got, and the digest if there is one."""
    got: Any = None
    digest: str | None = None
    try:
        async with STATES[case.state](world) as session:
            try:
                got = await case.attack(world, session, brought)
            except Exception as error:  # an outcome like any other
                got = error
            digest = await _digest_inside(world, session)
            raise Undo
    except Undo:
        pass
    except Exception as error:  # the unit of work itself refused
        got = error
    return got, digest


async def _digest_inside(world: World, session: ProjectSession) -> str | None:
    connection = session._connection
    if not world.has_b or connection is None or session._state is UnitState.FAILED:
        return None
    try:
        return await world.digest_inside(connection)
    except Exception:  # the attack took the connection apart; then the owner looks
        return None


async def collected(result: Any) -> Any:
    """Await what a method returned, or iterate over it."""
    if hasattr(result, "__aiter__"):
        return [row async for row in result]
    return await result
