"""Is everything in place? Server, schema, logins and fences, looked at one by one, each with what mends it.

    report = await examine()                    # the environment's URLs, as a service has them
    report = await examine(service, owner=owner)  # logins of one's own
    report.ok, [check.name for check in report.checks if not check.ok]

It changes nothing and needs no privilege: what the service's login can see is enough. `derwin-db doctor` prints it. What mends
some findings, as the owner, is `mend(report)`: `derwin-db doctor --fix`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import cast

from derwin_db.connection.driver import Connection, DriverOrNetworkError
from derwin_db.connection.facts import connect_once
from derwin_db.deploy.targets import Urls
from derwin_db.doctor.fences import check_fences
from derwin_db.doctor.mending import MENDERS, Mended, mend
from derwin_db.doctor.report import Check, Report
from derwin_db.doctor.server import check_distribution, check_poolers, check_schema, check_server, look_at_schema
from derwin_db.errors import DerwinError
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.settings.settings import URL_NAMES, UrlName
from derwin_db.translation.driver_errors import translate

__all__ = ["MENDERS", "Check", "Mended", "Report", "examine", "mend"]


async def examine(
    service: ConnectionInfo | None = None, settings: Settings | None = None, *, owner: ConnectionInfo | None = None
) -> Report:
    """Examine the database that units of work use, through the service's login, and through the owner's if there is one.

    Without a login it takes those of the environment (or the embedded server).

    Errors:
        ConfigurationError for URLs that can't be understood; what is wrong with the database itself is in the report.
    """
    settings = settings or Settings.load()
    checks: list[Check] = []
    if service is None:
        urls = await Urls.choose(settings, None, None, None, None).resolved(settings)
        service, owner = urls.service, urls.direct
        checks.append(Check("urls", ok=True, detail=_source_of(settings)))
    try:
        async with _connected(service, settings) as opened:
            checks += await check_server(opened, service)
            async with _connected(owner, settings) if owner else nullcontext(opened) as able:  # the owner reads all of it
                schema = await look_at_schema(able)
                checks.append(check_schema(schema))
                if schema is not None and checks[-1].ok:
                    checks += await check_fences(able, service.user, schema)
                    checks += await check_distribution(able, is_owner=owner is not None)
        checks += await check_poolers(filter(None, (service, owner)))
    except DerwinError as error:
        checks.append(Check("server", ok=False, detail=error.message, fix="check the URL, and that the server runs"))
    return Report(all(check.ok for check in checks), tuple(checks))


def _source_of(settings: Settings) -> str:
    """Say where the URLs come from, and which they are. Their values are not shown."""
    if settings.database_url is None:
        return "none is set: the embedded server"
    names = [name for name in sorted(URL_NAMES) if settings.connection(cast("UrlName", name.lower())) is not None]
    return f"from {settings.url_source}: {', '.join(names)}"


@asynccontextmanager
async def _connected(connection: ConnectionInfo, settings: Settings) -> AsyncIterator[Connection]:
    """Yield a connection inside a read-only transaction, with names resolved in pg_catalog alone."""
    opened = await connect_once(connection, settings)
    try:
        await opened.execute("BEGIN READ ONLY; SET LOCAL search_path = pg_catalog")
        yield opened
    except DriverOrNetworkError as error:
        raise translate(error) or error from None
    finally:
        opened.terminate()
