"""Which login is for what: the URLs of one `Database`, and what each of them may read."""

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from derwin_db.connection.driver import Connection, DriverError
from derwin_db.connection.facts import INSUFFICIENT_PRIVILEGE, connect_once
from derwin_db.errors import ConfigurationError
from derwin_db.isolation.keys import KeyRing
from derwin_db.isolation.preamble import ADMIN_ROLE
from derwin_db.isolation.seal import Seal
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.settings.secrets import read_secret
from derwin_db.settings.url import PasswordSource
from derwin_db.translation.driver_errors import sqlstate_of, translate

NOT_THE_OWNER = "This login may not do it. DIRECT_URL has to be the owner's, or an administrator's."
"""What is said where the server refuses the owner's work for want of a privilege."""


class Urls:
    """Which login is for what. Resolved at start, when the embedded server may have to be started."""

    def __init__(
        self,
        service: ConnectionInfo | None,
        admin: ConnectionInfo | None,
        direct: ConnectionInfo | None,
        read: ConnectionInfo | None,
    ) -> None:
        self._service = service
        self.admin = admin
        self.direct = direct
        self.read = read

    @classmethod
    def choose(
        cls,
        settings: Settings,
        url: str | None,
        admin: str | None,
        direct: str | None,
        read: str | None,
        password: PasswordSource | None = None,
    ) -> "Urls":
        """Take the URLs that are given, or else those of the settings; their passwords from the function, if there is one.

        Errors:
            ConfigurationError.
        """
        if url is None and admin is None and direct is None and read is None:
            chosen = [settings.connection(name) for name in ("database_url", "admin_url", "direct_url", "read_url")]
        elif url is None:
            raise ConfigurationError("A Database that is given URLs needs `url`, the service's own, among them.")
        else:
            given = {"DATABASE_URL": url, "ADMIN_URL": admin, "DIRECT_URL": direct, "READ_URL": read}
            chosen = [
                None if text is None else ConnectionInfo.parse(text, name=name).completed(settings)
                for name, text in given.items()
            ]
        return cls(*(None if one is None else one.with_password_of(password) for one in chosen))

    @property
    def service(self) -> ConnectionInfo:
        """The service's login."""
        assert self._service is not None
        return self._service

    async def resolved(self, settings: Settings) -> "Urls":
        """Return the same with a service: where no URL is set at all, the embedded server is started."""
        if self._service is not None:
            return self
        if self.admin or self.direct or self.read:
            raise _services_is_missing(settings)
        from derwin_db.deploy import embedded  # not at import: its package is an extra

        logins = await asyncio.to_thread(embedded.start, settings.data_dir)
        return Urls(logins.service, logins.operator, logins.owner, None)


def _services_is_missing(settings: Settings) -> ConfigurationError:
    other = " .env adds none to those of the environment." if settings.url_source == "the environment" else ""
    return ConfigurationError(
        f"DATABASE_URL is not set, while {settings.url_source} names another URL: set it there too, or unset them all.{other}"
    )


def owner_connection(settings: Settings | None = None) -> ConnectionInfo:
    """Return the login that owns the database: DIRECT_URL, else DATABASE_URL, else the embedded server (started).

    Errors:
        ConfigurationError where only another URL is set.
    """
    settings = settings or Settings.load()
    connection = settings.connection("direct_url") or settings.connection("database_url")
    if connection is not None:
        return connection
    if settings.connection("admin_url") or settings.connection("read_url"):
        raise _services_is_missing(settings)
    from derwin_db.deploy import embedded  # not at import: its package is an extra

    return embedded.start(settings.data_dir).owner


async def find_keys(urls: Urls, settings: Settings) -> KeyRing:
    """Find the keys of the sealed scope: in the setting or its file, else as owner, operator or (a first try) service.

    Errors:
        ConfigurationError where nobody has one.
    """
    if settings.scope_key is not None:
        return KeyRing([Seal.from_text(settings.scope_key.get_secret_value())])
    if settings.scope_key_file is not None:
        read = partial(_keys_of_file, settings.scope_key_file)
        return KeyRing(await read(), read)
    for connection in dict.fromkeys(filter(None, (urls.direct, urls.admin, urls.service))):
        keys = await read_scope_keys(connection, settings)
        if keys:
            return KeyRing(keys, partial(_keys_again, connection, settings))
    raise ConfigurationError(
        "The project scope of this database is sealed, and no login here may read its key. Set DERWIN_SCOPE_KEY to what "
        "`derwin-db roles key` prints, or give this service ADMIN_URL or DIRECT_URL."
    )


async def _keys_of_file(path: Path) -> Sequence[Seal]:
    """Return the key that stands in the file of the setting DERWIN_SCOPE_KEY_FILE."""
    return [Seal.from_text(await read_secret(path, "DERWIN_SCOPE_KEY_FILE"))]


async def _keys_again(connection: ConnectionInfo, settings: Settings) -> Sequence[Seal]:
    keys = await read_scope_keys(connection, settings)
    if not keys:
        raise ConfigurationError(f"The login of {connection.place} may not read the key of the project scope any more.")
    return keys


async def read_scope_keys(connection: ConnectionInfo, settings: Settings) -> Sequence[Seal]:
    """Return the keys that the database takes, the newest first; none where this login may not read them.

    Errors:
        DatabaseUnavailable.
    """
    opened = await connect_once(connection, settings)
    try:
        return await _keys_as(opened, None) or await _keys_as(opened, ADMIN_ROLE)
    except Exception as error:
        raise translate(error) or error from None
    finally:
        opened.terminate()


async def _keys_as(opened: Connection, role: str | None) -> Sequence[Seal]:
    """Read the keys as the login itself (the owner), or as the role that an operator's login takes."""
    try:
        async with opened.transaction():
            if role is not None:
                await opened.execute(f"SET LOCAL ROLE {role}")
            return await keys_in(opened)
    except DriverError as error:
        if sqlstate_of(error) != INSUFFICIENT_PRIVILEGE:
            raise
        return ()


async def keys_in(opened: Connection) -> Sequence[Seal]:
    """Return the keys that the database takes, the newest first.

    Errors:
        The driver's own for a login that may not read them.
    """
    row = await opened.fetchrow("SELECT inner_pad, outer_pad, former_inner_pad, former_outer_pad FROM derwin.scope_key")
    if row is None:
        return ()
    former = row["former_inner_pad"]
    newest = Seal(row["inner_pad"], row["outer_pad"])
    return (newest,) if former is None else (newest, Seal(former, row["former_outer_pad"]))
