"""Secrets that stand in files: read each time that they are used, so that whoever writes the file rotates them."""

import asyncio
import inspect
from pathlib import Path

from derwin_db.errors import DatabaseUnavailable
from derwin_db.settings.url import ConnectionInfo

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


async def password_of(connection: ConnectionInfo) -> str | None:
    """Return the password to connect with now: of the function, of the file, or of the URL.

    Errors:
        DatabaseUnavailable that says where it was to come from, and nothing of what went wrong there: it may be there soon.
    """
    if connection.password_source is not None:
        return await _ask(connection)
    if connection.password_file is not None:
        return await read_secret(Path(connection.password_file.replace("{user}", connection.user)), "password_file")
    return connection.password


async def _ask(connection: ConnectionInfo) -> str:
    source = connection.password_source
    assert source is not None
    failed, password = None, None
    try:
        answer = source(connection) if inspect.iscoroutinefunction(source) else await asyncio.to_thread(source, connection)
        password = await answer if inspect.isawaitable(answer) else answer
    except Exception as error:
        failed = type(error).__name__  # its text may hold a secret: not even the context of ours keeps it
    if failed is not None:
        raise DatabaseUnavailable(f"The function that gives the password of {connection.user} failed: {failed}.")
    if not isinstance(password, str) or not password:
        raise DatabaseUnavailable(f"The function that gives the password of {connection.user} gave none.")
    return password
