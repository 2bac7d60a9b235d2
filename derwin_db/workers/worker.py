"""`Worker`: takes queued runs of all projects, fair between them, and has each done in its own project's scope."""

import asyncio
import logging
import random
import secrets
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import UUID, uuid4

from derwin_db import repos
from derwin_db.connection.listening import listen
from derwin_db.errors import (
    DatabaseTimeout,
    DatabaseUnavailable,
    DerwinError,
    InvalidInput,
    ProjectNotFound,
    ScopeError,
    StorageFull,
)
from derwin_db.fields.scalars import LONG_TEXT_LENGTH
from derwin_db.models import QARun, RunStats, RunStatus
from derwin_db.observe.events import RunEvent, RunStep, tell
from derwin_db.workers.claim import Claim
from derwin_db.workers.job import Job
from derwin_db.workers.queue import CHANNEL, Queue, queue_of
from derwin_db.workers.sweep import requeue

if TYPE_CHECKING:
    from derwin_db.database import Database

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("derwin_db.worker")

Work = Callable[[Job], Awaitable[RunStats | None]]
"""Does one run. What it returns is stored with the run; without it, what is stored of the run is counted."""

_LONGEST_NAME = 400
_MOST_AT_ONCE = 1000
_BREATH_SECONDS = 0.01
"""What lies between two looks at least, whatever wakes the worker."""
_FIRST_RETRY_SECONDS = 0.05
_FAILURES = 3
"""Claims that fail one after the other before the whole database counts as away."""

_CANCEL_SECONDS = 10.0
"""How long a function that was cancelled may take to end."""

_TRANSIENT = (DatabaseUnavailable, DatabaseTimeout, StorageFull)


