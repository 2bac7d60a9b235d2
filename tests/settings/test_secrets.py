"""Files that hold a secret: what is in them is used, or what is wrong with them is said, and nothing of what they hold."""

from pathlib import Path

import pytest

from derwin_db.errors import DatabaseUnavailable
from derwin_db.settings.secrets import read_secret

SECRET = "canary"


async def test_what_stands_in_it_without_the_space_around(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f" {SECRET}\n")
    assert await read_secret(file, "password_file") == SECRET


async def test_what_is_as_long_as_one_may_be(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("x" * 65_536)
    assert len(await read_secret(file, "password_file")) == 65_536


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b" \n\t", "it is empty"),
        (SECRET.encode() + b"\xff", "it is not text"),
        (SECRET.encode() * 12_000, "it is too long for a secret"),
        (b"x" * 65_536 + b"\n", "it is too long for a secret"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_can_not_be_one_is_refused_by_the_name_of_its_setting(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(DatabaseUnavailable, match=f"The file of password_file can't be used: {reason}.") as refused:
        await read_secret(file, "password_file")
    assert SECRET not in str(refused.value)
