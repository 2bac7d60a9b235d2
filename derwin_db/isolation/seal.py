"""The seal of a project's scope: the key, and the token that it makes. The server's side is in `sql/scope_sealed`."""

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any
from uuid import UUID

from derwin_db.errors import ConfigurationError

_PAD_BYTES = 64
_MAC_DIGITS = 48
_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Kind(StrEnum):
    """What a token is good for: to open a transaction, as the scope of one statement, or to ask over all projects which wait.

    Each on one backend, or on any.
    """

    OPENS = "1"
    OPENS_ANYWHERE = "2"
    SCOPES = "3"
    SCOPES_ANYWHERE = "4"
    ASKS = "6"
    ASKS_ANYWHERE = "7"


@dataclass(frozen=True)
class Seal:
    """The key of the sealed scope, as HMAC's two padded blocks (RFC 2104). Never shown."""

    inner: bytes = field(repr=False)
    outer: bytes = field(repr=False)

    @classmethod
    def from_text(cls, text: str) -> "Seal":
        """Read the form of the setting DERWIN_SCOPE_KEY.

        Errors:
            ConfigurationError.
        """
        try:
            blocks = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            blocks = b""
        if len(blocks) != 2 * _PAD_BYTES:
            raise ConfigurationError("DERWIN_SCOPE_KEY is not a key of this kind: print it with `derwin-db roles key`.")
        return cls(blocks[:_PAD_BYTES], blocks[_PAD_BYTES:])

    def to_text(self) -> str:
        """Return the form of the setting."""
        return base64.b64encode(self.inner + self.outer).decode()

    def token(self, kind: Kind, project_id: UUID, made_at: int, backend_pid: int | None = None) -> str:
        """Return a token: the project, what it is good for and when it was made, and the MAC over all of it.

        Units:
            `made_at` in microseconds since 1970, by the server's clock.

        Shape:
            As in `sql/scope_sealed` and `sql/queue`; its backend is named by the kinds that are good on one backend alone.
        """
        body = f"{project_id}.{kind}{made_at:015x}"
        return body + self._mac(body.encode() if backend_pid is None else body.encode() + backend_pid.to_bytes(4, "big"))

    def end_of_process(self, pid: int, started_at: datetime) -> str:
        """Return what `derwin_end_process` takes for this process of the server, and for no other.

        Shape:
            As in `sql/end_process`: its number, and when it or its transaction began, as the server sends them.
        """
        return self._mac(b"end " + struct.pack(">iq", pid, (started_at - _POSTGRES_EPOCH) // _MICROSECOND))

    def _mac(self, message: bytes) -> str:
        inner, outer = self._started
        inner, outer = inner.copy(), outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        mac: str = outer.hexdigest()
        return mac[:_MAC_DIGITS]

    @cached_property
    def _started(self) -> tuple[Any, Any]:
        """Both hashes after their first block, which is the same for every token."""
        return hashlib.sha256(self.inner), hashlib.sha256(self.outer)
