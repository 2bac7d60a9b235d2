"""Settings, and connection URLs as people have them.

A URL is understood or refused with a sentence, never half-used, and no part of it is ever printed: it may hold a password
in the wrong place. Environment variables and `.env` are read when a `Database` is made, not at import.
"""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from derwin_db.errors import ConfigurationError

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SCHEMES = frozenset({"postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg", "postgresql+psycopg2"})
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1", ""})
_TRUE = frozenset({"true", "1", "yes", "on", "t"})
_FALSE = frozenset({"false", "0", "no", "off", "f"})
_HARMLESS = frozenset({"gssencmode", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"})
POOLER_PORT = 6543
"""Port of Supabase's pooler in transaction mode."""


@dataclass(frozen=True)
class ConnectionInfo:
    """One parsed connection URL. Its repr shows user, host, port and database alone."""

    host: str
    port: int
    user: str
    database: str
    password: str | None = field(default=None, repr=False)
    sslmode: SslMode | None = None
    sslrootcert: str | None = None
    is_pooled: bool = False
    pool_size: int | None = None
    pool_timeout: float | None = None
    connect_timeout: float | None = None
    application_name: str | None = None

    @classmethod
    def parse(cls, url: str, *, name: str = "DATABASE_URL") -> Self:
        """Return what the URL says; `name` is the setting that errors speak of. Errors: ConfigurationError."""
        return cls(**_parse(url.strip(), name))

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine: a socket folder or the loopback."""
        return self.host in _LOCAL_HOSTS or self.host.startswith("/")

    @property
    def place(self) -> str:
        """Host and database, for messages."""
        return f"database {self.database!r} on {self.host or 'localhost'}"

    def connect_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `asyncpg.connect` that say where and who."""
        arguments: dict[str, Any] = {
            "host": self.host or "localhost",
            "port": self.port,
            "user": self.user,
            "database": self.database,
            "ssl": self._ssl(),
        }
        if self.password is not None:
            arguments["password"] = self.password
        return arguments

    def _ssl(self) -> Any:
        if self.host.startswith("/"):
            return False
        mode = self.sslmode or ("prefer" if self.is_local else "verify-full")
        if mode in ("disable", "allow", "prefer"):
            return False if mode == "disable" else mode
        context = ssl.create_default_context(cafile=self.sslrootcert)
        context.check_hostname = mode == "verify-full"
        if mode == "require" and self.sslrootcert is None:
            context.verify_mode = ssl.CERT_NONE
        return context


def _parse(url: str, name: str) -> dict[str, Any]:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in _SCHEMES:
        raise ConfigurationError(
            f"{name} is not a PostgreSQL URL. It begins with postgresql:// and names user, host and database."
        )
    authority_end = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    if "@" in rest[authority_end:].partition("?")[0]:
        raise ConfigurationError(f"{name} has a / , ? or # inside its password: write them as %2F, %3F and %23.")
    if rest[:authority_end].count("@") > 1:
        raise ConfigurationError(f"{name} has an @ inside its user or password: write it as %40.")
    try:
        parts = urlsplit("postgresql://" + rest)
        port = parts.port
        host = unquote(parts.hostname or "")
    except ValueError:
        raise ConfigurationError(f"{name} has a port or host that can't be parsed.") from None
    if parts.fragment or "#" in rest:
        raise ConfigurationError(f"{name} has a # in it: write it as %23.")
    result: dict[str, Any] = {
        "host": host,
        "port": port or 5432,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password) if parts.password else None,
        "database": unquote(parts.path.lstrip("/")),
    }
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        _apply_option(result, key, value, name)
    if "," in result["host"]:
        raise ConfigurationError(f"{name} names several hosts: name one, and put a proxy or DNS in front of the rest.")
    if not result["user"]:
        raise ConfigurationError(f"{name} names no user.")
    if not result["database"] or "/" in result["database"]:
        raise ConfigurationError(f"{name} names no database, or one with a / in it.")
    if result["port"] == POOLER_PORT:
        result.setdefault("is_pooled", True)
    return result


def _apply_option(result: dict[str, Any], key: str, value: str, name: str) -> None:
    if key == "schema":
        if value != "public":
            raise ConfigurationError(f"{name} asks for another schema than public; the tables live in public.")
    elif key in ("sslmode", "ssl"):
        value = {"true": "require", "false": "disable"}.get(value.lower(), value) if key == "ssl" else value
        if value not in _SSL_MODES:
            raise ConfigurationError(f"{name} has an unknown sslmode. It is one of: {', '.join(_SSL_MODES)}.")
        result["sslmode"] = value
    elif key == "sslrootcert":
        if not Path(value).is_file():
            raise ConfigurationError(f"{name} names an sslrootcert that is not a file on this machine.")
        result["sslrootcert"] = value
    elif key == "pgbouncer":
        result["is_pooled"] = _boolean(value, key, name)
    elif key == "connection_limit":
        result["pool_size"] = int(_number(value, key, name, least=1))
    elif key == "pool_timeout":
        result["pool_timeout"] = _number(value, key, name, least=0)
    elif key == "connect_timeout":
        result["connect_timeout"] = _number(value, key, name, least=1)
    elif key == "application_name":
        result["application_name"] = value
    elif key in ("host", "port", "user", "password", "dbname"):
        result["database" if key == "dbname" else key] = int(_number(value, key, name, least=1)) if key == "port" else value
    elif key == "channel_binding":
        if value == "require":
            raise ConfigurationError(f"{name} asks for channel binding, which the driver can't do. Remove channel_binding.")
    elif key not in _HARMLESS:
        raise ConfigurationError(
            f"{name} has an option that is not known here. Known ones: sslmode, sslrootcert, pgbouncer, connection_limit, "
            "pool_timeout, connect_timeout, application_name."
        )


def _boolean(value: str, key: str, name: str) -> bool:
    if value.lower() not in _TRUE | _FALSE:
        raise ConfigurationError(f"{name}: {key} is true or false.")
    return value.lower() in _TRUE


def _number(value: str, key: str, name: str, *, least: float) -> float:
    if not value.isascii() or not value.isdigit() or float(value) < least:
        raise ConfigurationError(f"{name}: {key} is a whole number of at least {least:g}.")
    return float(value)


class Settings(BaseSettings):
    """All settings, each by its environment variable or in `.env`. Times are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(
        env_file=".env", env_prefix="DERWIN_", extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = Field(default=None, alias="DATABASE_URL")
    admin_url: SecretStr | None = Field(default=None, alias="ADMIN_URL")
    direct_url: SecretStr | None = Field(default=None, alias="DIRECT_URL")
    read_url: SecretStr | None = Field(default=None, alias="READ_URL")
    scope_key: SecretStr | None = None
    """The seal's key as `derwin-db roles key` prints it, for a service that has neither owner's nor operator's URL."""

    data_dir: Path | None = None
    """Data folder of the embedded server."""

    pool_size: int = Field(default=10, ge=1, le=1000)
    pool_timeout: float = Field(default=5.0, ge=0)
    connect_timeout: float = Field(default=5.0, gt=0)
    connection_life: float = Field(default=1800.0, gt=0)
    command_timeout: float = Field(default=30.0, gt=0)
    statement_timeout: float = Field(default=25.0, gt=0)
    lock_timeout: float = Field(default=2.0, gt=0)
    idle_in_transaction_timeout: float = Field(default=30.0, gt=0)
    transaction_timeout: float = Field(default=60.0, gt=0)
    """Longest unit of work; only where the server is 17 or newer."""
    delete_timeout: float = Field(default=600.0, gt=0)
    """Longest deletion of a whole project."""
    cleanup_timeout: float = Field(default=5.0, gt=0)
    """How long a cancelled or failed unit of work may take to roll back before its connection is dropped."""

    @model_validator(mode="before")
    @classmethod
    def _blank_is_unset(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value != ""} if isinstance(data, dict) else data

    @classmethod
    def load(cls) -> "Settings":
        """Read environment and `.env`. Errors: ConfigurationError that names the setting, not the value."""
        try:
            return cls()
        except ValueError as error:
            names = sorted({str(item["loc"][0]) for item in getattr(error, "errors", list)() if item["loc"]})
            raise ConfigurationError(f"A setting can't be used: {', '.join(names) or 'see .env'}.") from None

    def connection(self, field_name: Literal["database_url", "admin_url", "direct_url", "read_url"]) -> ConnectionInfo | None:
        """Return the parsed URL of this setting, or None where it is not set. Errors: ConfigurationError."""
        secret: SecretStr | None = getattr(self, field_name)
        return None if secret is None else ConnectionInfo.parse(secret.get_secret_value(), name=field_name.upper())
