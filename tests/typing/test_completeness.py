"""Every public name has a type that all checkers read alike: what users of a typed package count on.

It reads the whole package anew, like pyright itself: `make types` runs both.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class TestCompleteness:
    @pytest.mark.long
    def test_is_whole(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "pyright", "--verifytypes", "derwin_db", "--ignoreexternal", "--outputjson"]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # where it looks for Python
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        report = json.loads(done.stdout)["typeCompleteness"]
        unclear = {
            symbol["name"]: [each["message"] for each in symbol["diagnostics"]]
            for symbol in report["symbols"]
            if symbol["isExported"] and not symbol["isTypeKnown"]
        }
        assert unclear == {}
        assert report["completenessScore"] == 1
        assert report["exportedSymbolCounts"]["withKnownType"] > 2000
