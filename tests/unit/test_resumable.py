"""Work that outlives the cancellation of whoever awaits it."""

import asyncio

import pytest

from derwin_db.unit.resumable import Resumable


class TestRun:
    async def test_gives_what_the_work_gives(self):
        async def work():
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            return 7

        assert await Resumable(work()).run() == 7

    async def test_raises_what_the_work_raises(self):
        async def work():
            await asyncio.sleep(0.001)
            raise KeyError

        with pytest.raises(KeyError):
            await Resumable(work()).run()

    async def test_hands_the_exception_of_a_future_to_the_work(self):
        future = asyncio.get_running_loop().create_future()

        async def work():
            try:
                await future
            except KeyError:
                return "seen"

        asyncio.get_running_loop().call_later(0.001, future.set_exception, KeyError())
        assert await Resumable(work()).run() == "seen"

    async def test_a_cancellation_neither_cancels_nor_loses_it(self):
        future, steps = asyncio.get_running_loop().create_future(), []

        async def work():
            steps.append("began")
            steps.append(await future)
            return "done"

        resumable = Resumable(work())
        task = asyncio.create_task(resumable.run())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not future.cancelled()
        future.set_result("went on")
        assert await resumable.run() == "done"
        assert steps == ["began", "went on"]

    async def test_again_and_again(self):
        future = asyncio.get_running_loop().create_future()

        async def work():
            return await future

        resumable = Resumable(work())
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await resumable.run()
        future.set_result(1)
        assert await resumable.run() == 1

    async def test_work_that_waits_for_nothing(self):
        async def work():
            return 1

        assert await Resumable(work()).run() == 1


class TestCancellation:
    """Whoever waits is a task of asyncio, in C or in Python: both ask the same of what they wait for."""

    @pytest.fixture(params=["C", "Python"])
    def start(self, request):
        kind = asyncio.Task if request.param == "C" else asyncio.tasks._PyTask
        return lambda work: kind(work, loop=asyncio.get_running_loop())

    @pytest.fixture
    async def awaited(self):
        """A future, and the work that waits for it."""
        future = asyncio.get_running_loop().create_future()

        async def work():
            return await future

        return future, Resumable(work())

    async def test_is_seen_at_once(self, start, awaited):
        _, resumable = awaited
        task = start(resumable.run())
        await asyncio.sleep(0)
        assert task.cancel("enough")
        assert task.cancel("enough again")
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        assert cancelled.value.args == ("enough",)

    async def test_at_the_moment_of_the_answer_it_is_not_lost(self, start, awaited):
        future, resumable = awaited
        task = start(resumable.run())
        await asyncio.sleep(0)
        future.set_result(1)
        assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await resumable.run() == 1

    async def test_before_it_begins_to_wait(self, start, awaited):
        future, resumable = awaited
        task = start(resumable.run())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        future.set_result(1)
        assert await resumable.run() == 1

    async def test_of_the_future_itself_is_for_the_work(self, start):
        future = asyncio.get_running_loop().create_future()

        async def work():
            try:
                await future
            except asyncio.CancelledError:
                return "seen"

        task = start(Resumable(work()).run())
        await asyncio.sleep(0)
        future.cancel()
        assert await task == "seen"

    async def test_wakes_in_the_turn_in_which_the_future_would(self, start, awaited):
        """One turn more of the event loop for each commit was a fortieth of what an insert costs."""
        future, resumable = awaited
        task, plain = start(resumable.run()), start(_wait_for(future))
        await asyncio.sleep(0)
        future.set_result(1)
        await asyncio.sleep(0)
        assert (task.done(), plain.done()) == (True, True)


async def _wait_for(future):
    return await future
