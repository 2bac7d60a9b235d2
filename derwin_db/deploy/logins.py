"""Logins of a deployment: the service's may become derwin_app and nothing else, the operator's derwin_admin.

Two logins, because one that may become both can leave its project from inside a project's session (`SET ROLE`).
"""

import re

from derwin_db import sql
from derwin_db.connection.driver import Connection
from derwin_db.connection.facts import read_facts
from derwin_db.deploy.scram import verifier_of
from derwin_db.errors import ConfigurationError, Conflict, InvalidInput
from derwin_db.isolation.catalog.logins import password_note
from derwin_db.isolation.preamble import ADMIN_ROLE, APP_ROLE

SERVICE_LOGIN = "derwin_service"
OPERATOR_LOGIN = "derwin_operator"
BACKUP_LOGIN = "derwin_backup"

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")

_HELD = """
SELECT r.rolsuper OR r.rolbypassrls OR r.rolreplication OR EXISTS (
    SELECT FROM pg_catalog.pg_class t WHERE t.relowner = r.oid AND t.oid = to_regclass('public.projects')
) AS is_privileged
FROM pg_catalog.pg_roles r WHERE r.rolname = $1
"""


async def create_logins(
    connection: Connection,
    *,
    service: str = SERVICE_LOGIN,
    operator: str = OPERATOR_LOGIN,
    service_password: str | None = None,
    operator_password: str | None = None,
) -> None:
    """Make both logins, or bring those that exist into shape. Runs as the owner or an administrator. Idempotent.

    A comment on each login tells its password from another one, which SQL in a session can give it; `doctor` compares.
    Settings that are stored for them go: SQL in a session can store some for its own login. Passwords are sent as verifiers.

    Errors:
        InvalidInput for a name that is not a plain identifier, and for one name for both; ConfigurationError for a login that
        exists and is more than a login (superuser, BYPASSRLS, replication, owner of the tables); the driver's own for a
        missing privilege.
    """
    for login in (service, operator):
        _check_name(login)
    if service == operator:
        raise InvalidInput("The service's login and the operator's are two: one for both could leave its project.")
    for statement in sql.read_current("roles"):
        await connection.execute(statement)
    for login, role, other, password in (
        (service, APP_ROLE, ADMIN_ROLE, service_password),
        (operator, ADMIN_ROLE, APP_ROLE, operator_password),
    ):
        await _create_login(connection, login, role, other, password)


async def _create_login(connection: Connection, login: str, role: str, other: str, password: str | None) -> None:
    held = await connection.fetchrow(_HELD, login)
    if held is not None and held["is_privileged"]:
        raise ConfigurationError(f"The login {login} is privileged: it could leave its role. Choose another name.")
    verifier = None if password is None else verifier_of(password)
    await connection.execute(
        f"{'CREATE' if held is None else 'ALTER'} ROLE {login} LOGIN NOINHERIT NOCREATEDB NOCREATEROLE{_password(verifier)}"
    )
    if verifier is not None or held is None:
        await connection.execute(f"COMMENT ON ROLE {login} IS '{password_note(verifier)}'")
    await _reset_settings(connection, login)
    has_options = (await read_facts(connection)).version >= 160000
    options = " WITH INHERIT FALSE, SET TRUE, ADMIN FALSE" if has_options else ""
    await connection.execute(f"GRANT {role} TO {login}{options}")
    await connection.execute(f"REVOKE {other} FROM {login}")


_USED = """
SELECT count(s.pid) AS sessions FROM pg_catalog.pg_roles r LEFT JOIN pg_catalog.pg_stat_activity s ON s.usesysid = r.oid
WHERE r.rolname = $1 AND r.oid IN (
    SELECT m.member FROM pg_catalog.pg_auth_members m WHERE m.roleid IN (to_regrole($2), to_regrole($3))
) GROUP BY r.oid
"""


