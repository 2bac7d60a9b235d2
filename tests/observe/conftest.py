"""Fixtures of the tests of observation: databases of one's own, over the shared server, that somebody looks at."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from derwin_db import Database
from derwin_db.otel import instrument
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase

Start = Callable[..., Awaitable[Database]]


@pytest.fixture
async def start(migrated: TestDatabase) -> AsyncIterator[Start]:
    """Starts a `Database` with these settings, closed after the test."""
    async with AsyncExitStack() as stack:

        async def started(**settings: object) -> Database:
            return await stack.enter_async_context(Database(**migrated.urls, settings=Settings(**settings)))

        yield started


@dataclass(frozen=True)
class Telemetry:
    """A database that reports to exporters in memory."""

    db: Database
    tracers: TracerProvider
    meters: MeterProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    def spans(self) -> dict[str, ReadableSpan]:
        """The spans that have ended, by name: of several of one name the last."""
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def points(self, name: str) -> dict[tuple[tuple[str, object], ...], object]:
        """The data points of a metric, by their attributes."""
        data = self.reader.get_metrics_data()
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        return {
            tuple(sorted(point.attributes.items())): point
            for metric in metrics
            if metric.name == name
            for point in metric.data.data_points
        }

    def everything(self) -> str:
        """All that was exported, as text."""
        spans = [span.to_json() for span in self.exporter.get_finished_spans()]
        data = self.reader.get_metrics_data()
        return "\n".join([*spans, data.to_json() if data else ""])


@pytest.fixture
async def telemetry(start: Start) -> AsyncIterator[Telemetry]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    db = await start(pool_size=2, pool_timeout=1)
    end = instrument(db, tracer_provider=tracers, meter_provider=meters)
    yield Telemetry(db, tracers, meters, exporter, reader)
    end()
    meters.shutdown()
    tracers.shutdown()
