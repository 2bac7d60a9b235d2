"""Settings, each by its environment variable or in `.env`. They are read when a `Database` is made, not at import."""

import os
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, ClassVar, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from derwin_db.errors import ConfigurationError
from derwin_db.settings.url import ConnectionInfo

_LONGEST_SECONDS = 1_000_000


def _seconds(default: float) -> Any:
    """Return the field of a length of time above 0, in seconds. The server takes milliseconds up to 2^31."""
    return Field(default=default, ge=0.001, le=_LONGEST_SECONDS, allow_inf_nan=False)


class Settings(BaseSettings):
    """All settings, each by its environment variable or in `.env`. Times are in seconds unless the name says otherwise."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_file=".env", env_prefix="DERWIN_", extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = Field(default=None, alias="DATABASE_URL")
    admin_url: SecretStr | None = Field(default=None, alias="ADMIN_URL")
    direct_url: SecretStr | None = Field(default=None, alias="DIRECT_URL")
    read_url: SecretStr | None = Field(default=None, alias="READ_URL")
    scope_key: SecretStr | None = None
    """The seal's key as `derwin-db roles key` prints it, for a service that has neither owner's nor operator's URL."""

    read_fallback: bool = True
    """Whether read-only units go to the primary while the replica does not answer, or is behind what they wait for."""

    data_dir: Path | None = None
    """Data folder of the embedded server."""

    pool_size: int = Field(default=10, ge=1, le=1000)
    pool_timeout: float = _seconds(5.0)
    connect_timeout: float = _seconds(5.0)
    connection_life: float = _seconds(1800.0)
    read_wait: float = _seconds(2.0)
    """Longest wait of a read-only unit for a position of the primary (`after=`)."""
    command_timeout: float = _seconds(30.0)
    statement_timeout: float = _seconds(25.0)
    lock_timeout: float = _seconds(2.0)
    idle_in_transaction_timeout: float = _seconds(30.0)
    """How long the server lets a unit of work think between two statements; at most twice command_timeout."""
    transaction_timeout: float = _seconds(60.0)
    """Longest unit of work; only where the server is 17 or newer."""
    delete_timeout: float = _seconds(600.0)
    """Longest deletion of a whole project."""
    cleanup_timeout: float = _seconds(2.0)
    """How long a cancelled or failed unit of work may take to roll back before its connection is dropped."""
    slow_query_seconds: float | None = Field(default=None, ge=0, le=_LONGEST_SECONDS, allow_inf_nan=False)
    """From how long on a statement is named on the logger `derwin_db.slow`; unset, nothing is timed."""

    @model_validator(mode="before")
    @classmethod
    def _blank_is_unset(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value != ""} if isinstance(data, dict) else data

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

    def connection(self, field_name: Literal["database_url", "admin_url", "direct_url", "read_url"]) -> ConnectionInfo | None:
        """Return the parsed URL of this setting, or None where it is not set.

        Errors:
            ConfigurationError.
        """
        secret: SecretStr | None = getattr(self, field_name)
        return None if secret is None else ConnectionInfo.parse(secret.get_secret_value(), name=field_name.upper())


_PREFIX = "DERWIN_"
_ALIKE = 0.87
"""How alike two names have to be for one to be a mistake for the other: a letter or two, or an underscore."""


def _refuse_mistyped(settings: type[Settings]) -> None:
    """Refuse a variable that is a setting's name but for a letter or an underscore: it would change nothing, silently.

    Others that begin with DERWIN_ may be of another program.

    Errors:
        ConfigurationError.
    """
    known = {f"{_PREFIX}{name.upper()}" for name, field in settings.model_fields.items() if field.alias is None}
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
