"""Which key a process makes its tokens with, and when it looks whether there is another one. No server is asked."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from derwin_db.isolation import keys
from derwin_db.isolation.keys import KeyRing, ServerSeal
from derwin_db.isolation.seal import Seal

OLD, NEW, NEWEST = (Seal(letter * 64, letter * 64) for letter in (b"o", b"n", b"m"))


class Source:
    """Where the keys are read, each time those of the next look; the last ones stay."""

    def __init__(self, *looks: Sequence[Seal]) -> None:
        self._looks = list(looks)
        self.asked = 0

    async def read(self) -> Sequence[Seal]:
        self.asked += 1
        await asyncio.sleep(0)
        return self._looks[min(self.asked, len(self._looks)) - 1]


class TestLook:
    async def test_now_and_then_is_one_at_a_time_and_not_too_often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 1000.0
        monkeypatch.setattr(keys, "time", SimpleNamespace(monotonic=lambda: now))
        source = Source([NEW])
        ring = KeyRing([OLD], source.read)
        now += keys.LOOK_SECONDS
        ring.look_now_and_then()
        assert (ring._looking, source.asked) == (None, 0)
        now += 1
        for _ in range(2):
            ring.look_now_and_then()
        assert ring._looking is not None
        await ring._looking
        ring.look_now_and_then()
        assert (ring.keys, ring._looking, source.asked) == ((NEW,), None, 1)

    async def test_at_a_refusal_does_not_rely_on_one_that_began_before_it(self) -> None:
        source = Source([OLD], [NEW])
        ring = KeyRing([OLD], source.read)
        await asyncio.gather(ring.look_again(), ring.look_again())
        assert (ring.keys, source.asked) == ((NEW,), 2)

    async def test_at_a_refusal_is_content_with_one_that_found_something(self) -> None:
        source = Source([NEW])
        ring = KeyRing([OLD], source.read)
        await asyncio.gather(ring.look_again(), ring.look_again())
        assert (ring.keys, source.asked) == ((NEW,), 1)

    async def test_that_can_t_be_taken_leaves_the_keys(self) -> None:
        async def away() -> Sequence[Seal]:
            raise ConnectionRefusedError

        for ring in (KeyRing([OLD], away), KeyRing([OLD])):
            await ring.look_again()
            ring.look_now_and_then()
            assert ring.keys == (OLD,)


class TestRefusedKey:
    async def test_is_followed_by_the_newest_without_a_look_where_that_is_known(self) -> None:
        source = Source([NEWEST])
        seal = ServerSeal(KeyRing([NEW, OLD], source.read))
        assert await seal.changed_after(OLD)
        assert (seal.current, source.asked) == (NEW, 0)

    async def test_is_followed_by_what_a_look_finds(self) -> None:
        seal = ServerSeal(KeyRing([OLD], Source([NEW]).read))
        assert await seal.changed_after(seal.current)
        assert seal.current == NEW

    async def test_is_followed_by_the_former_one_on_a_server_that_is_behind_and_then_by_the_newest_again(self) -> None:
        ring = KeyRing([OLD], Source([NEW]).read)
        seal = ServerSeal(ring)
        await ring.look_again()
        assert await seal.changed_after(seal.current)
        assert seal.current == OLD
        assert await seal.changed_after(seal.current)
        assert seal.current == NEW

    @pytest.mark.parametrize(
        "looks", [([NEWEST, NEW],), ([NEWEST], [Seal(NEWEST.inner, NEWEST.outer), NEW])], ids=["at once", "by a later look"]
    )
    async def test_that_is_still_the_newest_is_followed_by_the_former_one_that_is_named_with_it(self, looks: Any) -> None:
        ring = KeyRing([OLD], Source(*looks).read)
        seal = ServerSeal(ring)
        await ring.look_again()
        assert await seal.changed_after(seal.current)
        assert seal.current == NEW

    async def test_is_the_end_where_there_is_no_other(self) -> None:
        """Also where the same one is read anew."""
        seal = ServerSeal(KeyRing([OLD], Source([Seal(OLD.inner, OLD.outer)]).read))
        assert not await seal.changed_after(seal.current)
        assert seal.current == OLD

    async def test_of_another_server_is_none_of_this_one(self) -> None:
        ring = KeyRing([NEW, OLD], None)
        behind, other = ServerSeal(ring), ServerSeal(ring)
        assert await behind.changed_after(NEW)
        assert (behind.current, other.current) == (OLD, NEW)
