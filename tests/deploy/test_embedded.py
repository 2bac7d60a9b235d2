"""The embedded server: private, never taken for another process, and finished by the next start wherever one was cut short."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from derwin_db.deploy import embedded
from derwin_db.deploy.embedded import cluster, postmaster
from derwin_db.deploy.embedded.account import Account, choose_account
from derwin_db.deploy.embedded.folder import is_private, socket_folder
from derwin_db.errors import ConfigurationError, StorageFull
from derwin_db.settings import Settings
from derwin_db.testing.folder import server_folder
from tests.faults.disk import can_mount, grow, small_disk

from .servers import SMALL

IS_ROOT = os.geteuid() == 0
NOBODY = 65534
STARTER = "import sys; from pathlib import Path; from derwin_db.deploy import embedded; embedded.start(Path(sys.argv[1]))"
ODD_NAME = """My "Data", 100%20 of $HOME `x` ü'y"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that is not there yet. Its server is stopped afterwards."""
    with server_folder("derwin-test-own-", room=SMALL) as parent:
        chosen = parent / "data"
        try:
            yield chosen
        finally:
            embedded.abandon(chosen)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """The data folder of a server that was started once and stopped, to be copied."""
    with server_folder("derwin-test-made-", room=SMALL) as parent:
        chosen = parent / "data"
        embedded.start(chosen)
        assert embedded.stop(chosen) is True
        yield chosen


@pytest.fixture
def stopped(folder: Path, made: Path) -> Path:
    """A data folder of one's own whose server does not run."""
    return copied(made, folder)


@pytest.fixture(scope="module")
def running(made: Path) -> Iterator[Path]:
    """The data folder of a server that runs, with an odd name."""
    with server_folder("derwin-test-odd-", room=SMALL) as parent:
        chosen = copied(made, parent / ODD_NAME)
        embedded.start(chosen)
        try:
            yield chosen
        finally:
            embedded.stop(chosen)


def copied(made: Path, folder: Path) -> Path:
    subprocess.run(["cp", "-a", str(made), str(folder)], check=True)
    return folder


def fetch(logins: embedded.Logins, sql: str) -> list[asyncpg.Record]:
    async def ask() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(**logins.owner.connect_arguments())
        try:
            return await connection.fetch(sql)
        finally:
            await connection.close()

    return asyncio.run(ask())


def works(logins: embedded.Logins) -> bool:
    return fetch(logins, "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'derwin_%'")[0][0] >= 2


