"""How a command is ended from outside: whatever ends it, what Ctrl-C does is done, and nobody is waited for who never comes."""

import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_PATIENCE = 15
"""Seconds that cleaning up may take after such a signal."""
_LOOK_SECONDS = 0.1


@contextmanager
def ended_like_by_ctrl_c() -> Iterator[None]:
    """Have SIGTERM and SIGHUP do what Ctrl-C does: roll back, remove what is half written. A second one ends it at once.

    The exit code is that of a shell for the signal. One that the caller has ignored (nohup) stays ignored.
    """
    told: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        told.append(number)
        signal.signal(number, signal.SIG_DFL)
        signal.alarm(_PATIENCE)
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        if not callable(on_ctrl_c):  # a shell without job control has what is in the background ignore it
            raise KeyboardInterrupt
        on_ctrl_c(signal.SIGINT, frame)

    is_main = threading.current_thread() is threading.main_thread()  # no other may set them
    before = {number: signal.getsignal(number) for number in _ENDING if is_main}
    ours = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in ours:
        signal.signal(number, interrupt)
    try:
        yield
    except (SystemExit, KeyboardInterrupt):
        if told:
            sys.exit(128 + told[0])
        raise
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        if told:
            signal.alarm(0)


@contextmanager
def interruptible(file: IO[bytes]) -> Iterator[Any]:
    """Yield the file; where it is a pipe or a terminal, one whose readers and writers stop to wait when the block ends.

    A thread that waits there would keep the event loop, and with it the command, from ending.
    """
    try:
        descriptor = file.fileno()
    except OSError:  # of memory alone
        descriptor = None
    if descriptor is None or stat.S_ISREG(os.fstat(descriptor).st_mode):
        yield file
        return
    file.flush()
    pipe = _Pipe(descriptor)
    try:
        yield pipe
    finally:
        pipe.is_ended = True


class _Pipe:
    """Reads and writes no more than can be had at once, and looks now and then whether that is still wanted."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.is_ended = False

    def read(self, size: int) -> bytes:
        """Read what is there, up to so many bytes; none at the end."""
        self._wait(for_reading=True)
        return os.read(self._descriptor, size)

    def write(self, data: bytes) -> int:
        """Write all of it."""
        rest = memoryview(data)
        while rest:
            self._wait(for_reading=False)
            rest = rest[os.write(self._descriptor, rest[: select.PIPE_BUF]) :]
        return len(data)

    def flush(self) -> None:
        """Do nothing: nothing is kept back."""

    def _wait(self, *, for_reading: bool) -> None:
        wanted: tuple[list[int], list[int]] = ([self._descriptor], []) if for_reading else ([], [self._descriptor])
        while not any(select.select(*wanted, [], _LOOK_SECONDS)):
            if self.is_ended:
                raise InterruptedError
