"""Connection URLs as people have them.

A URL is understood or refused with a sentence, never half-used, and no part of it is ever printed: it may hold a password
in the wrong place.
"""

import re
import ssl
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import unquote

from derwin_db.errors import ConfigurationError

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SYSTEM_ROOTS = "system"
_SCHEMES = frozenset(
    {
        "postgres",
        "postgresql",
        "postgresql+asyncpg",
        "postgresql+psycopg",
        "postgresql+psycopg_async",
        "postgresql+psycopg2",
    }
)
_TRUE = frozenset({"true", "1", "yes", "on", "t"})
_FALSE = frozenset({"false", "0", "no", "off", "f"})
_HARMLESS = frozenset(
    {
        "fallback_application_name",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "supa",  # marks that hosting platforms leave in their URLs
        "workaround",
    }
)
_KNOWN = "sslmode, sslrootcert, pgbouncer, connection_limit, pool_timeout, connect_timeout, application_name"
_UNSUPPORTED = {
    "command_timeout": "set DERWIN_COMMAND_TIMEOUT instead",
    "connect_timeout_seconds": "write connect_timeout",
    "idle_in_transaction_session_timeout": "set DERWIN_IDLE_IN_TRANSACTION_TIMEOUT instead",
    "lock_timeout": "set DERWIN_LOCK_TIMEOUT instead",
    "max_inactive_connection_lifetime": "set DERWIN_CONNECTION_LIFE instead",
    "max_overflow": "remove it: the pool has one size, DERWIN_POOL_SIZE",
    "options": "remove it: each unit of work sets what it needs",
    "passfile": "write the password into the URL, or leave it out",
    "pool_pre_ping": "remove it: connections that turn out dead are replaced anyway",
    "pool_recycle": "set DERWIN_CONNECTION_LIFE instead",
    "pool_size": "write connection_limit, or set DERWIN_POOL_SIZE",
    "prepared_statement_cache_size": "write pgbouncer=true behind a transaction pooler, else remove it",
    "prepared_statement_name_func": "write pgbouncer=true behind a transaction pooler, else remove it",
    "prepareThreshold": "write pgbouncer=true behind a transaction pooler, else remove it",
    "requiressl": "write sslmode=require",
    "search_path": "remove it: the tables live in public",
    "server_settings": "remove it: each unit of work sets what it needs",
    "service": "write host, port, user and database into the URL",
    "socket_timeout": "set DERWIN_COMMAND_TIMEOUT instead",
    "sslcert": "remove it: logins by client certificates are not supported",
    "sslcrl": "remove it: lists of revoked certificates are not supported",
    "sslidentity": "remove it: logins by client certificates are not supported",
    "sslkey": "remove it: logins by client certificates are not supported",
    "sslpassword": "remove it: logins by client certificates are not supported",
    "statement_cache_size": "write pgbouncer=true behind a transaction pooler, else remove it",
    "statement_timeout": "set DERWIN_STATEMENT_TIMEOUT instead",
    "target_session_attrs": "remove it: DATABASE_URL leads to the primary, READ_URL to a replica",
    "tcp_user_timeout": "remove it: DERWIN_COMMAND_TIMEOUT bounds every answer",
    "timeout": "write connect_timeout",
    "transaction_timeout": "set DERWIN_TRANSACTION_TIMEOUT instead",
}
"""Options that other programs know, and what to do about each here. No other is named: it may be a piece of a password."""
_TAKEN = frozenset(
    {"sslmode", "ssl", "sslrootcert", "channel_binding", "host", "port", "user", "password", "dbname", "schema"}
    | {"client_encoding", "pgbouncer", "connection_limit", "pool_timeout", "connect_timeout", "application_name"}
)
_COMMAND = re.compile(r"psql\s+")
_AUTHORITY_END = re.compile(r"[/?#]")
_ENCODED = re.compile(r"%(?![0-9a-fA-F]{2})")
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]:]*)(?::(?P<port>[0-9]*))?")

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
        """Return what the URL says; `name` is the setting that errors speak of.

        Errors:
            ConfigurationError.
        """
        return cls(**_parse(_unwrapped(url), name))

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine: a socket folder or the loopback."""
        if self.host in ("", "localhost") or self.host.startswith("/"):
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def place(self) -> str:
        """Host, port and database, for messages."""
        if self.host.startswith("/"):
            return f"database {self.database!r} on {self.host}"
        host = self.host or "localhost"
        return f"database {self.database!r} on {f'[{host}]' if ':' in host else host}:{self.port}"

    def connect_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `asyncpg.connect` that say where and who.

        Errors:
            ConfigurationError.
        """
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
        roots = None if self.sslrootcert == _SYSTEM_ROOTS else self.sslrootcert
        try:
            context = ssl.create_default_context(cafile=roots)
        except (OSError, ValueError):
            raise ConfigurationError("The file of sslrootcert holds no certificates that can be read.") from None
        context.check_hostname = mode == "verify-full"
        if mode == "require" and self.sslrootcert is None:
            context.verify_mode = ssl.CERT_NONE
        return context


