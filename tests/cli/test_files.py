"""What a command writes takes the place of the old file when it is whole, and is readable by its owner alone."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from derwin_db.cli import main
from derwin_db.cli.output import replacing
from derwin_db.errors import ConfigurationError, StorageFull
from derwin_db.testing import TestServer
from tests.faults.disk import can_mount, small_disk

from .test_commands import environment_of, run
from .test_streams import shell


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to another user")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder where everybody may write, as /tmp is."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


class TestReplacing:
    def test_a_new_file_is_private(self, tmp_path: Path) -> None:
        with replacing(tmp_path / "new") as file:
            file.write(b"whole")
            assert not (tmp_path / "new").exists()
        assert (tmp_path / "new").read_bytes() == b"whole"
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
        assert names(tmp_path) == ["new"]

    def test_an_old_one_stays_until_the_new_one_is_whole(self, tmp_path: Path) -> None:
        old = tmp_path / "old"
        old.write_bytes(b"old")
        old.chmod(0o644)
        with pytest.raises(KeyboardInterrupt), replacing(old) as file:
            file.write(b"half")
            file.flush()
            raise KeyboardInterrupt
        assert (old.read_bytes(), names(tmp_path)) == (b"old", ["old"])
        with replacing(old) as file:
            file.write(b"new")
        assert (old.read_bytes(), stat.S_IMODE(old.stat().st_mode)) == (b"new", 0o600)

    def test_a_link_stays_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "target")
        with replacing(tmp_path / "link") as file:
            file.write(b"x")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_bytes() == b"x"

    def test_a_pipe_stays_a_pipe(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
            with replacing(pipe) as file:
                file.write(b"through")
            assert reader.communicate(timeout=10)[0] == b"through"
        assert pipe.is_fifo()

    def test_the_longest_name_that_a_file_can_have(self, tmp_path: Path) -> None:
        with replacing(tmp_path / ("\u00e9" * 127)) as file:
            file.write(b"x")
        assert names(tmp_path) == ["\u00e9" * 127]

    @needs_root
    def test_a_link_of_another_user_in_a_shared_folder_is_refused(self, shared: Path, tmp_path: Path) -> None:
        """As the kernel refuses to follow it, where it is asked."""
        kept = tmp_path / "kept"
        kept.write_bytes(b"kept")
        (shared / "link").symlink_to(kept)
        (shared / "folder").symlink_to(tmp_path)
        for link in ("link", "folder"):
            os.chown(shared / link, NOBODY, NOBODY, follow_symlinks=False)
        for place in (shared / "link", shared / "folder" / "kept"):
            with pytest.raises(ConfigurationError, match="another user"), replacing(place):
                pass
        assert kept.read_bytes() == b"kept"

    @needs_root
    @pytest.mark.parametrize(
        ("mode", "folder_owner", "owner"),
        [(0o777, 0, NOBODY), (0o1755, 0, NOBODY), (0o1777, NOBODY, NOBODY), (0o1777, NOBODY, 0)],
    )
    def test_other_links_are_followed(self, shared: Path, tmp_path: Path, mode: int, folder_owner: int, owner: int) -> None:
        """In a folder that is not both sticky and everybody's, of the folder's owner, and of this user."""
        (shared / "link").symlink_to(tmp_path / "target")
        os.chown(shared / "link", owner, owner, follow_symlinks=False)
        os.chown(shared, folder_owner, folder_owner)
        shared.chmod(mode)
        with replacing(shared / "link") as file:
            file.write(b"x")
        assert (tmp_path / "target").read_bytes() == b"x"

    @needs_root
    def test_a_pipe_of_another_user_is_refused(self, shared: Path) -> None:
        """Who made it reads it."""
        os.mkfifo(shared / "pipe")
        os.chown(shared / "pipe", NOBODY, NOBODY)
        with subprocess.Popen(["cat", str(shared / "pipe")], stdout=subprocess.PIPE) as reader:
            with pytest.raises(ConfigurationError), replacing(shared / "pipe") as file:
                file.write(b"all of it")
            reader.terminate()
            assert reader.communicate(timeout=10)[0] == b""

    def test_a_place_that_can_not_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="can't be written"), replacing(tmp_path / "nowhere" / "file"):
            pass

    @pytest.mark.skipif(not can_mount(), reason="only root mounts a small disk")
    def test_a_full_disk(self) -> None:
        with small_disk(1) as disk:
            (disk / "old").write_bytes(b"old")
            with pytest.raises(StorageFull, match="untouched"), replacing(disk / "old") as file:
                file.write(b"\0" * 2_000_000)
            assert ((disk / "old").read_bytes(), names(disk)) == (b"old", ["old"])


@pytest.fixture(scope="module")
def seeded(server: TestServer) -> dict[str, str]:
    environment = environment_of(server.migrated())
    assert run("seed", environment=environment).returncode == 0
    return environment


class TestExport:
    def test_one_that_fails_leaves_the_old_file(self, server: TestServer, tmp_path: Path) -> None:
        old = tmp_path / "acme.jsonl.zst"
        old.write_bytes(b"old")
        result = run("export", "nobody", "--output", str(old), environment=environment_of(server.migrated()))
        assert result.returncode == 1
        assert (old.read_bytes(), names(tmp_path)) == (b"old", ["acme.jsonl.zst"])

    @pytest.mark.parametrize("output", ["-", "/dev/stdout"])
    def test_to_standard_output(self, seeded: dict[str, str], tmp_path: Path, output: str) -> None:
        piped = shell(f"cd {tmp_path} && derwin-db export lifeline --output {output} | head -c 4 | od -An -tx1", **seeded)
        assert (piped.stdout.split(), piped.stderr, names(tmp_path)) == (["28", "b5", "2f", "fd"], "", [])

    def test_it_is_private(self, seeded: dict[str, str], tmp_path: Path) -> None:
        assert run("export", "lifeline", "--output", str(tmp_path / "out"), environment=seeded).returncode == 0
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600


class TestInit:
    def test_its_files_are_private(self, tmp_path: Path) -> None:
        assert run("init", str(tmp_path / "new"), environment={}).returncode == 0
        written = list((tmp_path / "new").iterdir())
        assert {path.name for path in written} == {".env", "service.py"}
        assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}

    @pytest.mark.parametrize("present", [[".env"], ["service.py"], [".env", "service.py"]])
    def test_what_is_there_is_named_and_stays(self, tmp_path: Path, present: list[str]) -> None:
        for name in present:
            (tmp_path / name).write_text("mine")
        result = CliRunner().invoke(main, ["init", str(tmp_path)])
        assert result.exit_code == 3
        assert f"{tmp_path} has {' and '.join(present)} already: choose another folder" in result.stderr
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(present, "mine")

    def test_a_folder_that_can_not_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        result = run("init", str(tmp_path / "file" / "new"), environment={})
        assert (result.returncode, "Traceback" in result.stderr) == (3, False)
