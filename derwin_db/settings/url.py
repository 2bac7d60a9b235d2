"""Connection URLs as people have them.

A URL is understood or refused with a sentence, never half-used, and no part of it is ever printed: it may hold a password
in the wrong place.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args
from urllib.parse import unquote

from derwin_db.errors import ConfigurationError
from derwin_db.settings.tls import SSL_MODES, SYSTEM_ROOTS, SslMode, tls_of

if TYPE_CHECKING:
    from derwin_db.settings.settings import Settings

TargetServer = Literal["any", "read-write", "read-only", "primary", "standby", "prefer-standby"]
_TARGETS: tuple[TargetServer, ...] = get_args(TargetServer)
_TLS_FILES = ("sslrootcert", "sslcert", "sslkey")
_MOST_HOSTS = 16
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
_KNOWN = (
    "sslmode, sslrootcert, sslcert, sslkey, password_file, target_session_attrs, pgbouncer, connection_limit, pool_timeout, "
    "connect_timeout, application_name"
)
_UNSUPPORTED = {
    "command_timeout": "set DERWIN_COMMAND_TIMEOUT instead",
    "connect_timeout_seconds": "write connect_timeout",
    "idle_in_transaction_session_timeout": "set DERWIN_IDLE_IN_TRANSACTION_TIMEOUT instead",
    "lock_timeout": "set DERWIN_LOCK_TIMEOUT instead",
    "max_inactive_connection_lifetime": "set DERWIN_CONNECTION_LIFE instead",
    "max_overflow": "remove it: the pool has one size, DERWIN_POOL_SIZE",
    "options": "remove it: each unit of work sets what it needs",
    "passfile": "write password_file, a file that holds the password alone",
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
    "sslcrl": "remove it: lists of revoked certificates are not supported",
    "sslidentity": "write sslcert and sslkey",
    "sslpassword": "remove it: keys with a passphrase are not supported",
    "statement_cache_size": "write pgbouncer=true behind a transaction pooler, else remove it",
    "statement_timeout": "set DERWIN_STATEMENT_TIMEOUT instead",
    "tcp_user_timeout": "remove it: DERWIN_COMMAND_TIMEOUT bounds every answer",
    "timeout": "write connect_timeout",
    "transaction_timeout": "set DERWIN_TRANSACTION_TIMEOUT instead",
}
"""Options that other programs know, and what to do about each here. No other is named: it may be a piece of a password."""
_TAKEN = frozenset(
    {"sslmode", "ssl", "sslrootcert", "sslcert", "sslkey", "channel_binding", "host", "port", "user", "password", "dbname"}
    | {"schema", "password_file", "target_session_attrs"}
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
    """One parsed connection URL. Its repr shows no password, and not the function that gives one."""

    host: str
    port: int
    user: str
    database: str
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None
    """A file with the password, read at each connect. `{user}` in its path is the login."""
    password_source: "PasswordSource | None" = field(default=None, repr=False)
    """A function that gives the password, called at each connect."""
    others: tuple[tuple[str, int], ...] = ()
    """Further hosts and ports, tried in turn where the first one does not answer, or is not what is wanted."""
    target_session_attrs: TargetServer | None = None
    """What a server has to be, as in libpq. None: whatever answers."""
    sslmode: SslMode | None = None
    sslrootcert: str | None = None
    sslcert: str | None = None
    """A client certificate, which takes the place of a password where the server asks for one."""
    sslkey: str | None = None
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

    def completed(self, settings: "Settings") -> Self:
        """Return the same with what the URL leaves out and the settings say for all URLs.

        Errors:
            ConfigurationError.
        """
        changes: dict[str, Any] = {}
        if self.password is None and self.password_file is None and settings.password_file is not None:
            changes["password_file"] = str(settings.password_file)
        if self.sslmode != "disable":
            changes |= self._tls_of(settings)
        return replace(self, **changes) if changes else self

    def _tls_of(self, settings: "Settings") -> dict[str, Any]:
        present = {name: getattr(self, name) for name in ("sslmode", *_TLS_FILES) if getattr(self, name) is not None}
        added: dict[str, Any] = {}
        for name in _TLS_FILES:
            said = None if getattr(settings, name) is None else str(getattr(settings, name))
            if said is not None and name not in present and (name == "sslrootcert" or "sslcert" not in present):
                is_file = name != "sslrootcert" or said != SYSTEM_ROOTS
                added[name] = _file(said, f"DERWIN_{name.upper()}", "") if is_file else said
        if added:
            whole = {**present, **added}
            _complete_tls(whole, f"The URL with {' and '.join(f'DERWIN_{name.upper()}' for name in added)}")
            added["sslmode"] = whole.get("sslmode")
        return added

    def with_password_of(self, source: "PasswordSource | None") -> Self:
        """Return the same with a password that the function gives at each connect."""
        return self if source is None else replace(self, password=None, password_file=None, password_source=source)

    @property
    def gets_password(self) -> bool:
        """Whether the password is fetched at each connect, and so may be another one next time."""
        return self.password_source is not None or self.password_file is not None

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """All hosts with their ports, in the order in which they are tried."""
        return ((self.host, self.port), *self.others)

    def at(self, host: str, port: int) -> Self:
        """Return the same for one of the hosts alone."""
        return self if not self.others else replace(self, host=host, port=port, others=())

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine: a socket folder or the loopback."""
        return all(_is_local(host) for host, _ in self.places)

    @property
    def place(self) -> str:
        """Host, port and database, for messages."""
        return f"database {self.database!r} on {', '.join(_place_of(host, port) for host, port in self.places)}"

    def connect_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `asyncpg.connect` that say where (the first host) and who.

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
        mode = self.sslmode or ("prefer" if _is_local(self.host) and self.sslcert is None else "verify-full")
        return tls_of(mode, sslrootcert=self.sslrootcert, sslcert=self.sslcert, sslkey=self.sslkey)