def _unwrapped(url: str) -> str:
    """Take off what is pasted around a URL: white space, quotes, the command that hosting platforms show it with."""
    url = _COMMAND.sub("", url.strip(), count=1) if url.strip().startswith("psql") else url.strip()
    is_quoted = len(url) > 1 and url[0] == url[-1] and url[0] in "\"'"
    return url[1:-1] if is_quoted else url


def _parse(url: str, name: str) -> dict[str, Any]:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in _SCHEMES:
        raise ConfigurationError(
            f"{name} is not a PostgreSQL URL. It begins with postgresql:// and names user, host and database."
        )
    if any(character.isspace() or not character.isprintable() for character in rest):
        raise ConfigurationError(f"{name} has white space or a control character in it: percent-encode it.")
    mark = _AUTHORITY_END.search(rest)
    authority, tail = (rest, "") if mark is None else (rest[: mark.start()], rest[mark.start() :])
    if "@" in tail.partition("?")[0] or (authority and "@" not in authority and "@" in tail):
        raise ConfigurationError(f"{name} has a / , ? or # inside its password: write them as %2F, %3F and %23.")
    if authority.count("@") > 1:
        raise ConfigurationError(f"{name} has an @ inside its user or password: write it as %40.")
    if "#" in rest:
        raise ConfigurationError(f"{name} has a # in it: write it as %23.")
    login, _, place = authority.rpartition("@")
    user, _, password = login.partition(":")
    path, _, query = tail.partition("?")
    result = {
        **_place(place, name),
        "user": _decoded(user, name),
        "password": _decoded(password, name) or None,
        "database": _decoded(path.removeprefix("/"), name),
    }
    _apply_options(result, query, name)
    return _complete(result, name)


def _place(place: str, name: str) -> dict[str, Any]:
    if "," in place:
        raise ConfigurationError(f"{name} names several hosts: name one, and put a proxy or DNS in front of the rest.")
    found = _HOST_AND_PORT.fullmatch(place)
    if found is None:
        raise ConfigurationError(f"{name} has a port or host that can't be parsed.")
    host = _decoded(found["host"].strip("[]"), name)
    port = found["port"] or "5432"
    return {"host": host if host.startswith("/") else host.lower(), "port": int(_number(port, "port", name, least=1))}


def _complete(result: dict[str, Any], name: str) -> dict[str, Any]:
    if "," in result["host"]:
        raise ConfigurationError(f"{name} names several hosts: name one, and put a proxy or DNS in front of the rest.")
    if not result["user"]:
        raise ConfigurationError(f"{name} names no user.")
    if not result["database"] or "/" in result["database"]:
        raise ConfigurationError(f"{name} names no database, or one with a / in it.")
    if not all(result[part].isprintable() for part in ("host", "user", "database")):
        raise ConfigurationError(f"{name} has a line end or another control character in its user, host or database.")
    if result["port"] > 65535:
        raise ConfigurationError(f"{name} has a port or host that can't be parsed.")
    if result.get("sslrootcert") == _SYSTEM_ROOTS and result.setdefault("sslmode", "verify-full") != "verify-full":
        raise ConfigurationError(f"{name}: sslrootcert=system goes with sslmode=verify-full alone.")
    if result["port"] == POOLER_PORT:
        result.setdefault("is_pooled", True)
    return result


def _apply_options(result: dict[str, Any], query: str, name: str) -> None:
    seen = set()
    for number, part in enumerate(query.split("&") if query else (), 1):
        key, _, value = part.partition("=")
        key = _decoded(key, name)
        if key in seen:
            named = f"the option {key}" if key in _TAKEN | _HARMLESS else "an option"
            raise ConfigurationError(f"{name} gives {named} twice. Known ones: {_KNOWN}.")
        seen.add(key)
        if key not in _TAKEN | _HARMLESS:
            raise _unknown_option(key, number, name)
        _apply_option(result, key, _decoded(value, name), name)


