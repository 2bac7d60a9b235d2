"""What a failed attempt to connect means: an unknown host, a shut port, silence, a login that is refused.

The sentence names host, port and database, and nothing else of the URL.
"""

import errno
import re
import socket

from derwin_db.connection.hosts import NoHostFits
from derwin_db.errors import DatabaseUnavailable, DerwinError
from derwin_db.settings.url import ConnectionInfo
from derwin_db.translation.driver_errors import translate

_ERRNO = re.compile(r"\[Errno (\d+)\]")
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


def connection_error(error: BaseException, connection: ConnectionInfo, seconds: float | None = None) -> BaseException:
    """Return this package's error for a failed attempt to connect.

    Units:
        `seconds` is how long it was waited for, where that is known.
    """
    if isinstance(error, DerwinError):
        return error
    if isinstance(error, NoHostFits):
        return DatabaseUnavailable(
            f"No server of {connection.place} is what is wanted (target_session_attrs={connection.target_session_attrs}): a "
            "fail-over is under way, or the hosts are not those of one cluster."
        )
    translated = translate(error)
    is_silent = isinstance(error, TimeoutError)
    if is_silent or (isinstance(translated, DatabaseUnavailable) and translated.sqlstate is None):
        return DatabaseUnavailable(_unreachable(error, connection, seconds))
    if isinstance(translated, DerwinError):
        placed = type(translated)(f"{translated.message} ({connection.place})")
        placed.sqlstate = translated.sqlstate
        return placed
    return error


def _unreachable(error: BaseException, connection: ConnectionInfo, seconds: float | None) -> str:
    numbers = _numbers(error)
    if isinstance(error, socket.gaierror):
        return f"The host of {connection.place} is unknown. Check its name in the connection URL, or this machine's DNS."
    if isinstance(error, TimeoutError):
        limit = "" if seconds is None else f" {seconds:g} s"
        return (
            f"No PostgreSQL answers for {connection.place} within{limit or ' the time'} (DERWIN_CONNECT_TIMEOUT, or "
            "connect_timeout in the URL): a firewall drops it, or the server is overloaded."
        )
    if connection.host.startswith("/") and numbers & {errno.ENOENT, errno.ECONNREFUSED}:
        return f"No PostgreSQL answers for {connection.place}: there is no socket of a running server in that folder."
    if numbers == {errno.ECONNREFUSED}:
        return f"No PostgreSQL answers for {connection.place}: it refused. Is the server running, the port right?"
    if numbers & {errno.EACCES, errno.EPERM}:
        return f"This machine does not let the connection to {connection.place} out: permission denied."
    if numbers & _UNREACHABLE:
        return f"The host of {connection.place} can't be reached from this machine: there is no route to it."
    return f"No PostgreSQL answers for {connection.place}: the connection was closed before it was made."


def _numbers(error: BaseException) -> set[int]:
    """Return the system's error numbers: of several addresses of one host, asyncio tells the errors in one text."""
    number = getattr(error, "errno", None)
    return {number} if isinstance(number, int) else {int(found) for found in _ERRNO.findall(str(error))}
