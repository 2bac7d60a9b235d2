"""Secrets that stand in files: read each time that they are used, so that whoever writes the file rotates them."""

import asyncio
from pathlib import Path

from derwin_db.errors import DatabaseUnavailable

_LONGEST = 65_536
"""Tokens of platforms are some kilobytes; a file that is longer is none."""


async def read_secret(path: Path, name: str) -> str:
    """Return what stands in the file, without the white space around it.

    Errors:
        DatabaseUnavailable that names the setting or option and nothing of what the file holds: it may be there again soon.
    """
    try:
        return await asyncio.to_thread(_read, path)
    except OSError as error:
        reason = error.strerror or "it is not there"
    except ValueError as error:
        reason = str(error)
    raise DatabaseUnavailable(f"The file of {name} can't be used: {reason}.")


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise ValueError("it is too long for a secret")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    if not text.strip():
        raise ValueError("it is empty")
    return text.strip()
