"""`derwin-db studio` as it is typed: what it refuses, how it starts and ends, what it leaves in a database."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from derwin_db.testing import TestDatabase, TestServer
from derwin_db.testing.folder import server_folder
from tests.forking import derwin_db
from tests.studio.serving import ROOT, clean_environment, command, environment_of, run, started

WITHOUT = """
import json, sys
from click.testing import CliRunner
from derwin_db.cli import main

extra = ("jinja2", "starlette", "uvicorn")

def answered(arguments, *missing):
    sys.modules.update(dict.fromkeys(missing))
    result = CliRunner().invoke(main, arguments)
    for name in missing:
        del sys.modules[name]
    return result.exit_code, result.stdout, result.stderr

answers = {" ".join(arguments): answered(arguments, *extra) for arguments in (["--help"], ["studio", "--help"])}
print(json.dumps(answers | {name: answered(["studio"], name) for name in extra}))
"""
"""Prints what the command says where packages are missing: all of them, or one. None is imported before the command does."""


@pytest.fixture
def environment(database: TestDatabase) -> dict[str, str]:
    return environment_of(database)


class TestRefusals:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org"])
    def test_another_host_is_wrong_usage(self, host: str) -> None:
        result = run("--host", host, environment=clean_environment())
        assert result.returncode == 2
        assert "--i-know" in result.stderr

    def test_a_port_that_is_taken_is_named(self, environment: dict[str, str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for result in (
                run("--port", str(port), environment=environment),
                run(environment={**environment, "PORT": str(port)}),
            ):
                assert (result.returncode, str(port) in result.stderr) == (3, True)
                assert "Traceback" not in result.stderr

    @pytest.mark.parametrize("port", ["-1", "65536", "http"])
    def test_what_is_no_port_is_wrong_usage(self, port: str) -> None:
        assert run("--port", port, environment=clean_environment()).returncode == 2

    def test_without_the_extra_it_says_which_one_and_still_helps(self) -> None:
        result = subprocess.run(
            [sys.executable, "-c", WITHOUT], env=clean_environment(), cwd="/", capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        answers = json.loads(result.stdout)
        for missing in ("jinja2", "starlette", "uvicorn"):
            code, _, stderr = answers[missing]
            assert (code, "pip install 'derwin-db[studio]'" in stderr) == (3, True), missing
        for arguments in ("--help", "studio --help"):
            code, stdout, stderr = answers[arguments]
            assert (code, "studio" in stdout) == (0, True), (arguments, stderr)

    def test_a_database_that_is_not_there(self) -> None:
        result = run(environment=clean_environment(DATABASE_URL="postgresql://u:Kanarienvogel-7@127.0.0.1:1/d"))
        assert result.returncode == 4
        assert "Kanarienvogel" not in result.stdout + result.stderr

    def test_a_database_that_is_behind_is_not_migrated(self, server: TestServer) -> None:
        result = run(environment=environment_of(server.empty()))
        assert (result.returncode, "derwin-db migrate" in result.stderr) == (3, True)


class TestStart:
    def test_a_configured_database_is_left_as_it_is(self, server: TestServer) -> None:
        database = server.migrated()
        with started("--port", "0", environment=environment_of(database)) as studio:
            text = httpx.get(studio.url, timeout=30).text
        assert "There is no project yet" in text

    def test_prints_where_it_is_and_ends_by_ctrl_c(self, environment: dict[str, str]) -> None:
        process = subprocess.Popen(
            command("--port", "0"), env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        printed = ""
        while "Ctrl-C" not in printed:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        watchdog.cancel()
        url = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{43}/", printed)
        assert url is not None
        assert httpx.get(url[0], timeout=30).status_code == 200
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
        assert (process.returncode, rest.strip(), errors) == (0, "Stopped.", "")

    def test_a_request_that_waits_does_not_hold_the_end_up(self, environment: dict[str, str]) -> None:
        with contextlib.ExitStack() as open_ones, started("--port", "0", environment=environment) as studio:
            idle = open_ones.enter_context(socket.create_connection(("127.0.0.1", studio.port), timeout=5))
            idle.sendall(f"GET /{studio.token}/ HTTP/1.1\r\nHost: localhost\r\n".encode())

    def test_takes_the_port_of_the_environment(self, environment: dict[str, str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with started(environment={**environment, "PORT": str(port)}) as studio:
            assert studio.port == port

    def test_takes_another_port_where_its_own_is_taken(self, environment: dict[str, str]) -> None:
        with contextlib.ExitStack() as taken:
            with contextlib.suppress(OSError):
                taken.enter_context(socket.create_server(("127.0.0.1", 8001)))
            with started(environment=environment) as studio:
                assert studio.port != 8001
                assert httpx.get(studio.url, timeout=30).status_code == 200

    def test_beyond_loopback_for_those_who_know(self, environment: dict[str, str]) -> None:
        with started("--host", "0.0.0.0", "--i-know", "--port", "0", environment=environment) as studio:
            assert httpx.get(studio.url, timeout=30).status_code == 200
            assert httpx.get(studio.url, headers={"Host": "192.168.0.7"}, timeout=30).status_code == 200
            assert httpx.get(studio.url, headers={"Host": "evil.example"}, timeout=30).status_code == 403

    def test_opens_the_browser(self, environment: dict[str, str], tmp_path: Path) -> None:
        noted = tmp_path / "opened"
        browser = tmp_path / "browser"
        browser.write_text(f'#!/bin/sh\necho "$1" > {noted}.new && mv {noted}.new {noted}\n')
        browser.chmod(0o755)
        with started("--port", "0", "--open", environment={**environment, "BROWSER": f"{browser} %s"}) as studio:
            deadline = time.monotonic() + 30
            while not noted.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert noted.read_text().strip() == studio.url

    def test_two_have_two_tokens(self, environment: dict[str, str]) -> None:
        with started("--port", "0", environment=environment) as one, started("--port", "0", environment=environment) as two:
            assert one.token != two.token
            assert httpx.get(f"{one.origin}/{two.token}/", timeout=30).status_code == 404


class TestFreshMachine:
    def test_ends_with_something_to_see(self) -> None:
        with server_folder("dwf-") as folder:
            environment = clean_environment(DERWIN_DATA_DIR=str(folder / "data"))
            try:
                with started("--port", "0", environment=environment) as studio:
                    first = httpx.get(f"{studio.url}p/lifeline/tables", timeout=30).text
                with started("--port", "0", environment=environment) as studio:
                    again = httpx.get(f"{studio.url}p/lifeline/tables", timeout=30).text
            finally:
                derwin_db("embedded", "stop", environment=environment).check_returncode()
        for text in (first, again):
            assert '<td class="number">600</td>' in text
            assert '<td class="number">80</td>' in text

    def test_make_studio_is_the_command(self) -> None:
        makefile = (ROOT / "Makefile").read_text()
        assert re.search(r"^studio: \$\(STAMP\) ## .+\n\t\$\(BIN\)/derwin-db studio$", makefile, re.MULTILINE)
        assert re.search(r'-e "\.\[[^]]*\bstudio\b[^]]*\]"', makefile)


class TestWheel:
    def test_templates_and_style_travel(self, tmp_path: Path) -> None:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
        subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
        import zipfile

        with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
            names = set(wheel.namelist())
        folder = ROOT / "derwin_db" / "studio"
        wanted = {str(path.relative_to(ROOT)) for path in folder.rglob("*") if path.suffix in {".html", ".css", ".svg", ".py"}}
        assert len(wanted) > 20
        assert wanted <= names
