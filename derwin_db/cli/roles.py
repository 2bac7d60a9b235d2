"""`derwin-db roles`."""

import asyncio
import secrets
from dataclasses import replace
from functools import partial
from typing import Any

import click

from derwin_db.cli.arguments import PATIENCE
from derwin_db.cli.output import command, confirm, json_option, show, yes_option
from derwin_db.cli.owner import as_owner
from derwin_db.deploy import logins, rotation
from derwin_db.deploy.fences import remake_fences
from derwin_db.deploy.targets import owner_connection
from derwin_db.testing.server import url_of


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
    await as_owner(logins.take_temporary_from_public)
    remade = await as_owner(remake_fences)
    await as_owner(
        lambda connection: logins.create_logins(
            connection, service=service, operator=operator, service_password=made[0], operator_password=made[1]
        )
    )
    owner = await asyncio.to_thread(owner_connection)
    file = None if passwords else owner.password_file
    urls = {
        name: url_of(replace(owner, user=login, password=password, password_file=file))
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
@click.argument("login")
@json_option
@command
async def drop(login: str, as_json: bool) -> None:
    """Remove a login that `roles create` made, once no service uses it: the end of replacing it by another one."""
    await as_owner(lambda connection: logins.drop_login(connection, login))
    show({"dropped": login}, f"{login} is gone.", as_json=as_json)


@roles.command()
@click.option("--login", default=logins.BACKUP_LOGIN, show_default=True, help="Login that dumps, past the policies.")
@json_option
@command
async def backup(login: str, as_json: bool) -> None:
    """Make the login for pg_dump, as a superuser. After a restore: `roles create`, then `roles rotate`."""
    password = secrets.token_urlsafe(24)
    await as_owner(lambda connection: logins.create_backup_login(connection, login=login, password=password))
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
    seal = await as_owner(rotation.read_key)
    show({"DERWIN_SCOPE_KEY": seal.to_text()}, f"DERWIN_SCOPE_KEY={seal.to_text()}", as_json=as_json)


@roles.command()
@click.option("--finish", is_flag=True, help="End the former key, once the units of work that it opened are over.")
@click.option(
    "--now", is_flag=True, help="Leave no former key: after a restore or a leak. Open units of work end with an error."
)
@click.option(
    "--wait", type=PATIENCE, default=120.0, show_default=True, help="Seconds to wait for open units of work, with --finish."
)
@yes_option
@json_option
@command
async def rotate(finish: bool, now: bool, wait: float, yes: bool, as_json: bool) -> None:
    """Make a new scope key beside the one that is there; services take it up. Then --finish ends the former one."""
    if finish and now:
        raise click.UsageError("--finish ends a rotation that was started, --now makes both steps at once: say one of them.")
    if now:
        confirm(
            "Make a new scope key at once, so that open units of work end,", await asyncio.to_thread(owner_connection), yes=yes
        )
    step: Any = partial(rotation.finish_rotation, wait_seconds=wait)
    if not finish:
        step = rotation.rotate_key if now else rotation.start_rotation
    await as_owner(step)
    text = _FINISHED if finish else _RENEWED if now else _STARTED
    show({"rotation": "finished" if finish else "renewed" if now else "started"}, text, as_json=as_json)


_STARTED = """The database takes two keys now. Services that may read the key take up the new one by themselves, in a minute.
Give it to those that have it as a setting, DERWIN_SCOPE_KEY: `derwin-db roles key` prints it. Then end the former one:
`derwin-db roles rotate --finish`."""
_FINISHED = "The former key opens nothing any more."
_RENEWED = """The scope key is new, and the former one opens nothing any more. Services that may read it go on with the new one.
Restart those that have it as a setting, with what `derwin-db roles key` prints."""
