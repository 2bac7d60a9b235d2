"""Verifiers of passwords: what a server stores, made here, so that no password is ever part of a statement.

A statement can be logged (log_statement = ddl), and is seen in pg_stat_activity; a verifier proves a password and is none.
Source: RFC 5802, RFC 7677; the form is that of pg_authid.rolpassword.
"""

import base64
import hashlib
import hmac
import secrets

from derwin_db.errors import InvalidInput

_ITERATIONS = 4096
_SALT_BYTES = 16


def verifier_of(password: str) -> str:
    """Return the SCRAM-SHA-256 verifier of a password, with a salt of its own: text without quotes.

    Errors:
        InvalidInput for a password that is empty, or has other characters than printable ASCII: such are normalised, and not
        by every client alike.
    """
    if not password or not password.isascii() or not password.isprintable():
        raise InvalidInput("A password is printable ASCII, one character at the least.")
    salt = secrets.token_bytes(_SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${_ITERATIONS}:{_text(salt)}${_text(stored)}:{_text(server)}"


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
