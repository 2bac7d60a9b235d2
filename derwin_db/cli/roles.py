"""`derwin-db roles`."""

import asyncio
import secrets
from dataclasses import replace
from typing import Any

import click

from derwin_db.cli.output import command, confirm, json_option, show, yes_option
from derwin_db.connection.driver import DriverOrNetworkError
from derwin_db.connection.refused import connection_error
from derwin_db.deploy import logins
from derwin_db.deploy.fences import remake_fences
from derwin_db.deploy.migrations import MigrationSettings, connect_directly
from derwin_db.deploy.targets import owner_connection
from derwin_db.errors import DerwinError
from derwin_db.testing.server import url_of
from derwin_db.translation.driver_errors import translate


@click.group()
def roles() -> None:
    """Make the logins of a deployment; print or rotate the scope key."""


@roles.command()
@click.option("--service", default=logins.SERVICE_LOGIN, show_default=True, help="Login of the service: may become derwin_app.")
@click.option(
    "--operator", default=logins.OPERATOR_LOGIN, show_default=True, help="Login of operators: may become derwin_admin."
)
@click.option("--passwords/--no-passwords", default=True, show_default=True, help="Make new passwords and print them once.")
@json_option
@command
async def create(service: str, operator: str, passwords: bool, as_json: bool) -> None:
    """Make both logins, or bring those that exist into shape. The passwords are printed now and never again."""
    made = (secrets.token_urlsafe(24), secrets.token_urlsafe(24)) if passwords else (None, None)
    await _as_owner(logins.take_temporary_from_public)
    remade = await _as_owner(remake_fences)
    await _as_owner(
        lambda connection: logins.create_logins(
            connection, service=service, operator=operator, service_password=made[0], operator_password=made[1]
        )
    )
    owner = await asyncio.to_thread(owner_connection)
    urls = {
        name: url_of(replace(owner, user=login, password=password))
        for name, login, password in (("DATABASE_URL", service, made[0]), ("ADMIN_URL", operator, made[1]))
    }
    lines = [f"{service}  may become derwin_app:   DATABASE_URL", f"{operator}  may become derwin_admin: ADMIN_URL"]
    if passwords:
        lines += ["", "To paste into .env; the passwords are shown once:", *(f"{name}={url}" for name, url in urls.items())]
    value = {
        "service": {"login": service, "password": made[0]},
        "operator": {"login": operator, "password": made[1]},
        "urls": urls,
        "remade": remade,
    }
    if remade:
        lines += ["", f"Made again, because they were missing or changed: {', '.join(remade)}"]
    show(value, "\n".join(lines), as_json=as_json)


@roles.command()
@click.option("--login", default=logins.BACKUP_LOGIN, show_default=True, help="Login that dumps, past the policies.")
@json_option
@command
async def backup(login: str, as_json: bool) -> None:
    """Make the login for pg_dump, as a superuser. After a restore: `roles create`, then `roles rotate`."""
    password = secrets.token_urlsafe(24)
    await _as_owner(lambda connection: logins.create_backup_login(connection, login=login, password=password))
    show(
        {"login": login, "password": password},
        f"{login}  may read everything; its password, shown once: {password}",
        as_json=as_json,
    )


@roles.command()
@json_option
@command
async def key(as_json: bool) -> None:
    """Print the scope key, for the setting DERWIN_SCOPE_KEY of a service that has neither ADMIN_URL nor DIRECT_URL."""
    seal = await _as_owner(logins.read_key)
    show({"DERWIN_SCOPE_KEY": seal.to_text()}, f"DERWIN_SCOPE_KEY={seal.to_text()}", as_json=as_json)


@roles.command()
@yes_option
@json_option
@command
async def rotate(yes: bool, as_json: bool) -> None:
    """Make a new scope key, after a restore or a leak. Services that run with the old one have to be restarted."""
    confirm(
        "Rotate the scope key, so that running services have to be restarted,",
        await asyncio.to_thread(owner_connection),
        yes=yes,
    )
    await _as_owner(logins.rotate_key)
    show(
        {"rotated": True},
        "The scope key is new. Restart the services, and give it to those that have it as a setting.",
        as_json=as_json,
    )


async def _as_owner(work: Any) -> Any:
    settings = MigrationSettings(await asyncio.to_thread(owner_connection))
    try:
        connection = await connect_directly(settings)
    except Exception as error:
        raise connection_error(error, settings.connection) from None
    try:
        return await work(connection)
    except DriverOrNetworkError as error:
        raise translate(error) or DerwinError() from None
    finally:
        await connection.close()
