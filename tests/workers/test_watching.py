"""What is told of workers: metrics without projects, records that say whose run it was, and no use of the admin door."""

import asyncio
import logging
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from derwin_db import Database
from derwin_db.errors import DatabaseUnavailable
from derwin_db.models import RunStats, RunStatus
from derwin_db.observe.events import Observer, RunEvent
from derwin_db.otel import instrument
from derwin_db.repos.qa_runs import QARuns
from derwin_db.workers import Job
from tests.workers.conftest import DONE, Done, Projects, enqueue, statuses, until
from tests.workers.test_sweep import stall


def points(reader: InMemoryMetricReader) -> dict[str, Any]:
    """Return the points of each metric by its name."""
    data: Any = reader.get_metrics_data()
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    return {metric.name: list(metric.data.data_points) for metric in metrics}


class TestMetrics:
    async def test_say_how_long_runs_wait_and_take_and_how_they_end(self, db: Database, projects: Projects) -> None:
        reader, exporter, tracers = InMemoryMetricReader(), InMemorySpanExporter(), TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(exporter))
        end = instrument(db, tracer_provider=tracers, meter_provider=MeterProvider([reader]))
        one, other = await projects(2)
        await enqueue(db, one, 2)
        await stall(db, other, 1)
        attempts: list[str] = []

        async def work(job: Job) -> RunStats:
            attempts.append(job.claim)
            if len(attempts) == 1:
                raise DatabaseUnavailable
            if len(attempts) == 2:
                raise LookupError
            return DONE

        exporter.clear()
        async with db.worker("w", work, at_once=1):
            await until(lambda: _number(attempts, 4))
        end()
        seen = points(reader)
        (waits,) = seen["derwin.run.queue_time"]
        assert (waits.count, dict(waits.attributes)) == (4, {"derwin.worker.name": "w"})
        assert waits.explicit_bounds == (0.01, 0.1, 1, 5, 15, 60, 300, 900, 3600, 14400)
        outcomes = {point.attributes["derwin.run.outcome"]: point.count for point in seen["derwin.run.duration"]}
        assert outcomes == {"completed": 2, "failed": 1, "given back": 1}
        assert [point.value for point in seen["derwin.run.running"]] == [0]
        assert [point.value for point in seen["derwin.run.requeued"]] == [1]
        assert {span.name for span in exporter.get_finished_spans()} >= {"derwin_db.project", "qa_runs.claim"}
        assert "derwin_db.admin" not in {span.name for span in exporter.get_finished_spans()}


async def _number(attempts: list[str], wanted: int) -> bool:
    return len(attempts) >= wanted


def noted(db: Database) -> list[RunEvent]:
    """What observers of this database are told of runs from now on."""
    told: list[RunEvent] = []

    class Noting(Observer):
        def worked(self, event: RunEvent) -> None:
            told.append(event)

    db.observers.append(Noting())
    return told


class TestRecords:
    async def test_name_the_run_and_nothing_of_its_content(
        self, db: Database, projects: Projects, done: Done, caplog: pytest.LogCaptureFixture
    ) -> None:
        (project,) = await projects(1)
        (run,) = await enqueue(db, project)
        with caplog.at_level(logging.DEBUG, "derwin_db.worker"):
            async with db.worker("w", done):
                await done.until(1)
        steps = [(r.step, r.run_id, r.project_id) for r in caplog.records if hasattr(r, "step")]
        assert steps == [("claimed", str(run), str(project)), ("completed", str(run), str(project))]

    async def test_say_how_long_a_run_waited_and_was_being_done(self, db: Database, projects: Projects, done: Done) -> None:
        """None waited for less than no time, whatever its clock said when it was queued."""
        told = noted(db)
        (project,) = await projects(1)
        runs = await enqueue(db, project, 2)
        async with db.project(project) as session:
            later = sa.text("UPDATE public.qa_runs SET created_at = created_at + interval '1 hour' WHERE id = :id")
            await session.sql.execute(later, {"id": runs[1]})
        clock = asyncio.get_running_loop().time
        begun = clock()
        async with db.worker("w", done):
            await done.until(2)
        rows = {job.run_id: job.run for job in done.jobs}
        waited = {event.run_id: event.seconds for event in told if event.step == "claimed"}
        assert rows[runs[0]].started_at is not None
        assert waited == {runs[0]: (rows[runs[0]].started_at - rows[runs[0]].created_at).total_seconds(), runs[1]: 0.0}
        took = [event.seconds or 0 for event in told if event.step == "completed"]
        assert (len(took), min(took) > 0, max(took) < clock() - begun) == (2, True, True)

    async def test_say_that_a_run_is_lost_where_the_worker_itself_fails(
        self,
        db: Database,
        projects: Projects,
        done: Done,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        told = noted(db)

        async def fail(*_: Any, **__: Any) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(QARuns, "complete", fail)
        (project,) = await projects(1)
        await enqueue(db, project)
        async with db.worker("w", done):
            await done.until(1)
        assert [event.step for event in told] == ["claimed", "lost"]
        assert "a job ended by an error of the worker itself" in caplog.text

    async def test_an_observer_that_fails_disturbs_no_run(self, db: Database, projects: Projects, done: Done) -> None:
        told: list[str] = []

        class Failing(Observer):
            def worked(self, event: RunEvent) -> None:
                told.append(event.step)
                raise ZeroDivisionError

        db.observers.append(Failing())
        (project,) = await projects(1)
        await enqueue(db, project, 2)
        async with db.worker("w", done):
            await done.until(2)
        assert sorted(told) == ["claimed", "claimed", "completed", "completed"]
        assert await statuses(db, project) == [RunStatus.COMPLETED] * 2