class Worker:
    """Serves all projects. Made by `Database.worker`, used once: `await worker.run()`, or `async with worker:`."""

    def __init__(
        self,
        db: "Database",
        name: str,
        work: Work,
        *,
        at_once: int,
        at_once_per_project: int | None,
        poll_seconds: float,
        stalled_seconds: float,
        grace_seconds: float,
    ) -> None:
        self.name: str = _checked_name(name)
        self._db = db
        self._work = work
        self._at_once = _checked_number("at_once", at_once)
        self._per_project = None if at_once_per_project is None else _checked_number("at_once_per_project", at_once_per_project)
        self._poll = _checked_seconds("poll_seconds", poll_seconds)
        self._stalled = _checked_seconds("stalled_seconds", stalled_seconds)
        self._grace = _checked_seconds("grace_seconds", grace_seconds, least=0)
        self._jobs: dict[asyncio.Task[None], tuple[Job, Claim]] = {}
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failures = 0
        self._last = uuid4()  # workers begin at different places of the circle
        self._main: asyncio.Task[None] | None = None

    # --- from outside -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take runs until SIGTERM, SIGINT or `stop`, then let those that are being done end, within `grace_seconds`.

        Those that do not end are given back to the queue. A second signal gives all of them back at once.

        Errors:
            What can't pass by waiting: ConfigurationError, SchemaOutOfDate, IsolationNotEnforced.
        """
        main = self._begin()
        with _signals(self.stop):
            try:
                await asyncio.shield(main)
            except asyncio.CancelledError:
                self._cut_short()
                await asyncio.wait({main})
                raise

    def stop(self) -> None:
        """Take no further run, and let `run` or the block end. Called again: without waiting for those that are being done."""
        if self._stopping.is_set():
            self._cut_short()
        self._stopping.set()
        for job, _ in self._jobs.values():
            job.stopping.set()
        self._wake.set()

    @property
    def running(self) -> int:
        """How many runs this worker is doing now."""
        return len(self._jobs)

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._main is not None
        if not self._stopping.is_set():
            self.stop()
        try:
            await asyncio.shield(self._main)
        except asyncio.CancelledError:
            self._cut_short()
            await asyncio.wait({self._main})
            raise

    def _begin(self) -> "asyncio.Task[None]":
        if self._main is not None:
            raise ScopeError("A worker is used once: make another one.")
        self._main = asyncio.create_task(self._serve(), name=f"derwin-db worker {self.name}")
        return self._main

    def _cut_short(self) -> None:
        self._stopping.set()
        self._grace = 0.0
        self._wake.set()
        self._cancel_jobs()

    def _cancel_jobs(self) -> None:
        for task, (_, claim) in list(self._jobs.items()):
            claim.hurry()
            task.cancel()

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        helpers: list[asyncio.Task[None]] = []
        try:
            queue = await self._opened()
            if queue is None:
                return
            helpers = await self._helpers(queue)
            logger.info("worker %s serves all projects", self.name)
            await self._take_until_stopped(queue)
        finally:
            for helper in helpers:
                helper.cancel()
            await self._drain()
            await asyncio.gather(*helpers, return_exceptions=True)
            logger.info("worker %s has stopped", self.name)

    async def _opened(self) -> Queue | None:
        """Wait for a database that is away. None where the worker was stopped meanwhile."""
        attempts = 0
        while not self._stopping.is_set():
            try:
                return await queue_of(self._db)
            except _TRANSIENT as error:
                await self._recover(attempts, error)
                attempts += 1
        return None

    async def _helpers(self, queue: Queue) -> "list[asyncio.Task[None]]":
        helpers = [asyncio.create_task(self._requeue_stalled(queue))]
        login = await self._db.listening_login()
        if login is not None:
            helpers.append(asyncio.create_task(listen(login, self._db.settings, CHANNEL, self._wake.set)))
        else:
            logger.info("worker %s asks every %g s or so: no login here leads to the server itself", self.name, self._poll)
        return helpers

    async def _take_until_stopped(self, queue: Queue) -> None:
        troubles = 0
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                taken, is_contended = await self._take(queue)
            except _TRANSIENT as error:
                await self._recover(troubles, error)
                troubles += 1
                continue
            troubles = troubles + 1 if is_contended and not taken else 0
            await self._rest(_retry_seconds(troubles, self._poll) if is_contended else self._poll)

    async def _take(self, queue: Queue) -> tuple[int, bool]:
        """Fill the free slots, a run a turn from one project to the next.

        Returns how many were taken, and whether projects may have more that could not be had now.
        """
        fruitless: set[UUID] = set()
        taken = 0
        while (free := self._at_once - len(self._jobs)) > 0 and not self._stopping.is_set():
            projects = await queue.waiting(self._last, free, self._per_project)
            if not projects:
                return taken, bool(fruitless)
            for project in projects:
                if self._stopping.is_set():  # also while it was asked who waits
                    break
                if project in fruitless:  # once round, and nobody had one to give
                    return taken, True
                self._last = project
                if await self._claim(project):
                    taken += 1
                    fruitless.clear()
                else:
                    fruitless.add(project)
        return taken, False

    async def _claim(self, project: UUID) -> bool:
        """Claim a run of the project and begin it. Returns whether there was one to be had."""
        name = f"{self.name}/{secrets.token_hex(6)}"
        begun = asyncio.get_running_loop().time()
        try:
            async with self._db.project(project) as session:
                run = await repos.qa_runs.claim(session, name, at_most=self._per_project)
        except ProjectNotFound:  # deleted meanwhile
            return False
        except (DatabaseUnavailable, DatabaseTimeout) as error:  # of a distributed server one node may be away
            self._failures += 1
            if self._failures >= _FAILURES:
                raise
            logger.info("no run of a project could be claimed: %s", error.code)
            return False
        self._failures = 0
        if run is not None:
            self._start(run, name, begun)
        return run is not None

    def _start(self, run: QARun, name: str, begun: float) -> None:
        job = Job(self._db, run, name)
        claim = Claim(self._db, job, self._stalled, begun)
        task = asyncio.create_task(self._do(job, claim))
        self._jobs[task] = job, claim
        task.add_done_callback(self._ended)
        if self._stopping.is_set():
            job.stopping.set()
        assert run.started_at is not None  # its claim says when
        self._tell("claimed", job, max((run.started_at - run.created_at).total_seconds(), 0.0))

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._jobs.pop(task, None)
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            logger.error("a job ended by an error of the worker itself", exc_info=task.exception())

    async def _rest(self, seconds: float) -> None:
        """Wait for a commit elsewhere, a run that has ended or the time to ask again. With no slot free: for an end alone."""
        await asyncio.sleep(_BREATH_SECONDS)
        longest = None if len(self._jobs) >= self._at_once else seconds * random.uniform(0.5, 1.0)  # noqa: S311  # spreads load
        with suppress(TimeoutError):
            async with asyncio.timeout(longest):
                await self._wake.wait()

    async def _recover(self, attempts: int, error: DerwinError) -> None:
        log = logger.warning if attempts == 0 else logger.debug
        log("worker %s waits for the database: %s", self.name, error.message)
        if not self._stopping.is_set():
            self._wake.clear()
            await self._rest(_retry_seconds(attempts + 1, self._poll))

    async def _requeue_stalled(self, queue: Queue) -> None:
        """Put runs of workers that are gone back into the queue, as often as a run can stall."""
        while True:
            try:
                found = await requeue(self._db, queue, timedelta(seconds=self._stalled))
            except DerwinError as error:
                log = logger.debug if isinstance(error, _TRANSIENT) else logger.warning
                log("stalled runs could not be looked for: %s", error.code)
            else:
                if found.count:
                    logger.info("%d stalled runs are in the queue again", found.count)
                    self._wake.set()
            await asyncio.sleep(self._stalled * random.uniform(0.25, 0.5))  # noqa: S311  # spreads load

    # --- one run ------------------------------------------------------------------------------------------------------

    async def _do(self, job: Job, claim: Claim) -> None:
        """Have the run done while its claim is kept, and end it as it turned out."""
        begun = asyncio.get_running_loop().time()
        doing: asyncio.Task[RunStats | None] = asyncio.create_task(_result_of(self._work, job))
        keeping = asyncio.create_task(claim.keep())
        step: RunStep = "lost"
        is_lost = False
        try:
            with suppress(asyncio.CancelledError):  # the worker stops, and gives back what is not done
                await asyncio.wait({doing, keeping}, return_when=asyncio.FIRST_COMPLETED)
                is_lost = not doing.done() and not await claim.has_completed()
                if not is_lost:
                    await asyncio.wait({doing})
            if await _to_its_end(_is_over(doing)) and not is_lost:
                step = await _to_its_end(self._end(job, claim, doing))
        finally:
            keeping.cancel()
            self._tell(step, job, asyncio.get_running_loop().time() - begun)

    async def _end(self, job: Job, claim: Claim, done: "asyncio.Task[RunStats | None]") -> RunStep:
        if job.is_completed:
            return "completed"
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            try:
                return _step(await claim.complete(done.result()))
            except DerwinError as refused:  # for good: what passes by waiting was waited for
                error = refused
        is_interrupted = isinstance(error, asyncio.CancelledError) and self._stopping.is_set()
        if is_interrupted or isinstance(error, DatabaseUnavailable):
            return _step(await claim.give_back())
        logger.warning("a run failed: %s", type(error).__name__, exc_info=error)
        return _step(await claim.fail(_text_of(error)))

    async def _drain(self) -> None:
        """Wait for the runs that are being done, then give the others back."""
        if self._jobs and self._grace > 0:
            await asyncio.wait(set(self._jobs), timeout=self._grace)
        self._cancel_jobs()
        if self._jobs:
            await asyncio.wait(set(self._jobs))

    def _tell(self, step: RunStep, job: Job, seconds: float) -> None:
        event = RunEvent(step, self.name, job.project_id, job.run_id, seconds)
        logger.debug("%s: a run is %s", self.name, step, extra=event.as_extra())
        tell(self._db.observers, event)


async def _result_of(work: Work, job: Job) -> RunStats | None:
    result: object = await work(job)
    if result is None or isinstance(result, RunStats):
        return result
    raise InvalidInput("the function of a worker returns a RunStats, or None")


async def _is_over(task: "asyncio.Task[Any]") -> bool:
    """Cancel what is not done yet. Returns whether it has ended; a claim on what goes on all the same is let stall."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
    if not task.done():
        logger.error("the function of a worker caught its cancellation, and goes on")
    return task.done()


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await the work to its end, also where this task is cancelled meanwhile: the run is given back by then, or ended."""
    task = asyncio.create_task(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    return task.result()


def _step(status: RunStatus | None) -> RunStep:
    steps: dict[RunStatus, RunStep] = {
        RunStatus.COMPLETED: "completed",
        RunStatus.FAILED: "failed",
        RunStatus.QUEUED: "given back",
    }
    return "lost" if status is None else steps.get(status, "lost")


def _text_of(error: BaseException) -> str:
    """Return what is stored with a run that failed: what the error says, as text that the database takes."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()[:LONG_TEXT_LENGTH]