def starter(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", STARTER, str(folder)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)


def processes_of(folder: Path) -> list[psutil.Process]:
    """All programs that work on this folder."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in part for part in process.info["cmdline"] or ())
    ]


def as_nobody(*command: str) -> int:
    nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    return subprocess.run(command, check=False, capture_output=True, cwd="/", **nobody).returncode


class TestPrivate:
    def test_its_folders_are_closed_to_others(self, running: Path) -> None:
        for path in (running, running / "postgres"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        socket = running / "postgres" / ".s.PGSQL.5432"
        assert stat.S_IMODE(socket.stat().st_mode) & 0o077 == 0
        assert stat.S_IMODE((running / "lock").stat().st_mode) == 0o600

    def test_every_login_is_proved_by_the_users_name(self, running: Path) -> None:
        rules = fetch(embedded.start(running), "SELECT type, auth_method, options::text FROM pg_hba_file_rules")
        assert {tuple(rule) for rule in rules} == {("local", "peer", "{map=derwin}")}
        account = choose_account(None)
        names = fetch(embedded.start(running), "SELECT sys_name FROM pg_ident_file_mappings")
        assert {row[0] for row in names} == {"root", account.name}

    def test_it_listens_nowhere_else(self, running: Path) -> None:
        (row,) = fetch(embedded.start(running), "SELECT current_setting('listen_addresses'), current_setting('port')")
        assert tuple(row) == ("", "5432")

    def test_a_deadlock_is_over_before_others_give_up(self, running: Path) -> None:
        ((timeout,),) = fetch(embedded.start(running), "SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout'")
        assert timeout / 1000 <= Settings(_env_file=None).lock_timeout / 20

    @pytest.mark.parametrize("pool", [True, False])
    def test_another_user_does_not_get_in(self, folder: Path, made: Path, pool: bool) -> None:
        """In the data's folder, and in the folder that stands in where the path is too long for a socket."""
        long = folder / ("d" * 60) / ("e" * 40)
        chosen = folder if pool else long
        chosen.parent.mkdir(parents=True, exist_ok=True)
        copied(made, chosen)
        try:
            logins = embedded.start(chosen)
            host = Path(logins.owner.host)
            assert (host == chosen / "postgres") is pool
            assert stat.S_IMODE(host.stat().st_mode) == 0o700
            assert works(logins)
            if IS_ROOT:
                assert as_nobody(str(embedded.client_program("psql")), "-h", str(host), "-U", "postgres", "-c", "") != 0
                host.chmod(0o755)
                (host / ".s.PGSQL.5432").chmod(0o777)  # even so: who may log in is asked too
                assert as_nobody(str(embedded.client_program("psql")), "-h", str(host), "-U", "postgres", "-c", "") != 0
                embedded.start(chosen)
                assert stat.S_IMODE(host.stat().st_mode) == 0o700
        finally:
            embedded.abandon(chosen)

    def test_a_server_whose_socket_others_reach_is_to_be_started_again(self, stopped: Path, tmp_path: Path) -> None:
        """Where a former version started it, for a path that was too long."""
        embedded.start(stopped)
        file = stopped / "postgres" / "postmaster.pid"
        tmp_path.chmod(0o777)
        lines = file.read_text().splitlines()
        file.write_text("\n".join([*lines[:4], str(tmp_path), *lines[5:]]) + "\n")
        with pytest.raises(ConfigurationError, match="other users of this machine"):
            embedded.start(stopped)

    def test_a_folder_that_somebody_made_before_holds_no_socket(self, tmp_path: Path, monkeypatch) -> None:
        account = choose_account(None)
        pgdata = tmp_path / ("d" * 120)
        shared = tmp_path / "t"
        shared.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(shared))
        chosen = socket_folder(pgdata, account)
        assert is_private(chosen, account)
        for bit in range(6):
            chosen.chmod(0o700 | 1 << bit)
            assert not is_private(chosen, account)
        chosen.chmod(0o700)
        (shared / "elsewhere").mkdir()
        chosen.rmdir()
        (shared / chosen.name).symlink_to(shared / "elsewhere")
        monkeypatch.setattr("derwin_db.deploy.embedded.folder._fits", lambda folder: folder.parent == shared)
        with pytest.raises(ConfigurationError, match="shorter DERWIN_DATA_DIR"):
            socket_folder(pgdata, account)

    @pytest.mark.skipif(not IS_ROOT, reason="only root has a way to open")
    def test_a_closed_parent_is_opened_to_the_servers_user_alone(self, folder: Path, made: Path) -> None:
        closed = folder.parent / "closed"
        closed.mkdir(mode=0o700)
        copied(made, closed / "data")
        try:
            assert works(embedded.start(closed / "data"))
            assert as_nobody("/bin/sh", "-c", f"cd '{closed}'") != 0
            assert closed.stat().st_mode & 0o007 == 0
        finally:
            embedded.abandon(closed / "data")

    @pytest.mark.skipif(not IS_ROOT, reason="only root can give a folder away")
    def test_a_folder_of_another_user_is_not_taken_over(self, tmp_path: Path) -> None:
        (tmp_path / "derwin-embedded").touch()
        os.chown(tmp_path, NOBODY, NOBODY)
        with pytest.raises(ConfigurationError, match="another user"):
            embedded.start(tmp_path)

    def test_a_name_with_a_line_end_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="control character"):
            embedded.start(tmp_path / "a\nb")

    def test_neither_libpqs_variables_nor_a_locale_that_is_not_here_reach_it(self, folder: Path, monkeypatch) -> None:
        """ssh hands on the locale of a machine that has others."""
        given = {"PGPORT": "6000", "PGDATA": "/nowhere", "PGUSER": "x", "PGHOST": "db.example", "LC_ALL": "xx_YY.UTF-8"}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        assert works(embedded.start(folder))

    @pytest.mark.parametrize("what", ["data", "data/lock", "data/postgres"])
    def test_what_is_in_its_place_is_named(self, folder: Path, what: str) -> None:
        place = folder.parent / what
        place.parent.mkdir(exist_ok=True)
        for parent in {folder, place.parent} - {folder.parent, place}:
            (parent / "derwin-embedded").touch()
        place.symlink_to(folder.parent / "nowhere")
        with pytest.raises(ConfigurationError, match=f"{place}.*: "):
            embedded.start(folder)
        assert place.is_symlink()
        place.unlink()


