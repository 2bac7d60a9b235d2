"""Runs `derwin-db`, or a program on it, as a process of its own that need not import all of it: one that did is forked.

A command imports for a second before it does anything, and hundreds are run. What a shell gives a command it gets here too:
arguments, environment, folder, streams. What the start of Python decides (signals, encodings, warnings) is tested with one.
"""

import atexit
import builtins
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import IO, Any
from warnings import filterwarnings

import click

from derwin_db.cli import COMMANDS, main

CLI = "from derwin_db.cli import main; main(prog_name='derwin-db')"
"""The command line for `python -c`: with a start of Python."""

_starting = Lock()


def _server() -> Path:
    """Return the socket of the process that is forked, which is started at the first use."""
    with _starting:
        return _started()


@cache
def _started() -> Path:
    """Start the process that is forked, and return its socket. It ends with this process."""
    folder = tempfile.mkdtemp(prefix="derwin-fork-")
    path = Path(folder) / "socket"
    process = subprocess.Popen([sys.executable, "-m", "tests.forking", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    def end() -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        path.unlink()
        path.parent.rmdir()

    atexit.register(end)
    return path


def derwin_db(
    *arguments: str, environment: Mapping[str, str], cwd: Path | str = "/", stdin: str = "", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run `derwin-db` with these arguments, in this environment alone."""
    request = {"arguments": ["derwin-db", *arguments], "environment": dict(environment), "cwd": str(cwd)}
    return _run(request, stdin, timeout)


def program(
    code: str, *arguments: str, environment: Mapping[str, str], cwd: Path | str = "/", warnings: str = "", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run this program as `python -W warnings -c` does, in this environment alone."""
    request = {"arguments": ["-c", *arguments], "environment": dict(environment), "cwd": str(cwd)}
    return _run({**request, "code": code, "warnings": warnings}, "", timeout)


class Process:
    """A command that runs."""

    def __init__(self, asked: Mapping[str, Any], streams: Sequence[int]) -> None:
        request = json.dumps(asked).encode()
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(str(_server()))
        socket.send_fds(self._line, [len(request).to_bytes(4, "big")], streams)
        self._line.sendall(request)
        self._answers = self._line.makefile("rb", buffering=0)
        self.pid = int(self._answers.readline())

    def wait(self, timeout: float) -> int:
        """Wait for its end, and return its code. One that takes longer than this is killed.

        Errors:
            TimeoutError for that one.
        """
        with self._line, self._answers:
            if select.select([self._line], [], [], timeout)[0]:
                return int(self._answers.readline())
            self.send_signal(signal.SIGKILL)
            raise TimeoutError

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


@contextmanager
def running(code: str, *arguments: str, environment: Mapping[str, str]) -> Iterator[tuple[Process, IO[str]]]:
    """Start a program, as `program` does. Yields it, and what it prints on both streams."""
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as printed:
        try:
            with Path(os.devnull).open() as nothing:
                request = {"arguments": ["-c", *arguments], "environment": dict(environment), "cwd": "/"}
                process = Process({**request, "code": code, "warnings": ""}, [nothing.fileno(), writing, writing])
        finally:
            os.close(writing)
        yield process, printed


def _run(asked: Mapping[str, Any], stdin: str, timeout: float) -> subprocess.CompletedProcess[str]:
    with (
        tempfile.TemporaryFile("w+") as given,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        given.write(stdin)
        given.seek(0)
        code = Process(asked, [given.fileno(), out.fileno(), err.fileno()]).wait(timeout)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(asked["arguments"], code, out.read(), err.read())


def serve(path: str) -> dict[str, Any]:
    """Fork for each who asks, until standard input ends. Returns in each of the processes what it is to run."""
    for name in COMMANDS:
        main.get_command(click.Context(main), name)
    for name in ("derwin_db.repos", "derwin_db.fastapi", "derwin_db.studio", "sqlalchemy.ext.asyncio", "uvicorn"):
        import_module(name)
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for commands
        while True:
            if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
                sys.exit()
            line, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                return _wait_for_command(line)
            line.close()


def _wait_for_command(line: socket.socket) -> dict[str, Any]:
    """Fork once more, wait for the command and say how it ended. Returns in the command what was asked for."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(line, 4, 3)
    with line.makefile("rb") as rest:
        request: dict[str, Any] = json.loads(rest.read(int.from_bytes(size, "big")))
    if pid := os.fork():
        line.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        line.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    line.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # as Python does when it starts
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.argv = request["arguments"]
    return request


def run(asked: Mapping[str, Any]) -> None:
    """Be the command, or the program."""
    if "code" not in asked:
        main(prog_name="derwin-db")
        return
    if asked["warnings"]:
        action, _, category = asked["warnings"].partition("::")
        filterwarnings(action, category=getattr(builtins, category or "Warning"))
    sys.path[:1] = ["", *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    module = sys.modules["__main__"] = ModuleType("__main__")
    exec(compile(asked["code"], "<string>", "exec"), module.__dict__)


if __name__ == "__main__":
    run(serve(sys.argv[1]))
