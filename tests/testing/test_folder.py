"""Folders of test servers: a run that ends removes its own, and what a killed one left goes at the next start."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from derwin_db.deploy.embedded.postmaster import wait_for_end
from derwin_db.testing.folder import make_folder, remove_folder, server_folder

STARTER = """
import sys
from derwin_db.deploy import embedded
from derwin_db.testing.folder import make_folder

folder = make_folder(sys.argv[1])
if sys.argv[2] == "server":
    embedded.start(folder / "data")
print(folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def prefix() -> str:
    return f"derwin-left-{os.urandom(4).hex()}-"


def starter(prefix: str, what: str) -> tuple[subprocess.Popen[str], Path]:
    """A test run of another process, and its folder."""
    command = [sys.executable, "-c", STARTER, prefix, what]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


class TestFolders:
    def test_are_gone_at_the_end_also_after_an_error(self, prefix):
        with pytest.raises(KeyError), server_folder(prefix) as folder:
            (folder / "file").touch()
            raise KeyError
        assert not folder.exists()

    def test_of_this_process_stay_while_it_makes_others(self, prefix):
        first, second = make_folder(prefix), make_folder(prefix)
        assert first.is_dir()
        remove_folder(first)
        remove_folder(second)
        remove_folder(second)  # once more is no error
        assert not second.exists()

    def test_of_another_process_stay_while_it_lives_and_go_after_it_was_killed(self, prefix):
        process, folder = starter(prefix, "folder")
        with server_folder(prefix):
            assert folder.is_dir()
        kill(process)
        with server_folder(prefix):
            assert not folder.exists()

    def test_go_with_the_server_that_runs_in_them(self, prefix):
        process, folder = starter(prefix, "server")
        server = psutil.Process(int((folder / "data" / "postgres" / "postmaster.pid").read_text().split()[0]))
        kill(process)
        family = [server, *server.children()]  # it outlived its starter; what served a connection may leave at any moment
        assert len(family) > 3
        assert server.is_running()
        with server_folder(prefix):
            assert not folder.exists()
        assert wait_for_end(family, 0)

    def test_go_without_whoever_looks_into_them(self, prefix):
        process, folder = starter(prefix, "folder")
        with (folder / "log").open("w"), subprocess.Popen(["tail", "-f", str(folder / "log")]) as reader:
            kill(process)
            with server_folder(prefix):
                assert not folder.exists()
            assert reader.poll() is None
            reader.kill()

    def test_a_folder_without_a_lock_is_not_ours(self, prefix, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        (tmp_path / f"{prefix}x").mkdir()
        with server_folder(prefix):
            pass
        assert (tmp_path / f"{prefix}x").is_dir()

    @pytest.mark.parametrize(
        ("is_there", "room", "place"), [(True, 1, "m"), (True, 1 << 60, "t"), (False, 1, "t"), (True, None, "t")]
    )
    def test_are_in_memory_where_there_is_room(self, prefix, tmp_path, monkeypatch, is_there, room, place):
        for name in ("t", *["m"] * is_there):
            (tmp_path / name).mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
        monkeypatch.setattr("derwin_db.testing.folder._MEMORY", tmp_path / "m")
        with server_folder(prefix, room=room) as folder:
            assert folder.parent == tmp_path / place

    def test_in_memory_go_when_there_is_no_room_any_more(self, prefix, tmp_path, monkeypatch):
        monkeypatch.setattr("derwin_db.testing.folder._MEMORY", tmp_path)
        process, folder = starter(prefix, "folder")
        kill(process)
        left = folder.rename(tmp_path / folder.name)
        with server_folder(prefix):
            assert not left.exists()
