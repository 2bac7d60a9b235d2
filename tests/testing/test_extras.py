"""What needs an extra that is not installed says what to install."""

import subprocess
import sys

import pytest

BLOCKED = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
import {module}
"""


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("derwin_db.otel", "opentelemetry", "otel"),
        ("derwin_db.studio", "starlette", "studio"),
        ("derwin_db.fastapi", "fastapi", "fastapi"),
    ],
)
def test_a_missing_extra_is_told(module: str, missing: str, extra: str) -> None:
    code = BLOCKED.format(module=module, missing=missing)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'derwin-db[{extra}]'" in result.stderr
