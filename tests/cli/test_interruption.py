"""A command that is ended from outside leaves nothing half done, and waits for nobody."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from derwin_db.cli.interruption import ended_like_by_ctrl_c, interruptible

ROOT = Path(__file__).parents[2]
PROBE = """
import asyncio, signal, sys, types
from pathlib import Path
import click
from derwin_db import cli
from derwin_db.cli.output import command, replacing

@click.command()
@command
async def probe():
    with replacing(Path(sys.argv[1])) as file:
        file.write(b"half")
        print("ready", flush=True)
        await asyncio.sleep(60)

module = types.ModuleType("derwin_db.cli.probe")
module.probe = probe
sys.modules[module.__name__] = module
cli.COMMANDS["probe"] = ""
signal.signal(signal.SIGINT, signal.SIG_IGN if sys.argv[2] == "background" else signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
cli.main(["probe"])
"""
"""A command that has written half a file."""


class TestSignals:
    @pytest.mark.parametrize(
        ("number", "place", "code"),
        [(signal.SIGTERM, "terminal", 143), (signal.SIGHUP, "background", 129), (signal.SIGINT, "terminal", 1)],
    )
    def test_leave_no_half_file(self, tmp_path: Path, number: int, place: str, code: int) -> None:
        command = [sys.executable, "-c", PROBE, str(tmp_path / "out"), place]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            assert len(list(tmp_path.iterdir())) == 1
            process.send_signal(number)
            said = process.communicate(timeout=30)
        assert (process.returncode, said) == (code, ("", "\nAborted!\n"))
        assert list(tmp_path.iterdir()) == []


class TestHandlers:
    @pytest.fixture
    def before(self) -> Iterator[Any]:
        """What SIGTERM does; SIGINT is Ctrl-C, and SIGHUP is ignored, as under nohup."""
        wanted = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_IGN}
        found = {number: signal.signal(number, handler) for number, handler in wanted.items()}
        yield wanted[signal.SIGTERM]
        for number, handler in found.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def test_are_those_of_before_afterwards_and_what_is_ignored_stays_so(self, before: Any) -> None:
        with ended_like_by_ctrl_c():
            assert signal.getsignal(signal.SIGTERM) != before
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)) == (before, signal.SIG_IGN)

    def test_leave_no_alarm_behind_a_command_that_ended_in_time(self, before: Any) -> None:
        with pytest.raises(SystemExit) as ended, ended_like_by_ctrl_c():
            signal.raise_signal(signal.SIGTERM)
        assert (ended.value.code, signal.alarm(0), signal.getsignal(signal.SIGTERM)) == (143, 0, before)

    def test_are_left_alone_in_a_thread_that_may_not_set_them(self, before: Any) -> None:
        seen: list[Any] = []

        def work() -> None:
            with ended_like_by_ctrl_c():
                seen.append(signal.getsignal(signal.SIGTERM))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert seen == [before]


class TestPipes:
    def ends_waiting(self, descriptor: int, mode: str, wait: Callable[[Any], object]) -> None:
        """What waits in a thread stops when the block ends."""
        errors: list[BaseException] = []
        begun = threading.Event()

        def work(pipe: Any) -> None:
            begun.set()
            try:
                wait(pipe)
            except InterruptedError as error:
                errors.append(error)

        with os.fdopen(descriptor, mode, closefd=False) as file, interruptible(file) as pipe:
            thread = threading.Thread(target=work, args=(pipe,), daemon=True)
            thread.start()
            assert begun.wait(10)
        thread.join(10)
        assert (thread.is_alive(), len(errors)) == (False, 1)

    def test_whose_other_end_does_nothing_keep_no_command(self) -> None:
        ends = os.pipe()
        try:
            self.ends_waiting(ends[0], "rb", lambda pipe: pipe.read(1))
            self.ends_waiting(ends[1], "wb", lambda pipe: pipe.write(b"\0" * 4_000_000))
        finally:
            for end in ends:
                os.close(end)

    def test_all_gets_through(self, tmp_path: Path) -> None:
        sent = os.urandom(300_000)
        with (
            subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat,
            (tmp_path / "plain").open("wb") as plain,
        ):
            assert cat.stdin is not None
            assert cat.stdout is not None
            got: list[bytes] = []
            with interruptible(cat.stdout) as reading, interruptible(cat.stdin) as writing, interruptible(plain) as same:
                assert same is plain
                thread = threading.Thread(target=lambda: got.extend(iter(lambda: reading.read(65536), b"")))
                thread.start()
                assert writing.write(sent) == len(sent)
                cat.stdin.close()
                thread.join(10)
        assert b"".join(got) == sent
