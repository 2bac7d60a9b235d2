"""Metrics: durations of statements and of units of work, what goes on in the connection pools, and what workers do."""

from collections import Counter
from collections.abc import Iterable
from functools import cache, partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Histogram, MeterProvider, Observation

from derwin_db import __version__
from derwin_db.observe.events import Endpoint, PoolTime, RunEvent
from derwin_db.otel.attributes import SCHEMA, SCOPE, of_pool

if TYPE_CHECKING:
    from derwin_db.database import Database

_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Seconds. Source: the conventions' advice for db.client.operation.duration."""

_RUN_BUCKETS = (0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
"""Seconds that runs wait, and take."""


class Instruments:
    """The instruments of one meter, for all databases that report to it: a meter takes an instrument once."""

    def __init__(self, provider: MeterProvider | None) -> None:
        self.databases: WeakSet[Database] = WeakSet()
        meter = metrics.get_meter(SCOPE, __version__, provider, SCHEMA)
        histogram = partial(meter.create_histogram, unit="s", explicit_bucket_boundaries_advisory=_BUCKETS)
        self.durations: Histogram = histogram(
            "db.client.operation.duration", description="Duration of database client operations."
        )
        self.units: Histogram = histogram("derwin.unit.duration", description="Duration of units of work, by how they ended.")
        self._times = {
            "create": histogram("db.client.connection.create_time", description="The time it took to make a connection."),
            "use": histogram("db.client.connection.use_time", description="The time between taking and giving back."),
            "wait": histogram("db.client.connection.wait_time", description="The time it took to get a connection."),
        }
        self._timeouts = meter.create_counter(
            "db.client.connection.timeouts", "{timeout}", "Times that no connection was to be had in time."
        )
        self._given_up = meter.create_counter(
            "derwin.connection.given_up", "{connection}", "Connections that broke, or on which a statement may run on."
        )
        of_runs = partial(meter.create_histogram, unit="s", explicit_bucket_boundaries_advisory=_RUN_BUCKETS)
        self._waits = of_runs("derwin.run.queue_time", description="The time between enqueuing a run and its claim.")
        self._runs = of_runs("derwin.run.duration", description="The time that a worker took over a run, by how it ended.")
        self._requeued = meter.create_counter("derwin.run.requeued", "{run}", "Stalled runs that were put back into the queue.")
        self._running = meter.create_up_down_counter("derwin.run.running", "{run}", "Runs that workers are doing now.")
        level = meter.create_observable_up_down_counter
        level("db.client.connection.count", [self._counts], "{connection}", "Connections, by their state.")
        level("db.client.connection.max", [self._most], "{connection}", "Connections that the pool may have.")
        level("db.client.connection.pending_requests", [self._pending], "{request}", "Callers that wait for a connection.")

    def timed(self, server: Endpoint, what: PoolTime, seconds: float) -> None:
        """Record how long something of a connection took."""
        self._times[what].record(seconds, of_pool(server))

    def timed_out(self, server: Endpoint) -> None:
        """Count a caller that got no connection."""
        self._timeouts.add(1, of_pool(server))

    def worked(self, event: RunEvent) -> None:
        """Record what a worker did."""
        if event.step == "requeued":
            self._requeued.add(event.count)
            return
        worker = {"derwin.worker.name": event.worker or ""}
        self._running.add(1 if event.step == "claimed" else -1, worker)
        assert event.seconds is not None  # it is of all but what was put back
        if event.step == "claimed":
            self._waits.record(event.seconds, worker)
        else:
            self._runs.record(event.seconds, {**worker, "derwin.run.outcome": event.step})

    def gave_up(self, server: Endpoint) -> None:
        """Count a connection that was given up."""
        self._given_up.add(1, of_pool(server))

    def _counts(self, _: CallbackOptions) -> Iterable[Observation]:
        for state in ("idle", "used"):
            for server, number in self._sums(state):
                yield Observation(number, {**of_pool(server), "db.client.connection.state": state})

    def _most(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(number, of_pool(server)) for server, number in self._sums("max")]

    def _pending(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(number, of_pool(server)) for server, number in self._sums("pending")]

    def _sums(self, what: str) -> Iterable[tuple[Endpoint, int]]:
        """Add up pools of one name: one login may serve both the service and the admin door."""
        sums: Counter[Endpoint] = Counter()
        for database in list(self.databases):
            for pool in database.pools():
                sums[pool.server] += pool.load()[what]
        return sums.items()


_OF_PROVIDER: WeakKeyDictionary[MeterProvider, Instruments] = WeakKeyDictionary()


@cache
def _of_the_global_provider() -> Instruments:
    return Instruments(None)


def instruments_of(provider: MeterProvider | None) -> Instruments:
    """Return the instruments of this provider, of the global one where it is None."""
    if provider is None:
        return _of_the_global_provider()
    if provider not in _OF_PROVIDER:
        _OF_PROVIDER[provider] = Instruments(provider)
    return _OF_PROVIDER[provider]
