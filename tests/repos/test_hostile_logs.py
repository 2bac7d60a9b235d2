"""A log of profile changes that this package did not write is refused soon, in little memory; a large change is not slow."""

import asyncio
import json
import threading
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from itertools import count
from types import SimpleNamespace

import asyncpg
import pytest

from derwin_db import Database, repos
from derwin_db.errors import DerwinError
from derwin_db.models import ProfileChange, Project, ProjectProfileUpdate
from derwin_db.repos.rules import patching
from derwin_db.testing import TestDatabase
from tests.repos.rows import a_profile

Forge = Callable[..., Awaitable[int]]


@pytest.fixture
def forge(db: Database, project: Project, migrated: TestDatabase) -> Forge:
    """Writes a profile, and behind it changes of the log by hand, as the owner: a service's login is refused that by a trigger.

    Returns the version that they lead to.
    """

    async def write(operations: list[dict], *, times: int = 1, missing: int = 0) -> int:
        async with db.project(project.id) as session:
            first = await repos.project_profiles.create(session, a_profile(), actor="a", reason="r")
        owner = await asyncpg.connect(**migrated.owner.connect_arguments())
        try:
            await owner.executemany(
                "INSERT INTO public.profile_evolution_logs "
                "(project_id, profile_id, from_version, to_version, change, actor, reason, patch) "
                "VALUES ($1, $2, $3, $4, 'HUMAN_EDIT', 'a', 'r', $5::text::jsonb)",
                [(project.id, first.id, n, n + 1, json.dumps(operations)) for n in range(1, 1 + times)],
            )
            version = 1 + times + missing
            await owner.execute("UPDATE public.project_profiles SET version = $1 WHERE project_id = $2", version, project.id)
        finally:
            await owner.close()
        return version

    return write


def doubling(times: int) -> list[dict]:
    begin = [{"op": "add", "path": "/glossary/a", "value": {"x": "y" * 1000}}]
    return begin + [{"op": "copy", "from": "/glossary/a", "path": f"/glossary/a/{n}"} for n in range(times)]


def deepening(times: int) -> list[dict]:
    path = "/glossary"
    return [{"op": "add", "path": (path := path + "/a"), "value": {}} for _ in range(times)]


HOSTILE = {
    "it doubles": (doubling(40), 1),
    "it doubles a little, often": (doubling(10), 30),
    "it is deep": (deepening(2000), 1),
    "it gets deep by moving": ([{"op": "add", "path": "/glossary/b", "value": {}}, *(
        operation
        for _ in range(100)
        for operation in (
            {"op": "move", "from": "/glossary/b", "path": "/summary"},
            {"op": "add", "path": "/glossary/b", "value": {}},
            {"op": "move", "from": "/summary", "path": "/glossary/b/b"},
        )
    )], 1),
    "it has too many steps": ([{"op": "test", "path": "/summary", "value": None}] * 100_001, 1),
    "it is no patch": ([{"op": "add"}], 1),
    "it names nothing": ([{"op": "remove", "path": "/nothing"}], 1),
    "it replaces the whole": ([{"op": "replace", "path": "", "value": []}], 1),
    "it leaves no profile": ([{"op": "remove", "path": "/summary"}], 1),
    "it points at itself": ([{"op": "move", "from": "/glossary", "path": "/glossary/a"}], 1),
}  # fmt: skip


