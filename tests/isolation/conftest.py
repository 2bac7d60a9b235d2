"""The arena that attacks take place in: made once, and opened on copies, so that the originals can be copied again."""

import asyncio
from collections.abc import AsyncIterator

import pytest

import tests.isolation.expressions  # noqa: F401  # first: it keeps what repositories compile from now on
from derwin_db.testing import TestDatabase, TestServer
from tests.isolation.arena import Arena, Ground, prepare
from tests.isolation.matrix import Attack
from tests.isolation.methods import method_cases
from tests.isolation.mutations import every_attack, own_arena
from tests.isolation.states import Case


@pytest.fixture(scope="session")
async def ground(server: TestServer) -> Ground:
    """Both databases, to be copied."""
    return await prepare(server)


@pytest.fixture
async def filled_database(server: TestServer, ground: Ground) -> AsyncIterator[TestDatabase]:
    """A database of one's own in which the projects `ground.a` and `ground.b` are filled."""
    copy = await asyncio.to_thread(server.clone, ground.shared)
    yield copy
    await asyncio.to_thread(server.drop, copy)


@pytest.fixture(scope="session")
async def arena(server: TestServer, ground: Ground) -> AsyncIterator[Arena]:
    """An arena with all fences in place."""
    async with own_arena(server, ground) as opened:
        yield opened


@pytest.fixture(scope="session")
async def attacks(arena: Arena) -> list[Attack]:
    """Every attack there is."""
    return await every_attack(arena)


@pytest.fixture(scope="session")
async def calls(arena: Arena) -> list[Case]:
    """The attacks on repositories' methods."""
    return await method_cases(arena)
