"""Standard streams as they come: closed, full, of another encoding, without a reader. No command has to think of that."""

import contextlib
import io
import os
import sys
from typing import NoReturn

_OPENED = (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_WRONLY, "w"), ("stderr", os.O_WRONLY, "w"))
_UNWRITABLE = 3


def prepare_streams() -> None:
    """Have streams that anything can be written to, before the first command opens a file.

    What the caller closed (`>&-`) is the null device, or a file that is opened later would take its place. What the
    output's encoding does not have is written as an escape.
    """
    for number, (name, flags, mode) in enumerate(_OPENED):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123  # for the life of the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def end_unread(code: int) -> NoReturn:
    """End without another word: nobody reads the output any more, and what is left in the buffer has no reader either."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(null, stream.fileno())
    sys.exit(code)


def end_unwritable(error: OSError) -> NoReturn:
    """Say why the output can't be written, if that can be said, and end."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"The output can't be written: {error.strerror or 'the stream is closed'}.\n")
    end_unread(_UNWRITABLE)
