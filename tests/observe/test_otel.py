"""What OpenTelemetry is told, by the SDK's exporters in memory."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import text
from sqlmodel import select

from derwin_db import Database, repos
from derwin_db.errors import DatabaseUnavailable, DerwinError, InvalidReference, NotFound
from derwin_db.fields.scalars import new_id
from derwin_db.models import Project, QATicket
from derwin_db.observe.events import Observer
from derwin_db.otel import instrument
from derwin_db.session import UnitOfWork
from derwin_db.testing import TestDatabase
from derwin_db.testing.factories import past_fix, ticket
from tests.observe.conftest import Telemetry

SECRET = "a-value-that-nobody-exports"


class TestSpans:
    async def test_of_a_unit_and_its_statements(self, telemetry: Telemetry, project: Project) -> None:
        async with telemetry.db.project(project.id, snapshot=True) as session:
            await repos.qa_tickets.list(session)
        spans = telemetry.spans()
        assert list(spans) == ["BEGIN", "qa_tickets.list", "COMMIT", "derwin_db.project"]
        unit = spans.pop("derwin_db.project")
        assert (unit.kind, unit.parent, unit.status.status_code) == (SpanKind.INTERNAL, None, StatusCode.UNSET)
        assert dict(unit.attributes) == {"derwin.project.id": str(project.id), "derwin.unit.outcome": "committed"}
        for span in spans.values():
            assert span.parent.span_id == unit.context.span_id
            assert span.kind is SpanKind.CLIENT
            assert unit.start_time <= span.start_time < span.end_time <= unit.end_time

    async def test_of_a_unit_that_only_reads_are_its_reads(self, telemetry: Telemetry, project: Project) -> None:
        for _ in range(2):
            telemetry.exporter.clear()
            async with telemetry.db.project(project.id) as session:
                await repos.qa_tickets.count(session)
                await repos.qa_tickets.count(session)
        spans = telemetry.exporter.get_finished_spans()
        assert [span.name for span in spans] == ["qa_tickets.count", "qa_tickets.count", "derwin_db.project"]
        assert spans[0].attributes["server.address"]
        assert spans[2].attributes["derwin.unit.outcome"] == "committed"

    async def test_carry_what_the_conventions_ask_for(
        self, telemetry: Telemetry, migrated: TestDatabase, project: Project
    ) -> None:
        async with telemetry.db.project(project.id, snapshot=True) as session:
            await repos.qa_tickets.list(session)
        attributes = dict(telemetry.spans()["qa_tickets.list"].attributes)
        assert attributes.pop("db.query.text").startswith("SELECT public.qa_tickets.")
        assert attributes == {
            "db.system.name": "postgresql",
            "db.namespace": migrated.service.database,
            "db.operation.name": "SELECT",
            "db.collection.name": "qa_tickets",
            "db.query.summary": "qa_tickets.list",
            "server.address": migrated.service.host,
            "server.port": migrated.service.port,
            "derwin.project.id": str(project.id),
        }
        assert telemetry.spans()["COMMIT"].attributes["db.operation.name"] == "COMMIT"

    async def test_of_several_tables_name_none(self, telemetry: Telemetry, project: Project) -> None:
        async with telemetry.db.project(project.id) as session:
            await repos.qa_tickets.search(session, "totals")
        attributes = telemetry.spans()["qa_tickets.search"].attributes
        assert (attributes["db.operation.name"], "db.collection.name" in attributes) == ("SELECT", False)

    @pytest.mark.parametrize(("rows", "many"), [(1, ""), (3, "BATCH ")])
    async def test_of_a_batch_say_its_size(self, telemetry: Telemetry, project: Project, rows: int, many: str) -> None:
        async with telemetry.db.project(project.id) as session:
            await repos.rag_corpus.add_many(session, [past_fix() for _ in range(rows)])
        span = telemetry.spans()[f"{many}rag_corpus.add_many"]
        assert span.attributes["db.operation.name"] == f"{many}INSERT"
        assert span.attributes["db.collection.name"] == "rag_corpus"
        assert span.attributes.get("db.operation.batch.size") == (rows if many else None)

    async def test_of_an_error_have_its_kind_alone(self, telemetry: Telemetry, project: Project) -> None:
        with pytest.raises(InvalidReference):
            async with telemetry.db.project(project.id) as session:
                await repos.qa_tickets.create(session, ticket(run_id=new_id()))
        spans = telemetry.spans()
        failed, unit = spans["qa_tickets.create"], spans["derwin_db.project"]
        assert failed.attributes["error.type"] == failed.attributes["db.response.status_code"] == "23503"
        assert unit.attributes["error.type"] == "InvalidReference"
        assert unit.attributes["derwin.unit.outcome"] == "rolled back"
        for span in (failed, unit):
            assert (span.status.status_code, span.status.description, span.events) == (StatusCode.ERROR, None, ())

    async def test_of_the_admin_door_have_no_project(self, telemetry: Telemetry) -> None:
        async with telemetry.db.admin(reason=SECRET) as admin:
            await repos.projects.count(admin)
        spans = telemetry.spans()
        assert list(spans) == ["BEGIN", "projects.count", "COMMIT", "derwin_db.admin"]
        assert not any("derwin.project.id" in span.attributes for span in spans.values())
        assert SECRET not in telemetry.everything()

    @pytest.mark.parametrize("open_unit", [Database.probe, Database.queue])
    async def test_of_what_has_no_project_and_is_no_use_of_the_admin_door_there_are_none(
        self, telemetry: Telemetry, open_unit: Callable[[Database], UnitOfWork]
    ) -> None:
        async with open_unit(telemetry.db) as unit:
            await unit._connected()
        assert telemetry.spans() == {}
        assert telemetry.points("derwin.unit.duration") == {}

    async def test_are_children_of_the_callers(self, telemetry: Telemetry, project: Project) -> None:
        tracer = telemetry.tracers.get_tracer("a service")
        with tracer.start_as_current_span("request"):
            async with telemetry.db.project(project.id) as session:
                with tracer.start_as_current_span("step"):
                    await repos.qa_tickets.list(session)
                await repos.qa_runs.list(session)
        spans = telemetry.spans()
        parents = {name: span.parent and span.parent.span_id for name, span in spans.items()}
        assert parents["derwin_db.project"] == spans["request"].context.span_id
        assert parents["qa_tickets.list"] == spans["step"].context.span_id
        assert parents["qa_runs.list"] == spans["derwin_db.project"].context.span_id

    async def test_survive_a_unit_that_is_left_in_another_context(self, telemetry: Telemetry, project: Project) -> None:
        unit = telemetry.db.project(project.id)
        await asyncio.ensure_future(unit.__aenter__())
        await asyncio.ensure_future(repos.qa_tickets.list(unit))
        await asyncio.ensure_future(unit.__aexit__(None, None, None))
        assert telemetry.spans()["derwin_db.project"].attributes["derwin.unit.outcome"] == "committed"
        assert trace.get_current_span() is trace.INVALID_SPAN

    async def test_of_a_stream_are_its_round_trips(self, telemetry: Telemetry, project: Project) -> None:
        async with telemetry.db.project(project.id) as session:
            assert [row async for row in repos.qa_tickets.stream(session)] == []
        names = [span.name for span in telemetry.exporter.get_finished_spans()]
        assert names == ["BEGIN", "qa_tickets.stream", "qa_tickets.stream", "COMMIT", "derwin_db.project"]

    async def test_hold_no_values(self, telemetry: Telemetry, project: Project) -> None:
        with pytest.raises(NotFound):
            async with telemetry.db.project(project.id) as session:
                made = await repos.qa_tickets.create(session, ticket(title=SECRET))
                await repos.qa_tickets.find_by_fingerprint(session, SECRET)
                await session.sql.execute(text(f"SELECT '{SECRET}' /* {SECRET} */"))
                await session.sql.execute(text("SELECT :value"), {"value": SECRET})
                await (await session.sql.connection()).exec_driver_sql(f"SELECT '{SECRET}'")
                raise NotFound(SECRET)
        assert made.title == SECRET
        assert SECRET not in telemetry.everything()
        assert "derwin_open" not in telemetry.everything()


class TestCallersSql:
    async def test_is_seen(self, telemetry: Telemetry, project: Project) -> None:
        async with telemetry.db.project(project.id) as session:
            session.sql.add(QATicket(**ticket().__dict__, id=new_id(), project_id=project.id))
            await session.sql.flush()
            assert len((await session.sql.execute(select(QATicket))).all()) == 1
            await session.sql.execute(text("-- a comment\nUPDATE qa_tickets SET title = 'x'"))
        names = [span.name for span in telemetry.exporter.get_finished_spans()]
        assert {"session.sql PREPARE", "session.sql INSERT", "session.sql SELECT", "session.sql"} <= set(names)
        span = telemetry.spans()["session.sql SELECT"]
        assert span.attributes["db.query.summary"] == "session.sql SELECT"
        assert "db.query.text" not in span.attributes

    async def test_is_seen_in_batches_and_streams(self, telemetry: Telemetry, project: Project) -> None:
        async with telemetry.db.project(project.id) as session:
            rows = [row async for row in await session.sql.stream(text("SELECT generate_series(1, 200)"))]
            assert len(rows) == 200
            names = [span.name for span in telemetry.exporter.get_finished_spans()]
            assert names.count("session.sql SELECT") >= 4  # opened, then fetched from
            change = text("UPDATE qa_tickets SET title = :title WHERE title = :title")
            await session.sql.execute(change, [{"title": "a"}, {"title": "b"}])
        assert telemetry.spans()["session.sql UPDATE"].attributes["derwin.project.id"] == str(project.id)

    async def test_is_seen_on_the_drivers_connection(self, telemetry: Telemetry, project: Project) -> None:
        async with telemetry.db.project(project.id) as session:
            raw = (await (await session.sql.connection()).get_raw_connection()).driver_connection
            assert await raw.fetchval("SELECT 1") == 1
            assert [row[0] async for row in raw.cursor("VALUES (1), (2)")] == [1, 2]
            prepared = await raw.prepare("SHOW lock_timeout")
            assert await prepared.fetchval() == "2s"
            cursor = await raw.cursor("VALUES (1), (2)")
            assert (await cursor.fetchrow())[0] == 1
        names = [span.name for span in telemetry.exporter.get_finished_spans()]
        assert {"session.sql SELECT", "session.sql VALUES", "session.sql SHOW"} <= set(names)
        assert names.count("session.sql VALUES") == 2  # opened and fetched from; iterated over, it is the driver's own

    async def test_that_fails_is_seen(self, telemetry: Telemetry, project: Project) -> None:
        with pytest.raises(DerwinError):
            async with telemetry.db.project(project.id) as session:
                await session.sql.execute(text("SELECT FROM WHERE"))
        assert telemetry.spans()["session.sql PREPARE"].attributes["error.type"] == "42601"


class TestMetrics:
    async def test_time_statements(self, telemetry: Telemetry, project: Project) -> None:
        for _ in range(3):
            async with telemetry.db.project(project.id) as session:
                await repos.qa_tickets.list(session)
        points = telemetry.points("db.client.operation.duration")
        (point,) = [point for key, point in points.items() if ("db.query.summary", "qa_tickets.list") in key]
        assert point.count == 3
        assert 0 < point.sum < 10
        assert point.explicit_bounds == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
        assert not any("project" in name for key in points for name, _ in key)

    async def test_count_connections(self, telemetry: Telemetry, migrated: TestDatabase, project: Project) -> None:
        service = migrated.service
        pool = f"{service.user}@{service.host}:{service.port}/{service.database}"

        def counts() -> dict[str, int]:
            points = telemetry.points("db.client.connection.count")
            return {dict(key)["db.client.connection.state"]: point.value for key, point in points.items() if pool in str(key)}

        async with telemetry.db.project(project.id, snapshot=True) as session:
            await repos.qa_tickets.list(session)
            assert counts() == {"idle": 0, "used": 1}
        assert counts() == {"idle": 1, "used": 0}
        most = telemetry.points("db.client.connection.max")
        assert most[(("db.client.connection.pool.name", pool),)].value == 2

    async def test_time_what_a_pool_does(self, telemetry: Telemetry, project: Project) -> None:
        for _ in range(2):
            async with telemetry.db.project(project.id, snapshot=True) as session:
                await repos.qa_tickets.list(session)
                await asyncio.sleep(0.02)
        names = ("create", "wait", "use")
        create, wait, use = (next(iter(telemetry.points(f"db.client.connection.{name}_time").values())) for name in names)
        assert (create.count, wait.count, use.count) == (1, 2, 2)
        assert 0 < create.sum <= wait.sum
        assert use.sum > 0.04

    async def test_count_those_who_wait_and_those_who_got_nothing(self, telemetry: Telemetry, project: Project) -> None:
        async with (
            telemetry.db.project(project.id, snapshot=True) as first,
            telemetry.db.project(project.id, snapshot=True) as second,
        ):
            await asyncio.gather(repos.qa_tickets.list(first), repos.qa_tickets.list(second))
            third = telemetry.db.project(project.id, snapshot=True)
            await third.__aenter__()
            waiting = asyncio.ensure_future(repos.qa_tickets.list(third))
            pending: list[Any] = []
            while pending != [0, 1]:
                assert not waiting.done()
                await asyncio.sleep(0)
                points = telemetry.points("db.client.connection.pending_requests")
                pending = sorted(point.value for point in points.values())
            with pytest.raises(DatabaseUnavailable):
                await waiting
            await third._abandon()
        (timeouts,) = telemetry.points("db.client.connection.timeouts").values()
        assert timeouts.value == 1
        points = telemetry.points("db.client.connection.pending_requests")
        assert {point.value for point in points.values()} == {0}

    async def test_see_all_databases_of_one_provider(self, telemetry: Telemetry, start, project: Project) -> None:
        other = await start(pool_size=3)
        end = instrument(other, tracer_provider=telemetry.tracers, meter_provider=telemetry.meters)
        most = telemetry.points("db.client.connection.max")
        assert {point.value for point in most.values()} == {5}
        end()
        most = telemetry.points("db.client.connection.max")
        assert {point.value for point in most.values()} == {2}


class TestInstrument:
    async def test_twice_is_once(self, telemetry: Telemetry, project: Project) -> None:
        telemetry.db.observers.insert(0, Observer())  # another one does not count
        instrument(telemetry.db, tracer_provider=telemetry.tracers)
        async with telemetry.db.project(project.id) as session:
            await repos.qa_tickets.list(session)
        assert len(telemetry.exporter.get_finished_spans()) == 3  # the read, a look for the project, the unit

    async def test_ends(self, telemetry: Telemetry, project: Project) -> None:
        end = instrument(telemetry.db)
        end()
        end()
        assert telemetry.db.observers == []
        async with telemetry.db.project(project.id) as session:
            await repos.qa_tickets.list(session)
        assert telemetry.exporter.get_finished_spans() == ()
        assert telemetry.points("db.client.connection.count") == {}

    async def test_without_an_sdk_changes_nothing(self, start, project: Project) -> None:
        db = await start()
        instrument(db)
        async with db.project(project.id) as session:
            await repos.qa_tickets.create(session, ticket())
        async with db.project(project.id) as session:
            assert await repos.qa_tickets.count(session) == 1

    def test_is_not_imported_by_anything_else(self) -> None:
        script = """
            import sys, derwin_db.cli, derwin_db.database, derwin_db.transfer
            assert "opentelemetry" not in sys.modules
            import derwin_db.fastapi  # FastAPI imports the API where it is installed
            assert "derwin_db.otel" not in sys.modules
        """
        subprocess.run([sys.executable, "-c", dedent(script)], check=True)


class TestObservers:
    async def test_that_raise_do_not_harm_the_unit(self, start, project: Project, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(Observer):
            def entered(self, project_id: object) -> object:
                raise RuntimeError

            def timed(self, *_: object) -> None:
                raise RuntimeError

        db: Database = await start()
        db.observers.append(Broken())
        async with db.project(project.id) as session:
            assert await repos.qa_tickets.count(session) == 0
        assert "an observer failed" in {record.message for record in caplog.records if record.levelname == "ERROR"}

    async def test_that_have_nothing_to_look_at_units_with_are_told_the_rest(self, start, project: Project) -> None:
        seen: list[Any] = []

        class OfPools(Observer):
            def entered(self, project_id: object) -> Any:
                seen.append(project_id)

            def timed(self, _: object, what: str, __: float) -> None:
                seen.append(what)

        db: Database = await start()
        db.observers.append(OfPools())
        async with db.project(project.id, snapshot=True) as session:
            assert await repos.qa_tickets.count(session) == 0
        assert session.outcome == "committed"
        assert seen[0] == project.id
        assert {"wait", "use"} <= set(seen)