class TestAbandon:
    def test_ends_the_server_without_its_last_writes(self, stopped: Path) -> None:
        """The same start and the end in good order are in the log before."""
        log = stopped / "postgres" / "log"
        assert "received immediate shutdown request" not in log.read_text()
        embedded.start(stopped)
        assert embedded.abandon(stopped) is True
        assert embedded.status(stopped).pid is None
        assert "received immediate shutdown request" in log.read_text()
        assert embedded.abandon(stopped) is False
        assert works(embedded.start(stopped))


class TestWaitForEnd:
    def test_a_process_that_nobody_has_asked_for_its_exit_code_has_ended(self) -> None:
        child = subprocess.Popen(["sleep", "300"])
        process = psutil.Process(child.pid)
        try:
            assert not postmaster.wait_for_end([process], 0)
            child.kill()
            assert postmaster.wait_for_end([process], 10)
            assert process.status() == psutil.STATUS_ZOMBIE
        finally:
            child.kill()
            child.wait()
        assert postmaster.wait_for_end([process], 0)


class TestWhichProcessItIs:
    def stranger(self, folder: Path, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Another process whose number postmaster.pid has, as after a power cut."""
        process = subprocess.Popen([program, *arguments], cwd=folder / "postgres", user=choose_account(None).uid)
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            path = folder / "postgres" / name
            path.write_text("\n".join([str(process.pid), *path.read_text().splitlines()[1:]]) + "\n")
        return process

    @pytest.fixture
    def killed(self, stopped: Path) -> Path:
        """A data folder whose server was killed; its postmaster.pid is still there."""
        embedded.start(stopped)
        first = postmaster.find_postmaster(stopped / "postgres")
        assert first is not None
        family = [first, *first.children(recursive=True)]
        for process in family:
            process.kill()
        assert postmaster.wait_for_end(family, 10)
        return stopped

    @pytest.mark.parametrize("is_called_postgres", [False, True])
    def test_a_stranger_with_its_number_is_left_alone(self, killed: Path, is_called_postgres: bool) -> None:
        program = str(shutil.copy("/bin/sleep", killed.parent / "postgres")) if is_called_postgres else "sleep"
        stranger = self.stranger(killed, program, "300")
        try:
            assert embedded.status(killed).pid is None
            assert embedded.stop(killed) is False
            assert works(embedded.start(killed))
            assert embedded.status(killed).pid not in (None, stranger.pid)
            assert embedded.stop(killed) is True
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()

    def test_the_server_of_another_folder_is_another(self, running: Path, tmp_path: Path) -> None:
        shutil.copy(running / "postgres" / "postmaster.pid", tmp_path / "postmaster.pid")
        assert postmaster.find_postmaster(running / "postgres") is not None
        assert postmaster.find_postmaster(tmp_path) is None

    @pytest.mark.parametrize("text", ["", "\n\n", "-1\n", "0\n", "99999999999\n", "x\n", "\xff\n", "1"])
    def test_a_file_that_says_nothing(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "postmaster.pid").write_bytes(text.encode("latin-1"))
        assert postmaster.find_postmaster(tmp_path) is None

    def test_one_that_has_just_been_launched_is_waited_for(self, tmp_path: Path, monkeypatch) -> None:
        """Whoever launched it was killed, and it has not come as far as its folder: its file is not to be taken away."""
        wait = "import time; time.sleep(60)"
        launched = subprocess.Popen([sys.executable, "-c", wait, "postgres", "-D", str(tmp_path)], cwd="/")
        while str(tmp_path) not in psutil.Process(launched.pid).cmdline():
            time.sleep(0.001)
        file, seen = tmp_path / "postmaster.pid", []
        file.write_text("1\n")

        def pause(_seconds: float) -> None:
            seen.append(file.exists())
            launched.kill()
            launched.wait()

        monkeypatch.setattr(postmaster.time, "sleep", pause)
        try:
            assert postmaster.settle(tmp_path, tmp_path) is None
        finally:
            launched.kill()
            launched.wait()
        assert (seen, file.exists()) == ([True], False)

    def test_after_the_first_process_was_killed_alone(self, stopped: Path) -> None:
        embedded.start(stopped)
        first = postmaster.find_postmaster(stopped / "postgres")
        assert first is not None
        first.kill()
        assert postmaster.wait_for_end([first], 10)
        assert works(embedded.start(stopped))
        assert embedded.status(stopped).pid != first.pid


def exists(pattern: str) -> Callable[[Path], bool]:
    return lambda folder: any(folder.glob(pattern))


MOMENTS = {
    "the folder is there": exists("derwin-embedded"),
    "data is being made": exists("postgres.new-*"),
    "half of the data is made": exists("postgres.new-*/PG_VERSION"),
    "the data is in its place": exists("postgres/PG_VERSION"),
    "the server starts": exists("postgres/postmaster.pid"),
}


CUTS = [(what, moment) for moment in MOMENTS for what in ("starter", "group", "ctrl-c")]
OFTEN = {
    ("starter", "half of the data is made"),
    ("starter", "the server starts"),
    ("group", "data is being made"),
    ("ctrl-c", "half of the data is made"),
}


class TestInterrupted:
    @pytest.mark.parametrize(
        ("what", "moment"), [cut if cut in OFTEN else pytest.param(*cut, marks=pytest.mark.long) for cut in CUTS]
    )
    def test_the_next_start_works(self, folder: Path, made: Path, what: str, moment: str) -> None:
        if moment == "the server starts":
            copied(made, folder)
        process = starter(folder)
        deadline = time.monotonic() + 30
        while not MOMENTS[moment](folder) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        if what == "starter":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGINT if what == "ctrl-c" else signal.SIGKILL)
        process.wait(30)
        assert works(embedded.start(folder))
        assert not list(folder.glob("postgres.new-*"))
        assert embedded.stop(folder) is True
        assert not [left for left in processes_of(folder) if left.name() != "python"]

    def test_data_that_a_former_version_left_half_made(self, folder: Path) -> None:
        (folder / "postgres" / "base").mkdir(parents=True)
        (folder / "derwin-embedded").touch()
        (folder / "postgres" / "PG_VERSION").write_text("18\n")
        assert works(embedded.start(folder))

    @pytest.mark.parametrize(
        ("left", "lost"), [(("global/pg_control",), "PG_VERSION"), (("PG_VERSION", "postmaster.opts"), "global/pg_control")]
    )
    def test_data_that_lost_a_file_is_not_thrown_away(self, folder: Path, left: tuple[str, ...], lost: str) -> None:
        (folder / "postgres" / "global").mkdir(parents=True)
        (folder / "derwin-embedded").touch()
        for name in left:
            (folder / "postgres" / name).write_text("18\n")
        with pytest.raises(ConfigurationError, match=f"damaged: it has no {lost}"):
            embedded.start(folder)
        assert all((folder / "postgres" / name).exists() for name in left)

    def test_what_a_killed_start_left_makes_room_before_the_next_one_needs_it(self, tmp_path: Path, monkeypatch) -> None:
        """What is not to be removed, as a file of that name, is in nobody's way."""
        left = tmp_path / "postgres.new-1"
        left.mkdir()
        (tmp_path / "postgres.new-2").touch()
        seen = []
        monkeypatch.setattr(cluster, "_initialize", lambda *_: seen.append(left.exists()))
        with (tmp_path / "lock").open("w") as lock:
            cluster.make_data(
                tmp_path, tmp_path / "postgres", Account("me", os.getuid(), os.getgid(), is_lent=False), lock.fileno()
            )
        assert seen == [False]

    def test_several_starters_find_one_server(self, folder: Path) -> None:
        others = [starter(folder) for _ in range(2)]
        found: list[embedded.Logins] = []
        threads = [threading.Thread(target=lambda: found.append(embedded.start(folder))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [process.wait(120) for process in others] == [0, 0]
        assert len(found) == 2
        assert len(set(found)) == 1
        assert works(found[0])

    @pytest.mark.skipif(not can_mount(), reason="only root mounts a small disk")
    def test_on_a_full_disk_it_says_so_and_comes_up_with_room(self) -> None:
        """Full at the first files of the data, in the midst of them, and when a server that has run starts again."""
        with small_disk(1) as disk:
            chosen = disk / "data"
            try:
                for megabytes in (1, 20, 60):
                    grow(disk, megabytes)
                    with pytest.raises(StorageFull, match="Free space"):  # the room that it leaves is taken first
                        for _ in range(3):
                            embedded.start(chosen)
                            assert megabytes == 60, f"{megabytes} MB are too many for this test"
                            fetch_until_full(chosen)
                    assert embedded.status(chosen).is_created is (megabytes == 60), f"{megabytes} MB"
                grow(disk, 400)
                assert works(embedded.start(chosen))
            finally:
                embedded.stop(chosen)


def fetch_until_full(folder: Path) -> None:
    """Stop the server, and take the rest of the disk."""
    embedded.stop(folder)
    with (folder / "ballast").open("wb") as ballast:
        try:
            while True:
                ballast.write(b"\0" * 65536)
                ballast.flush()
        except OSError:
            pass
