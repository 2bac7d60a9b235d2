"""What SIGTERM and Ctrl-C do while workers run, and that they do again afterwards what the program has them do."""

import asyncio
import os
import signal
from contextlib import AbstractContextManager

import pytest

from derwin_db import Database
from derwin_db.models import RunStatus
from derwin_db.testing import TestDatabase
from derwin_db.workers import Job
from derwin_db.workers.worker import _signals
from tests.workers.conftest import Done, Projects, enqueue, run_of, statuses


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_stop_a_worker_and_let_its_runs_end(
        self, db: Database, projects: Projects, done: Done, number: signal.Signals
    ) -> None:
        """Then a signal does again what the program had it do."""
        heard: list[int] = []
        before = {one: signal.signal(one, lambda got, _: heard.append(got)) for one in (signal.SIGTERM, signal.SIGINT)}
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        done.may_end.clear()
        worker = db.worker("w", done)
        serving = asyncio.create_task(worker.run())
        await done.until(1)
        os.kill(os.getpid(), number)
        async with asyncio.timeout(10):
            await done.jobs[0].stopping.wait()
        await enqueue(db, project)
        done.may_end.set()
        await serving
        assert (await run_of(db, project, run)).status is RunStatus.COMPLETED
        assert await statuses(db, project) == [RunStatus.COMPLETED, RunStatus.QUEUED]
        assert heard == []
        os.kill(os.getpid(), number)
        for one, handler in before.items():
            signal.signal(one, handler)
        assert heard == [number]

    async def test_stop_all_workers_of_a_process_whichever_ends_first(self, db: Database, done: Done) -> None:
        heard: list[int] = []
        before = signal.signal(signal.SIGTERM, lambda got, _: heard.append(got))
        first, second, third = (db.worker(f"w{number}", done) for number in range(3))
        serving = []
        for worker in (first, second, third):
            serving.append(asyncio.create_task(worker.run()))
            await asyncio.sleep(0)  # it has set what signals do
        first.stop()
        async with asyncio.timeout(10):
            await serving[0]
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.gather(*serving)
        assert heard == []
        os.kill(os.getpid(), signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)
        assert heard == [signal.SIGTERM]

    def test_are_heard_beside_a_worker_that_was_left_in_a_closed_loop(self) -> None:
        heard: list[int] = []
        stopped = asyncio.Event()
        before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}

        async def leave() -> AbstractContextManager[None]:
            entered = _signals(heard.clear)
            entered.__enter__()
            return entered

        async def serve() -> None:
            with _signals(stopped.set):
                os.kill(os.getpid(), signal.SIGTERM)
                async with asyncio.timeout(10):
                    await stopped.wait()

        loop = asyncio.new_event_loop()
        left = loop.run_until_complete(leave())
        loop.close()
        signal.signal(signal.SIGTERM, lambda got, _: heard.append(got))
        asyncio.run(serve())
        os.kill(os.getpid(), signal.SIGTERM)
        left.__exit__(None, None, None)
        for one, handler in before.items():
            signal.signal(one, handler)
        assert heard == [signal.SIGTERM]

    async def test_are_not_heard_in_another_thread(self, own_database: TestDatabase, db: Database, projects: Projects) -> None:
        (project,) = await projects(1)
        await enqueue(db, project)

        async def serve() -> None:
            async def work(_job: Job) -> None:
                worker.stop()

            async with Database(**own_database.urls) as other:
                worker = other.worker("w", work)
                await worker.run()

        await asyncio.to_thread(asyncio.run, serve())
        assert await statuses(db, project) == [RunStatus.COMPLETED]