def _retry_seconds(attempts: int, longest: float) -> float:
    return float(min(longest, _FIRST_RETRY_SECONDS * 2 ** min(attempts, 20)))


_stopped_by_signals: dict[Callable[[], None], asyncio.AbstractEventLoop] = {}
"""What ends each worker that runs in the main thread, and on which loop."""
_before: dict[signal.Signals, Any] = {}
"""What the signals did before they stopped workers."""


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """Have SIGTERM and SIGINT stop the worker, where this thread may say so.

    They stop all workers of the process, and do again what they did before when the last one has ended.
    """
    if threading.current_thread() is not threading.main_thread():  # no other may say so
        yield
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not _stop_all:
            _before[number] = signal.signal(number, _stop_all)
    _stopped_by_signals[stop] = asyncio.get_running_loop()
    try:
        yield
    finally:
        del _stopped_by_signals[stop]
        if all(loop.is_closed() for loop in _stopped_by_signals.values()):  # whoever closes a loop may have left a worker in it
            for number, handler in _before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _stop_all(*_: object) -> None:
    for stop, loop in list(_stopped_by_signals.items()):
        with suppress(RuntimeError):  # of a loop that was closed before its worker had ended
            loop.call_soon_threadsafe(stop)


def _checked_name(name: object) -> str:
    if isinstance(name, str) and name.strip() and len(name) <= _LONGEST_NAME and name.isprintable():
        return name
    raise InvalidInput(f"name: one line of 1 to {_LONGEST_NAME} characters, which says whose claims these are.")


def _checked_number(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_AT_ONCE:
        return value
    raise InvalidInput(f"{name}: a whole number from 1 to {_MOST_AT_ONCE}.")


def _checked_seconds(name: str, value: object, least: float = 0.1) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= 1_000_000:
        return float(value)
    raise InvalidInput(f"{name}: seconds, {least:g} or more.")