def _apply_option(result: dict[str, Any], key: str, value: str, name: str) -> None:
    if key in ("sslmode", "ssl", "sslrootcert", "channel_binding"):
        _apply_tls(result, key, value, name)
    elif key in ("host", "port", "user", "password", "dbname"):
        _apply_place(result, key, value, name)
    elif key in ("schema", "client_encoding"):
        _apply_fixed(key, value, name)
    elif key == "pgbouncer":
        result["is_pooled"] = _boolean(value, key, name)
    elif key == "connection_limit":
        result["pool_size"] = int(_number(value, key, name, least=1))
    elif key in ("pool_timeout", "connect_timeout"):
        result[key] = _number(value, key, name, least=1)
    elif key == "application_name":
        result["application_name"] = value


def _unknown_option(key: str, number: int, name: str) -> ConfigurationError:
    """Return the error for an option that is not taken: named where other programs know it, else by its place."""
    known = {option.lower(): option for option in _UNSUPPORTED}.get(key.lower())
    if known is not None:
        return ConfigurationError(f"{name} has the option {known}, which is not known here: {_UNSUPPORTED[known]}.")
    near = get_close_matches(key.lower(), sorted(_TAKEN), n=1, cutoff=0.75)
    meant = f" Is {near[0]} meant?" if near else ""
    return ConfigurationError(
        f"{name} has an option that is not known here, at place {number} behind the question mark.{meant} Known ones: {_KNOWN}."
    )


def _apply_tls(result: dict[str, Any], key: str, value: str, name: str) -> None:
    if key == "channel_binding":
        if value == "require":
            raise ConfigurationError(f"{name} asks for channel binding, which the driver can't do. Remove channel_binding.")
    elif key == "sslrootcert":
        if value != _SYSTEM_ROOTS and not Path(value).is_file():
            raise ConfigurationError(f"{name} names an sslrootcert that is not a file on this machine.")
        result["sslrootcert"] = value
    else:
        value = {"true": "require", "false": "disable"}.get(value.lower(), value) if key == "ssl" else value
        if value not in _SSL_MODES or result.get("sslmode", value) != value:
            raise ConfigurationError(f"{name} has an unknown sslmode, or two. It is one of: {', '.join(_SSL_MODES)}.")
        result["sslmode"] = value


def _apply_fixed(key: str, value: str, name: str) -> None:
    """Options that say what is so anyway, or ask for what is not to be had."""
    if key == "schema" and value != "public":
        raise ConfigurationError(f"{name} asks for another schema than public; the tables live in public.")
    if key == "client_encoding" and value.lower() not in ("utf8", "utf-8", "auto"):
        raise ConfigurationError(f"{name} asks for another client_encoding than UTF-8.")


def _apply_place(result: dict[str, Any], key: str, value: str, name: str) -> None:
    """Take a part of the place from the query, as a socket folder is written. What is said twice must agree."""
    field_name = "database" if key == "dbname" else key
    wanted = int(_number(value, key, name, least=1)) if key == "port" else value
    present = result[field_name]
    if present and present != wanted and not (key == "port" and present == 5432):
        raise ConfigurationError(f"{name} says {key} twice, and not the same.")
    result[field_name] = wanted


def _decoded(text: str, name: str) -> str:
    """Return percent-encoded text as it is meant. Half an encoding is not taken for a character."""
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        decoded = "\0"
    if _ENCODED.search(text):
        raise ConfigurationError(f"{name} has a % that encodes nothing: write it as %25.")
    if "\0" in decoded:
        raise ConfigurationError(f"{name} has an encoded character that is no text.")
    return decoded


def _boolean(value: str, key: str, name: str) -> bool:
    if value.lower() not in _TRUE | _FALSE:
        raise ConfigurationError(f"{name}: {key} is true or false.")
    return value.lower() in _TRUE


def _number(value: str, key: str, name: str, *, least: float) -> float:
    if not value.isascii() or not value.isdigit() or not least <= float(value[:9]) or len(value) > 9:
        raise ConfigurationError(f"{name}: {key} is a whole number of at least {least:g}.")
    return float(value)
