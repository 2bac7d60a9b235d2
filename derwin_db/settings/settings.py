"""Settings, each by its environment variable or in `.env`. They are read when a `Database` is made, not at import.

The four URLs lead to one database, so they come from one source: the code that names one, else the environment that names one,
else `.env`. A URL of another source is never added.
"""

import os
from contextlib import suppress
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, ClassVar, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from derwin_db.errors import ConfigurationError
from derwin_db.settings.url import ConnectionInfo

_LONGEST_SECONDS = 1_000_000

UrlName = Literal["database_url", "admin_url", "direct_url", "read_url"]
UrlSource = Literal["code", "the environment", ".env"]

URL_NAMES = frozenset({"DATABASE_URL", "ADMIN_URL", "DIRECT_URL", "READ_URL"})


def _seconds(default: float) -> Any:
    """Return the field of a length of time above 0, in seconds. The server takes milliseconds up to 2^31."""
    return Field(default=default, ge=0.001, le=_LONGEST_SECONDS, allow_inf_nan=False)


class Settings(BaseSettings):
    """All settings, each by its environment variable or in `.env`. Times are in seconds unless the name says otherwise."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_file=".env", env_prefix="DERWIN_", extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = Field(default=None, alias="DATABASE_URL")
    """The service's login. Where no URL is set at all, the embedded server is started."""
    admin_url: SecretStr | None = Field(default=None, alias="ADMIN_URL")
    """The operator's login, for the admin door."""
    direct_url: SecretStr | None = Field(default=None, alias="DIRECT_URL")
    """The owner's login, for migrations and the like, past any pooler."""
    read_url: SecretStr | None = Field(default=None, alias="READ_URL")
    """The service's login on a replica, for units of work that only read."""
    url_source: UrlSource | None = None
    """Where the four URLs come from. It is found out, not set."""
    scope_key: SecretStr | None = None
    """The seal's key as `derwin-db roles key` prints it, for a service that has neither owner's nor operator's URL."""
    scope_key_file: Path | None = None
    """A file with that key instead. It is read again once a minute, and when a server refuses what it held."""

    password_file: Path | None = None
    """A file with the password of each URL that has none, read at each connect. `{user}` in its path is the login."""
    sslrootcert: Path | None = None
    """Certificates of the authority that signed the servers', for each URL that names none."""
    sslcert: Path | None = None
    """A client certificate for each URL that names none, and in `sslkey` its key, unless both are in one file."""
    sslkey: Path | None = None
    """The key of `sslcert`."""

    read_fallback: bool = True
    """Whether read-only units go to the primary while the replica does not answer, or is behind what they wait for."""

    data_dir: Path | None = None
    """Data folder of the embedded server."""

    pool_size: int = Field(default=10, ge=1, le=1000)
    """Most connections of one login and server in this process; `connection_limit` of a URL wins over it."""
    pool_timeout: float = _seconds(5.0)
    """How long a unit of work waits for a connection before it fails."""
    connect_timeout: float = _seconds(5.0)
    """How long making a connection may take."""
    connection_life: float = _seconds(1800.0)
    """From what age on a connection is replaced: up to a fifth earlier, at random, so that not all are replaced at once."""
    read_wait: float = _seconds(2.0)
    """Longest wait of a read-only unit for a position of the primary (`after=`)."""
    command_timeout: float = _seconds(30.0)
    """How long this process waits for the answer to a statement, whatever the server does."""
    statement_timeout: float = _seconds(25.0)
    """How long the server lets one statement run."""
    lock_timeout: float = _seconds(2.0)
    """How long the server lets a statement wait for a lock."""
    idle_in_transaction_timeout: float = _seconds(30.0)
    """How long the server lets a unit of work think between two statements; at most twice command_timeout."""
    transaction_timeout: float = _seconds(60.0)
    """Longest unit of work; only where the server is 17 or newer."""
    stray_timeout: float = _seconds(300.0)
    """From what age on a transaction, or a statement, of the service's login is ended by whichever service of that login sees
    it: SQL by hand turned its limits off, and its process may be gone. Never before transaction_timeout."""
    delete_timeout: float = _seconds(600.0)
    """Longest deletion or export of a whole project; an export ends at stray_timeout, too. An import may take any time."""
    cleanup_timeout: float = _seconds(2.0)
    """How long a cancelled or failed unit of work may take to roll back before its connection is dropped."""
    import_memory_mib: int = Field(default=256, ge=64, le=65536)
    """Most memory that an import takes, beside that of the process. The longest line that it takes is a 16th of it."""
    slow_query_seconds: float | None = Field(default=None, ge=0, le=_LONGEST_SECONDS, allow_inf_nan=False)
    """From how long on a statement is named on the logger `derwin_db.slow`; unset, nothing is timed."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # there are none
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the source that decides about the URLs in front of the others."""
        sources = {"code": init_settings, "the environment": env_settings, ".env": dotenv_settings}
        return _OneSourceOfUrls(settings_cls, sources), *sources.values()

    @model_validator(mode="before")
    @classmethod
    def _blank_is_unset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if not isinstance(value, str) or value.strip()}

    @field_validator("data_dir", "scope_key_file", "password_file", "sslrootcert", "sslcert", "sslkey")
    @classmethod
    def _tilde_is_home(cls, path: Path | None) -> Path | None:
        """Expand `~`, as a shell would have: in `.env` there is none."""
        with suppress(RuntimeError):  # nobody's home
            return path and path.expanduser()
        return path

    debug: bool = False
    """Whether errors carry what the server said as their `__cause__`, values and all. For a machine where they are nobody's."""

    @classmethod
    def load(cls) -> "Settings":
        """Read environment and `.env`.

        Errors:
            ConfigurationError that names the setting, not the value.
        """
        try:
            settings = cls()
            _refuse_mistyped(cls)
            return settings
        except OSError:
            raise ConfigurationError("The file .env can't be read.") from None
        except ValueError as error:
            fields = {str(item["loc"][0]) for item in getattr(error, "errors", list)() if item["loc"]}
            names = sorted(name if name.isupper() else f"DERWIN_{name.upper()}" for name in fields)
            raise ConfigurationError(f"A setting can't be used: {', '.join(names) or 'see .env'}.") from None

    def connection(self, field_name: UrlName) -> ConnectionInfo | None:
        """Return the parsed URL of this setting, or None where it is not set.

        Errors:
            ConfigurationError.
        """
        secret: SecretStr | None = getattr(self, field_name)
        if secret is None:
            return None
        return ConnectionInfo.parse(secret.get_secret_value(), name=field_name.upper()).completed(self)