async def drop_login(connection: Connection, login: str) -> None:
    """Remove a login that `create_logins` made, once nobody uses it any more: the last step of replacing it by another one.

    Errors:
        ConfigurationError for what is no such login; Conflict while it has sessions.
    """
    _check_name(login)
    held = await connection.fetchrow(_HELD, login)
    used = await connection.fetchrow(_USED, login, APP_ROLE, ADMIN_ROLE)
    if held is None or held["is_privileged"] or used is None:
        raise ConfigurationError(
            f"{login} is no login of derwin-db: it may become neither {APP_ROLE} nor {ADMIN_ROLE}, or more."
        )
    if used["sessions"]:
        raise Conflict(
            f"The login {login} is in use: it has {used['sessions']} sessions. Deploy the other login everywhere first."
        )
    await connection.execute(f"DROP ROLE {login}")


async def tidy_login(connection: Connection, login: str) -> None:
    """Remove the settings that are stored for a service's login, and what it inherits. Runs as its administrator. Idempotent.

    Errors:
        ConfigurationError for a login that is more than a login: its settings may be meant for other work.
    """
    held = await connection.fetchrow(_HELD, login)
    if held is None or held["is_privileged"]:
        raise ConfigurationError(f"The login {login} is privileged: what it holds is not taken from it.")
    name = await connection.fetchval("SELECT quote_ident($1)", login)
    await connection.execute(f"ALTER ROLE {name} NOINHERIT")
    await _reset_settings(connection, name)
    facts = await read_facts(connection)
    if facts.version >= 160000 and await connection.fetchval("SELECT pg_has_role($1, $2, 'MEMBER')", login, APP_ROLE):
        await connection.execute(f"GRANT {APP_ROLE} TO {name} WITH INHERIT FALSE, SET TRUE, ADMIN FALSE")


async def take_temporary_from_public(connection: Connection) -> None:
    """Let nobody make temporary tables in this database: they stand in front of real ones. Runs as its owner. Idempotent.

    Migrations do the same; but privileges on a database are part of no dump and no template.
    """
    database = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")


async def create_backup_login(connection: Connection, *, login: str = BACKUP_LOGIN, password: str | None = None) -> None:
    """Make the login that dumps: it reads everything, past the policies, and writes nothing. Runs as a superuser. Idempotent.

    Under FORCE the dump of an ordinary owner is refused; this one is whole. It holds the scope key: a restore rotates it.

    Errors:
        InvalidInput for a name that is not a plain identifier; ConfigurationError for a login of a service or an operator.
    """
    _check_name(login)
    if await connection.fetchrow(_USED, login, APP_ROLE, ADMIN_ROLE) is not None:
        raise ConfigurationError(f"{login} is the login of a service or an operator: it may not read everything.")
    exists = await connection.fetchval("SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)", login)
    set_to = _password(None if password is None else verifier_of(password))
    await connection.execute(f"{'ALTER' if exists else 'CREATE'} ROLE {login} LOGIN BYPASSRLS{set_to}")
    await connection.execute(f"GRANT pg_read_all_data TO {login}")


def _check_name(login: str) -> None:
    if _NAME.fullmatch(login) is None:
        raise InvalidInput("A login's name has 1 to 63 of a-z, 0-9 and underscore, and does not begin with a digit.")
    if login in (APP_ROLE, ADMIN_ROLE):
        raise InvalidInput(f"{login} is what logins become, and no login itself. Choose another name.")


def _password(verifier: str | None) -> str:
    """Return the clause that sets the password. The statement holds a verifier: servers log statements."""
    return "" if verifier is None else f" PASSWORD '{verifier}'"


async def _reset_settings(connection: Connection, login: str) -> None:
    """Remove what is stored for the login, for all databases and for single ones."""
    stored = await connection.fetch(
        """
        SELECT quote_ident(d.datname) AS name FROM pg_catalog.pg_db_role_setting s
        LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase WHERE s.setrole = to_regrole($1)
        """,
        login,
    )
    for row in stored:
        where = f" IN DATABASE {row['name']}" if row["name"] else ""
        await connection.execute(f"ALTER ROLE {login}{where} RESET ALL")
