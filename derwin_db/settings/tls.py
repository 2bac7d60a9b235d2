"""TLS of a connection: whether it is used, what is verified, and what this side shows of itself."""

import ssl
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from derwin_db.errors import ConfigurationError

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
SSL_MODES: tuple[SslMode, ...] = get_args(SslMode)
SYSTEM_ROOTS = "system"


def tls_of(
    mode: SslMode, *, sslrootcert: str | None, sslcert: str | None, sslkey: str | None
) -> ssl.SSLContext | Literal[False] | str:
    """Return the driver's argument `ssl`. Files that were replaced meanwhile are read again.

    Errors:
        ConfigurationError that names the option whose file can't be used.
    """
    if mode in ("disable", "allow", "prefer"):
        return False if mode == "disable" else mode
    roots = None if sslrootcert == SYSTEM_ROOTS else sslrootcert
    stamps = tuple(_stamp(path) for path in (roots, sslcert, sslkey))
    return _context(roots, sslcert, sslkey, mode, stamps, verifies=mode != "require" or sslrootcert is not None)


def _stamp(path: str | None) -> float:
    """Return when the file was written; 0 for one that is not there, which is found out where it is read."""
    try:
        return Path(path).stat().st_mtime if path is not None else 0.0
    except OSError:
        return 0.0


@lru_cache(maxsize=16)
def _context(
    roots: str | None,
    sslcert: str | None,
    sslkey: str | None,
    mode: SslMode,
    _stamps: tuple[float, ...],
    *,
    verifies: bool,
) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=roots)
    except (OSError, ValueError):
        raise ConfigurationError("The file of sslrootcert holds no certificates that can be read.") from None
    context.check_hostname = mode == "verify-full"
    if not verifies:
        context.verify_mode = ssl.CERT_NONE
    if sslcert is not None:
        try:
            context.load_cert_chain(sslcert, sslkey, password=_no_password)
        except (OSError, ValueError):
            raise ConfigurationError(
                "The files of sslcert and sslkey hold no certificate and key that belong together and can be read. A key with "
                "a passphrase is not supported."
            ) from None
    return context


def _no_password() -> str:
    """Answer for a key with a passphrase: nobody is there to be asked on the terminal."""
    return ""
