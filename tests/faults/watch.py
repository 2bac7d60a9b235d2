"""What must never be seen on a bad day: leaked connections, lost exceptions, secrets in any text.

Every fault test runs under a watch. It hears all loggers at DEBUG and sees every error of this package that is made,
also the ones that nobody lets out.
"""

import gc
import logging
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from derwin_db import errors

CANARY = "canary-7f3a9c"
"""Stands in inputs of the tests. Whoever prints a value prints it."""

_LOST = ("never retrieved", "was never awaited", "unclosed connection", "Task was destroyed", "non-checked-in connection")


class Watch(logging.Handler):
    """Collects log lines and errors. An error keeps alive what its traceback saw: `keep=0` is for those who count that."""

    def __init__(self, *, keep: int = 1000) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.errors: deque[BaseException] = deque(maxlen=keep)
        self.secrets: set[str] = {CANARY}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line as a log file would show it, and what structured loggers would add."""
        text = f"{record.name}: {record.getMessage()} {sorted(map(str, vars(record).values()))}"
        if record.exc_info and record.exc_info[1] is not None:
            text += "".join(traceback.format_exception(record.exc_info[1]))
        self.lines.append(text)

    def lost(self) -> list[str]:
        """Return log lines about exceptions and connections that nobody took care of."""
        gc.collect()
        return [line for line in self.lines if any(mark in line for mark in _LOST)]

    def leaks(self) -> list[str]:
        """Return the texts that hold a secret."""
        texts = [*self.lines, *(text for error in self.errors for text in shown(error))]
        return [text for text in texts if any(secret in text for secret in self.secrets)]


def shown(error: BaseException) -> list[str]:
    """Return all texts that an error is ever shown as."""
    return [str(error), repr(error), "".join(traceback.format_exception(error)), repr(getattr(error, "__dict__", {}))]


@contextmanager
def watching(*, keep: int = 1000) -> Iterator[Watch]:
    """Watch while the block runs."""
    watch = Watch(keep=keep)
    root = logging.getLogger()
    level = root.level
    make = errors.DerwinError.__init__

    def note(self: errors.DerwinError, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        watch.errors.append(self)

    root.addHandler(watch)
    root.setLevel(logging.DEBUG)
    errors.DerwinError.__init__ = note  # type: ignore[method-assign]
    try:
        yield watch
    finally:
        errors.DerwinError.__init__ = make  # type: ignore[method-assign]
        root.setLevel(level)
        root.removeHandler(watch)
