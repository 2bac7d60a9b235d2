"""The slow-query log: statements that took longer than the setting slow_query_seconds, by name, on `derwin_db.slow`.

A record names the repository's method, never a value and never the text of a caller's SQL.
"""

import logging
from typing import TYPE_CHECKING
from uuid import UUID

from derwin_db.observe.events import Observer, StatementEvent, UnitObserver

if TYPE_CHECKING:
    from derwin_db.settings import Settings

logger: logging.Logger = logging.getLogger("derwin_db.slow")


class SlowLog(Observer, UnitObserver):
    """Writes a warning for each call of the driver that took `seconds` or longer. The wait for a connection is not in it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def entered(self, project_id: UUID | None) -> UnitObserver:  # noqa: ARG002  # a call knows its project
        return self

    def ran(self, call: StatementEvent) -> None:
        if call.seconds >= self._seconds:
            extra = {
                "statement": call.name,
                "seconds": call.seconds,
                "project_id": None if call.project_id is None else str(call.project_id),
                "error": call.sqlstate or call.error,
            }
            logger.warning("%s took %.3f s", call.name, call.seconds, extra=extra)


def observers_of(settings: "Settings") -> list[Observer]:
    """Return the observers that the settings ask for."""
    return [] if settings.slow_query_seconds is None else [SlowLog(settings.slow_query_seconds)]