_PREFIX = "DERWIN_"
_FOUND_OUT = "DERWIN_URL_SOURCE"
_ALIKE = 0.87
"""How alike two names have to be for one to be a mistake for the other: a letter or two, or an underscore."""


def _refuse_mistyped(settings: type[Settings]) -> None:
    """Refuse a variable that is a setting's name but for a letter or an underscore: it would change nothing, silently.

    Others that begin with DERWIN_ may be of another program.

    Errors:
        ConfigurationError.
    """
    known = {f"{_PREFIX}{name.upper()}" for name, field in settings.model_fields.items() if field.alias is None} - {_FOUND_OUT}
    given = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    for name in sorted(given - known):
        if name.startswith(_PREFIX) and not name.startswith(_NOT_OURS):
            meant = max(known, key=lambda setting: _likeness(name, setting))
            if _likeness(name, meant) >= _ALIKE:
                raise ConfigurationError(f"{name} is no setting. Is {meant} meant?")


_NOT_OURS = f"{_PREFIX}TEST_"
"""Settings of the pytest plugin and of this package's own tests."""


def _likeness(one: str, other: str) -> float:
    short = [name.removeprefix(_PREFIX).replace("_", "") for name in (one, other)]
    return SequenceMatcher(None, short[0], short[1]).ratio()


class _OneSourceOfUrls(InitSettingsSource):
    """Gives all four URLs of the first source that names one, also as blank, and none of the others."""

    def __init__(self, settings_cls: type[BaseSettings], sources: dict[str, PydanticBaseSettingsSource]) -> None:
        super().__init__(settings_cls, {})
        self._sources = sources

    def __call__(self) -> dict[str, Any]:
        """Return the URLs, those that are not named as None, and their source."""
        for name, source in self._sources.items():
            given = {key: value for key, value in source().items() if key in URL_NAMES}
            if given:
                return {**dict.fromkeys(URL_NAMES), **given, "url_source": name}
        return {**dict.fromkeys(URL_NAMES), "url_source": None}
