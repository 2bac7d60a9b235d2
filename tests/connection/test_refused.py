"""What a failed attempt to connect is said to be, by what the network or the driver failed with. No server is asked."""

import errno
import socket

import asyncpg
import pytest

from derwin_db import Database
from derwin_db.errors import DatabaseUnavailable
from derwin_db.settings import Settings

SECRET = "canary"
URL = f"postgresql://app:{SECRET}@db.example:6000/qa?sslmode=disable"


def of_two_addresses(number: int) -> OSError:
    """What asyncio says of a host whose addresses all failed."""
    one = f"[Errno {number}] Connect call failed"
    return OSError(f"Multiple exceptions: {one} ('::1', 6000, 0, 0), {one} ('127.0.0.1', 6000)")


class TestSentence:
    @pytest.mark.parametrize(
        ("failure", "said"),
        [
            (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "The host of .* is unknown.*DNS"),
            (OSError(errno.ECONNREFUSED, "Connect call failed"), "it refused"),
            (of_two_addresses(errno.ECONNREFUSED), "it refused"),
            (PermissionError(errno.EACCES, "Permission denied"), "does not let the connection to .* out: permission denied"),
            (of_two_addresses(errno.EPERM), "does not let the connection to .* out: permission denied"),
            (OSError(errno.EHOSTUNREACH, "No route to host"), "can't be reached from this machine: there is no route"),
            (of_two_addresses(errno.ENETUNREACH), "can't be reached from this machine: there is no route"),
            (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "was closed before it was made"),
        ],
        ids=str,
    )
    async def test_names_the_place_and_what_is_wrong(
        self, monkeypatch: pytest.MonkeyPatch, failure: OSError, said: str
    ) -> None:
        def refuse(**_: object) -> None:
            raise failure

        monkeypatch.setattr(asyncpg, "connect", refuse)
        with pytest.raises(DatabaseUnavailable, match=said) as refused:
            await Database(URL, settings=Settings(_env_file=None)).start()
        assert "db.example:6000" in str(refused.value)
        assert SECRET not in str(refused.value)

    async def test_a_defect_is_no_matter_of_the_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(**_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(asyncpg, "connect", fail)
        with pytest.raises(ZeroDivisionError):
            await Database(URL, settings=Settings(_env_file=None)).start()
