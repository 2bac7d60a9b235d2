"""How the state machine acts: one event loop of its own, a unit of work a step, two projects, invariants after each."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import DerwinError
from derwin_db.fields.scalars import new_id
from derwin_db.models import ProjectCreate, ProjectType
from derwin_db.sql import PROJECT_TABLES
from tests.repos.machine.world import World, look

WHICH = st.integers(0, 1)
"""Which of the two projects acts."""

PICK = st.sampled_from([*range(2, 14), 0, 1])
"""Which row: 0 an unknown id, 1 one of the other project, else one of its own."""

KEPT = st.sampled_from([True] * 14 + [False])
"""Whether the unit of work commits; else it is rolled back and must leave no trace."""

_FOOTPRINT = " UNION ALL ".join(
    f"SELECT '{name}' AS name, count(*), max(xmin::text::bigint), md5(string_agg(t::text, '|' ORDER BY id::text))"
    f" FROM public.{name} AS t"
    for name in ("projects", *PROJECT_TABLES)
)


class RolledBack(Exception):
    """Ends a unit of work that is not to be kept."""


class Base(RuleBasedStateMachine):
    """Two worlds, and what every rule needs."""

    runner: ClassVar[asyncio.Runner]
    db: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        self.worlds = [self.new_world() for _ in range(2)]
        self.acted: World | None = None
        self.begin()
        self.footprints = [self.runner.run(self._footprint(world)) for world in self.worlds]

    def begin(self) -> None:
        """Give both worlds something to begin with."""

    def new_world(self) -> World:
        async def create() -> World:
            async with self.db.admin(reason="a state machine") as admin:
                data = ProjectCreate(slug=f"m-{new_id().hex[-20:]}", name="Machine", type=ProjectType.OTHER)
                return World((await repos.projects.create(admin, data)).id, data.slug)

        return self.runner.run(create())

    def take(self, which: int) -> tuple[World, World]:
        """Return the world that acts and the other one."""
        self.acted = self.worlds[which]
        return self.worlds[which], self.worlds[1 - which]

    def act(
        self,
        world: World,
        verb: Callable[[ProjectSession], Awaitable[Any]],
        expected: type[DerwinError] | None = None,
        *,
        kept: bool = True,
    ) -> tuple[bool, Any]:
        """Run the verb in a unit of work. Returns whether it is stored, and what it returned.

        It must be refused with exactly the error that the model expects, or not at all.
        """

        async def unit() -> Any:
            async with self.db.project(world.id) as session:
                result = await verb(session)
                if not kept:
                    raise RolledBack
                return result

        try:
            result = self.runner.run(unit())
        except RolledBack:
            return False, None
        except DerwinError as error:
            assert type(error) is expected, f"{error!r} where the model expects {expected}"  # noqa: PT017  # one place for all rules
            return False, None
        assert expected is None, f"nothing was refused where the model expects {expected}"
        return True, result

    # --- invariants ---------------------------------------------------------------------------------------------------

    @invariant()
    def the_acting_project_is_as_the_model_says(self) -> None:
        """Nothing foreign, nothing lost, and only steps that are allowed, on all tables."""
        if self.acted is not None:
            seen, total = self.runner.run(self._look(self.acted))
            self.acted.compare(seen)
            assert total == self.acted.total()

    @invariant()
    def the_other_project_is_untouched(self) -> None:
        """Invariant 2: no count, no content and no xmin of it has changed."""
        for number, world in enumerate(self.worlds):
            if world is self.acted:
                self.footprints[number] = self.runner.run(self._footprint(world))
            elif self.acted is not None:
                assert self.runner.run(self._footprint(world)) == self.footprints[number]

    def teardown(self) -> None:
        for world in self.worlds:
            seen, _ = self.runner.run(self._look(world))
            world.compare(seen)
        assert self.db.connections_in_use() == 0

    async def _look(self, world: World) -> Any:
        async with self.db.project(world.id, read_only=True) as session:
            return await look(session), await repos.spend_ledger.total(session)

    async def _footprint(self, world: World) -> Any:
        async with self.db.project(world.id, read_only=True) as session:
            return {row[0]: tuple(row)[1:] for row in await session._driver("fetch", _FOOTPRINT)}