PasswordSource = Callable[[ConnectionInfo], "str | Awaitable[str]"]
"""Gives the password of a login: it is told host, port, user and database. A function that blocks runs in a thread."""


def _is_local(host: str) -> bool:
    if host in ("", "localhost") or host.startswith("/"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _place_of(host: str, port: int) -> str:
    if host.startswith("/"):
        return host
    return f"{f'[{host}]' if ':' in host else host or 'localhost'}:{port}"


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
    completed = _complete(result, name)
    if "ports" in completed:
        raise ConfigurationError(f"{name} names several ports for one host.")
    return completed


def _place(place: str, name: str) -> dict[str, Any]:
    """Return the hosts of the URL, the first one and the others, each with its port."""
    found = [_HOST_AND_PORT.fullmatch(part) for part in place.split(",")]
    if len(found) > _MOST_HOSTS:
        raise ConfigurationError(f"{name} names more than {_MOST_HOSTS} hosts.")
    places = []
    for one in found:
        if one is None or (len(found) > 1 and not one["host"]):
            raise ConfigurationError(f"{name} has a port or host that can't be parsed.")
        places.append((_host(_decoded(one["host"].strip("[]"), name)), _port(one["port"] or "5432", name)))
    return {"host": places[0][0], "port": places[0][1], "others": tuple(places[1:])}


def _host(text: str) -> str:
    return text if text.startswith("/") else text.lower()


def _port(text: str, name: str) -> int:
    return int(_number(text, "port", name, least=1))


def _complete(result: dict[str, Any], name: str) -> dict[str, Any]:
    if "," in result["host"]:
        _take_hosts(result, name)
    places = [(result["host"], result["port"]), *result["others"]]
    if not result["user"]:
        raise ConfigurationError(f"{name} names no user.")
    if not result["database"] or "/" in result["database"]:
        raise ConfigurationError(f"{name} names no database, or one with a / in it.")
    if not all(text.isprintable() for text in (*(host for host, _ in places), result["user"], result["database"])):
        raise ConfigurationError(f"{name} has a line end or another control character in its user, host or database.")
    if any(port > 65535 for _, port in places):
        raise ConfigurationError(f"{name} has a port or host that can't be parsed.")
    if len(set(places)) < len(places):
        raise ConfigurationError(f"{name} names a host twice.")
    _complete_tls(result, name)
    if result["password"] is not None and "password_file" in result:
        raise ConfigurationError(f"{name} has a password and a password_file: leave one out.")
    if result["others"] and name != "READ_URL":
        result.setdefault("target_session_attrs", "read-write")
    if result["port"] == POOLER_PORT:
        result.setdefault("is_pooled", True)
    return result


def _complete_tls(result: dict[str, Any], name: str) -> None:
    if result.get("sslrootcert") == SYSTEM_ROOTS and result.setdefault("sslmode", "verify-full") != "verify-full":
        raise ConfigurationError(f"{name}: sslrootcert=system goes with sslmode=verify-full alone.")
    if "sslkey" in result and "sslcert" not in result:
        raise ConfigurationError(f"{name} has an sslkey without its sslcert.")
    if "sslcert" in result and result.get("sslmode") in ("disable", "allow", "prefer"):
        raise ConfigurationError(
            f"{name}: sslcert goes with sslmode=require, verify-ca or verify-full, which never go without TLS."
        )


def _take_hosts(result: dict[str, Any], name: str) -> None:
    """Take several hosts of the query, as several socket folders are written, with one port for all or one for each."""
    hosts = [_host(host) for host in result["host"].split(",")]
    ports = result.pop("ports", [result["port"]])
    if len(ports) == 1:
        ports = ports * len(hosts)
    if result["others"] or not all(hosts) or len(ports) != len(hosts) or len(hosts) > _MOST_HOSTS:
        raise ConfigurationError(f"{name} names several hosts, and not as many ports, or an empty one.")
    places = list(zip(hosts, ports, strict=True))
    result.update(host=places[0][0], port=places[0][1], others=tuple(places[1:]))


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
    if key in ("sslmode", "ssl", "sslrootcert", "sslcert", "sslkey", "channel_binding"):
        _apply_tls(result, key, value, name)
    elif key == "password_file":
        result[key] = value if "{user}" in value else _file(value, name, key)
    elif key == "target_session_attrs":
        if value not in _TARGETS:
            raise ConfigurationError(f"{name} has an unknown target_session_attrs. It is one of: {', '.join(_TARGETS)}.")
        result[key] = value
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
        result["sslrootcert"] = value if value == SYSTEM_ROOTS else _file(value, name, key)
    elif key in ("sslcert", "sslkey"):
        result[key] = _file(value, name, key)
    else:
        value = {"true": "require", "false": "disable"}.get(value.lower(), value) if key == "ssl" else value
        if value not in SSL_MODES or result.get("sslmode", value) != value:
            raise ConfigurationError(f"{name} has an unknown sslmode, or two. It is one of: {', '.join(SSL_MODES)}.")
        result["sslmode"] = value


def _file(value: str, name: str, option: str) -> str:
    """Return the path of a file that is there.

    Errors:
        ConfigurationError.
    """
    if not Path(value).is_file():
        raise ConfigurationError(f"{name} names {f'a file as {option}' if option else 'a file'} that is not on this machine.")
    return value


def _apply_fixed(key: str, value: str, name: str) -> None:
    """Options that say what is so anyway, or ask for what is not to be had."""
    if key == "schema" and value != "public":
        raise ConfigurationError(f"{name} asks for another schema than public; the tables live in public.")
    if key == "client_encoding" and value.lower() not in ("utf8", "utf-8", "auto"):
        raise ConfigurationError(f"{name} asks for another client_encoding than UTF-8.")


def _apply_place(result: dict[str, Any], key: str, value: str, name: str) -> None:
    """Take a part of the place from the query, as a socket folder is written. What is said twice must agree."""
    field_name = "database" if key == "dbname" else key
    if key == "port" and "," in value:
        result["ports"] = [_port(port, name) for port in value.split(",")]
        return
    wanted = int(_number(value, key, name, least=1)) if key == "port" else value
    present = result[field_name]
    if present and present not in (wanted, 5432):  # that port is what a URL without one has, too
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
