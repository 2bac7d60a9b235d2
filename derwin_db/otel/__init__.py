"""OpenTelemetry: spans of units of work and statements, times of statements, and the connection pools.

    from derwin_db.otel import instrument

    instrument(db)

Needs `derwin-db[otel]`. It calls the API alone; what exports, and where to, is the service's affair.
Nothing here is imported, and nothing is measured, before `instrument` is called. A span holds no value, no SQL of a
caller and no error's text. The project is an attribute of spans (`derwin.project.id`), never part of a name, and no
dimension of a metric.
"""

try:
    import opentelemetry as _opentelemetry  # noqa: F401  # what follows needs it; said here in one sentence
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError("derwin_db.otel needs OpenTelemetry: pip install 'derwin-db[otel]'.", name=_error.name) from None


from collections.abc import Callable
from functools import partial
from uuid import UUID

from opentelemetry import trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from derwin_db import __version__
from derwin_db.database import Database
from derwin_db.observe.events import Endpoint, Observer, PoolTime, RunEvent, UnitObserver
from derwin_db.otel.attributes import SCHEMA, SCOPE
from derwin_db.otel.instruments import instruments_of
from derwin_db.otel.spans import UnitSpans

__all__ = ["instrument"]


def instrument(
    db: Database, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> Callable[[], None]:
    """Have OpenTelemetry see the database's work, from the next unit of work on. Return what ends that.

    Without providers the global ones are used, also if they are set later. To instrument a database again is no error.
    """
    for observer in db.observers:
        if isinstance(observer, _Telemetry):
            return partial(_end, db, observer)
    telemetry = _Telemetry(db, tracer_provider, meter_provider)
    db.observers.append(telemetry)
    return partial(_end, db, telemetry)


def _end(db: Database, telemetry: "_Telemetry") -> None:
    if telemetry in db.observers:
        db.observers.remove(telemetry)
        telemetry.instruments.databases.discard(db)


class _Telemetry(Observer):
    """What one `Database` reports to."""

    def __init__(self, db: Database, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None) -> None:
        self._tracer = trace.get_tracer(SCOPE, __version__, tracer_provider, SCHEMA)
        self.instruments = instruments_of(meter_provider)
        self.instruments.databases.add(db)

    def entered(self, project_id: UUID | None) -> UnitObserver:
        return UnitSpans(self._tracer, self.instruments.durations, self.instruments.units, project_id)

    def timed(self, server: Endpoint, what: PoolTime, seconds: float) -> None:
        self.instruments.timed(server, what, seconds)

    def timed_out(self, server: Endpoint) -> None:
        self.instruments.timed_out(server)

    def worked(self, event: RunEvent) -> None:
        self.instruments.worked(event)

    def gave_up(self, server: Endpoint) -> None:
        self.instruments.gave_up(server)
