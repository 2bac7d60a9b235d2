"""What this machine can't test is named where a run ends, and nothing else."""

import pytest

from tests import missing

PARTS = {
    "HAS_15": ("tests/deploy/test_revisions.py", "postgresql-15"),
    "KEEPS_STATEMENTS": ("tests/scale/test_kept.py", "1.22 or newer"),
}
"""Parts of files that are left out, and what they need."""


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_files_are_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(missing, name, False)
    (line,) = [line for line in missing.report() if PARTS[name][0] in line]
    assert (line.startswith("NOT COLLECTED"), PARTS[name][1] in line) == (True, True)
    monkeypatch.setattr(missing, name, True)
    assert not any(PARTS[name][0] in line for line in missing.report())


def test_files_are_named_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = [
        missing.Need("scale/test_kept.py", lambda: False, "a wish"),
        missing.Need("scale/test_pooled.py", lambda: True, ""),
    ]
    monkeypatch.setattr(missing, "NEEDS", needs)
    assert missing.left_out(str(missing.TESTS / "scale" / "conftest.py")) == ["test_kept.py"]
    assert missing.left_out(str(missing.TESTS / "unit" / "conftest.py")) == []
    assert [line for line in missing.report() if "scale/test_pooled.py" in line or "a wish" in line] == [
        "NOT COLLECTED: tests/scale/test_kept.py needs a wish"
    ]


def test_every_file_that_needs_something_is_there() -> None:
    assert [need.file for need in missing.NEEDS if not (missing.TESTS / need.file).is_file()] == []
