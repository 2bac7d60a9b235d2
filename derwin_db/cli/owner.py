"""What commands do as the owner of the database, on a connection of their own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from derwin_db.connection.driver import Connection, DriverOrNetworkError
from derwin_db.connection.facts import INSUFFICIENT_PRIVILEGE
from derwin_db.connection.refused import connection_error
from derwin_db.deploy.migrations import MigrationSettings, connect_directly
from derwin_db.deploy.targets import NOT_THE_OWNER, owner_connection
from derwin_db.errors import ConfigurationError, DerwinError, InvalidStatement, SchemaOutOfDate
from derwin_db.translation.driver_errors import sqlstate_of, translate

T = TypeVar("T")


async def as_owner(work: Callable[[Connection], Awaitable[T]]) -> T:
    """Return what the work returns, which is done with the owner's login.

    Errors:
        ConfigurationError where that login may not do it; SchemaOutOfDate where what it works on is not there;
        DatabaseUnavailable; the work's own.
    """
    settings = MigrationSettings(await asyncio.to_thread(owner_connection))
    try:
        connection = await connect_directly(settings)
    except Exception as error:
        raise connection_error(error, settings.connection) from None
    try:
        return await work(connection)
    except DriverOrNetworkError as error:
        if sqlstate_of(error) == INSUFFICIENT_PRIVILEGE:
            raise ConfigurationError(NOT_THE_OWNER) from None
        translated = translate(error) or DerwinError()
        raise SchemaOutOfDate() if isinstance(translated, InvalidStatement) else translated from None
    finally:
        await connection.close()
