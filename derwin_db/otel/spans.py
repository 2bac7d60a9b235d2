"""Spans: one for a unit of work, and one for each of its statements, made when the statement has ended."""

import time
from uuid import UUID

from opentelemetry import trace
from opentelemetry.metrics import Histogram
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from derwin_db.observe.events import StatementEvent, UnitObserver
from derwin_db.otel.attributes import of_call, of_statement

_NANOSECONDS = 1_000_000_000


class UnitSpans(UnitObserver):
    """The span of one unit of work, parent of its statements' spans.

    It is not made the current span: a unit may be entered and left in different contexts (fixtures, dependencies). A
    statement inside a span that the caller opened within the unit is that span's child.
    """

    def __init__(self, tracer: Tracer, durations: Histogram, units: Histogram, project_id: UUID | None) -> None:
        self._tracer = tracer
        self._durations = durations
        self._units = units
        self._start = time.perf_counter()
        self._around = trace.get_current_span()
        self._project = {} if project_id is None else {"derwin.project.id": str(project_id)}
        self._kind = "admin" if project_id is None else "project"
        self._span = tracer.start_span(f"derwin_db.{self._kind}", attributes=self._project)
        self._context = trace.set_span_in_context(self._span)

    def ran(self, call: StatementEvent) -> None:
        attributes = of_call(call)
        span = self._tracer.start_span(
            str(attributes["db.query.summary"]),
            self._context if trace.get_current_span() is self._around else None,
            SpanKind.CLIENT,
            {**attributes, **self._project, **of_statement(call)},
            start_time=call.started_at,
        )
        _fail(span, call.error)
        span.end(call.started_at + round(call.seconds * _NANOSECONDS))
        self._durations.record(call.seconds, attributes, trace.set_span_in_context(span))

    def left(self, outcome: str, error: str | None) -> None:
        ended = {"derwin.unit.outcome": outcome} | ({} if error is None else {"error.type": error})
        self._span.set_attributes(ended)
        self._units.record(time.perf_counter() - self._start, {"derwin.unit.kind": self._kind, **ended})
        _fail(self._span, error)
        self._span.end()


def _fail(span: Span, error: str | None) -> None:
    if error is not None:
        span.set_status(Status(StatusCode.ERROR))
