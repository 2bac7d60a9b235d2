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
