"""The seal of a project's scope: the key, and the token that it makes. The server's side is in `sql/scope_sealed`."""

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from uuid import UUID

from derwin_db.errors import ConfigurationError

_PAD_BYTES = 64


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

    def token(self, project_id: UUID, backend_pid: int) -> str:
        """Return what derwin_open() takes: the project, and its MAC for this backend."""
        project = str(project_id)
        inner = hashlib.sha256(self.inner + project.encode() + backend_pid.to_bytes(4, "big")).digest()
        return f"{project}.{hashlib.sha256(self.outer + inner).hexdigest()}"
