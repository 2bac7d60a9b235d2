"""`derwin-db doctor --textfile`: the checks as metrics, for the collector of node_exporter."""

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Operate


class TestTextfile:
    def test_is_whole_and_readable_for_the_collector(self, operate: Operate, tmp_path: Path) -> None:
        file = tmp_path / "derwin.prom"
        result = operate("doctor", "--textfile", str(file))
        assert (result.exit_code, file.stat().st_mode & 0o777) == (0, 0o644), result.output
        lines = file.read_text().splitlines()
        assert 'derwin_doctor_check_ok{check="policies"} 1' in lines
        assert lines[-1].startswith("derwin_doctor_timestamp_seconds 1")
        assert [path.name for path in tmp_path.iterdir()] == ["derwin.prom"]

    def test_one_that_can_t_be_written_is_named(self, operate: Operate) -> None:
        result = operate("doctor", "--textfile", "/nowhere/derwin.prom")
        assert (result.exit_code, "/nowhere/derwin.prom can't be written" in result.stderr) == (3, True)

    def test_a_device_keeps_its_mode(self, operate: Operate, monkeypatch: pytest.MonkeyPatch) -> None:
        changed: list[int] = []
        monkeypatch.setattr(os, "fchmod", lambda _, mode: changed.append(mode))
        assert operate("doctor", "--textfile", "/dev/null").exit_code == 0
        assert changed == []