class TestAHostileLog:
    @pytest.mark.parametrize("what", HOSTILE)
    async def test_is_refused_soon_and_in_little_memory(self, db: Database, project: Project, forge: Forge, what: str) -> None:
        operations, times = HOSTILE[what]
        version = await forge(operations, times=times)
        tracemalloc.start()
        try:
            async with db.project(project.id) as session:
                with pytest.raises(DerwinError, match="not written by this package"):
                    await repos.project_profiles.at_version(session, version)
                assert (await repos.project_profiles.at_version(session, 1)).version == 1
            assert tracemalloc.get_traced_memory()[1] < 200 * 1024 * 1024
        finally:
            tracemalloc.stop()

    async def test_that_ends_before_its_version_is_refused(self, db: Database, project: Project, forge: Forge) -> None:
        version = await forge([], missing=1)
        async with db.project(project.id) as session:
            with pytest.raises(DerwinError, match="not written by this package"):
                await repos.project_profiles.at_version(session, version)
            assert (await repos.project_profiles.at_version(session, version - 1)).version == version - 1

    @pytest.mark.parametrize(("size", "is_refused"), [(4000, False), (6000, True)])
    async def test_is_measured_again_where_what_was_added_is_too_much(
        self, db: Database, project: Project, forge: Forge, monkeypatch, size: int, is_refused: bool
    ) -> None:
        """What was replaced counts no more: the content and what comes to it have to be within the bound."""
        monkeypatch.setattr(patching, "MOST_BYTES", 10_000)
        version = await forge([{"op": "add", "path": "/glossary/a", "value": "x" * size}] * 20)
        async with db.project(project.id) as session:
            with pytest.raises(DerwinError, match="within its bounds") if is_refused else nullcontext():
                assert (await repos.project_profiles.at_version(session, version)).glossary["a"] == "x" * size

    @pytest.mark.parametrize(("words", "is_refused"), [(2, False), (6, True)])
    async def test_is_not_let_grow_to_more_than_twice_its_bound(
        self, db: Database, project: Project, forge: Forge, monkeypatch, words: int, is_refused: bool
    ) -> None:
        monkeypatch.setattr(patching, "MOST_BYTES", 10_000)
        version = await forge([{"op": "add", "path": f"/glossary/{n}", "value": "x" * 4000} for n in range(words)])
        async with db.project(project.id) as session:
            with pytest.raises(DerwinError, match="within its bounds") if is_refused else nullcontext():
                assert len((await repos.project_profiles.at_version(session, version)).glossary) >= words

    @pytest.mark.parametrize(("patches", "told"), [(2, nullcontext()), (3, pytest.raises(DerwinError, match="not written by"))])
    def test_takes_no_longer_than_its_time(self, monkeypatch, patches: int, told) -> None:
        """Each look at the clock finds it three seconds later: a patch takes six, and ten are as long as all may take."""
        clock = SimpleNamespace(monotonic=partial(next, count(100.0, 3.0)))
        monkeypatch.setattr(patching, "time", clock)
        with told:
            patching.Replay().apply_texts(['[{"op": "add", "path": "/summary", "value": "x"}]'] * patches)

    @pytest.mark.parametrize("stored", ["[" * 100_000, "[1e999999999999999999999", "[" + "9" * 5000 + "]"])
    def test_from_before_there_were_bounds_is_refused(self, stored: str) -> None:
        with pytest.raises(DerwinError, match="log"):
            patching.Replay().apply_texts([stored])

    async def test_does_not_keep_the_event_loop(self, db: Database, project: Project, forge: Forge, monkeypatch) -> None:
        """While a log is replayed, other tasks of the process go on: the replay waits here until one of them did."""
        replaying, went_on = threading.Event(), threading.Event()

        def wait(self: patching.Replay, patches: object) -> None:
            replaying.set()
            assert went_on.wait(10)
            apply(self, patches)

        apply = patching.Replay.apply_texts
        monkeypatch.setattr(patching.Replay, "apply_texts", wait)
        await forge([])
        async with db.project(project.id) as session:
            reading = asyncio.ensure_future(repos.project_profiles.at_version(session, 1))
            while not replaying.is_set():
                await asyncio.sleep(0)
            went_on.set()
            assert (await reading).version == 1


class TestALargeProfile:
    async def test_a_change_of_thousands_of_values_is_logged_and_replayed(self, db: Database, project: Project) -> None:
        """The finest patch would take the square of their number: the field is replaced as a whole."""
        glossary = {f"term {n}": f"meaning {n}" for n in range(20_000)}
        changed = {f"term {n + 10_000}": f"meaning {n}" for n in range(20_000)}
        async with db.project(project.id) as session:
            await repos.project_profiles.create(session, a_profile(glossary=glossary), actor="a", reason="r")
            await repos.project_profiles.evolve(
                session,
                ProjectProfileUpdate(glossary=changed, summary="new"),
                change=ProfileChange.HUMAN_EDIT,
                actor="a",
                reason="r",
                expected_version=1,
            )
            entries = (await repos.profile_evolution_logs.list(session)).items
            assert sorted(operation.path for operation in entries[0].patch) == ["/glossary", "/summary"]
            assert (await repos.project_profiles.at_version(session, 1)).glossary == glossary
            assert (await repos.project_profiles.at_version(session, 2)).glossary == changed


@pytest.mark.parametrize(
    ("value", "with_parts"),
    [("abc", 0), ([], 0), ({}, 0), (["a", "b"], 1), ({"ab": "c", "d": {}}, 1), ([None, True, 1000], 1), ({"a": [[None]]}, 3)],
    ids=str,
)
def test_a_value_is_measured_as_its_json_and_a_sign_for_each_list_and_object_with_parts(value: object, with_parts: int) -> None:
    assert patching._measure(value, 0) == len(json.dumps(value, separators=(",", ":"))) + with_parts
