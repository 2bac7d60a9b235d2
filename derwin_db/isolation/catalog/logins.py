"""Logins and roles: what somebody can do who has the password of the service."""

import hashlib
from dataclasses import dataclass
from typing import Any

from derwin_db.isolation.preamble import ADMIN_ROLE, APP_ROLE

_OWNS = """(
    EXISTS (SELECT FROM pg_class t WHERE t.relowner = r.oid
            AND t.relnamespace IN (to_regnamespace('public'), to_regnamespace('derwin')))
    OR EXISTS (SELECT FROM pg_proc p WHERE p.proowner = r.oid AND p.pronamespace = to_regnamespace('public'))
    OR EXISTS (SELECT FROM pg_namespace n WHERE n.nspowner = r.oid AND n.nspname IN ('public', 'derwin'))
    OR EXISTS (SELECT FROM pg_database d WHERE d.datdba = r.oid AND d.datname = current_database())
)"""

HIDES_STATEMENTS = "track_activities=off"
"""What `distribute` stores for derwin_app on the nodes of a cluster. A superuser alone can store it, and SQL in a session can't
take it away."""

STORED_SETTINGS = """ARRAY(
    SELECT DISTINCT split_part(item, '=', 1) FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) AS stored (item)
    WHERE s.setrole = {role} AND (s.setdatabase = 0 OR s.setdatabase = (
        SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database()
    )) AND item <> '{hides}' ORDER BY 1
)""".replace("{hides}", HIDES_STATEMENTS)
"""The names of the settings that a role begins its sessions with here: `{role}` is the expression of its oid."""

_ATTRIBUTES = ("rolsuper", "rolbypassrls", "rolcreaterole", "rolcreatedb", "rolreplication")

_ROLE = f"""
SELECT r.rolname, {", ".join(f"r.{name}" for name in _ATTRIBUTES)}, r.rolinherit, {_OWNS} AS is_owner,
    {STORED_SETTINGS.format(role="r.oid")} AS settings
FROM pg_roles r
"""

_HELD = f"""
WITH RECURSIVE held AS (
    SELECT m.roleid FROM pg_auth_members m JOIN pg_roles me ON me.oid = m.member WHERE me.rolname = $1
    UNION SELECT m.roleid FROM held h JOIN pg_auth_members m ON m.member = h.roleid
)
{_ROLE} JOIN held ON held.roleid = r.oid ORDER BY 1
"""


_HANDS_ON = """
SELECT EXISTS (
    SELECT FROM pg_auth_members m
    WHERE m.member = to_regrole(quote_ident($1)) AND m.roleid = to_regrole($2) AND m.admin_option
)
"""


@dataclass(frozen=True)
class Login:
    """One login or role: what it is itself, and the roles that it can take, through others too."""

    name: str
    is_superuser: bool
    bypasses_policies: bool
    is_owner: bool
    extras: tuple[str, ...]
    """CREATEROLE, CREATEDB, REPLICATION, as far as it has them."""
    held: tuple[str, ...]
    privileged: tuple[str, ...]
    """Of the roles that it can take, those that own something here, bypass policies, make roles, or are PostgreSQL's own."""
    settings: tuple[str, ...]
    """Names of settings that are stored for it: SQL in a session can store some for its own login."""
    inherits: bool
    """Whether it has the rights of derwin_app without taking the role."""
    hands_on: bool
    """Whether it may give derwin_app to others, and take it from them."""


async def probe_login(opened: Any, name: str) -> Login | None:
    """Return what the catalog says of this login or role, or None where there is none."""
    role = await opened.fetchrow(f"{_ROLE} WHERE r.rolname = $1", name)
    if role is None:
        return None
    held = await opened.fetch(_HELD, name)
    return Login(
        name=name,
        is_superuser=role["rolsuper"],
        bypasses_policies=role["rolbypassrls"],
        is_owner=role["is_owner"],
        extras=tuple(extra[3:].upper() for extra in _ATTRIBUTES[2:] if role[extra]),
        held=tuple(row["rolname"] for row in held),
        privileged=tuple(row["rolname"] for row in held if _is_privileged(row)),
        settings=tuple(role["settings"]),
        inherits=await _inherits(opened, name, by_default=role["rolinherit"]),
        hands_on=bool(await opened.fetchval(_HANDS_ON, name, APP_ROLE)),
    )


_NOTE = "derwin-db: password "
_STORED = """
SELECT a.rolpassword AS verifier, shobj_description(a.oid, 'pg_authid') AS note FROM pg_authid a WHERE a.rolname = $1
"""


def password_note(verifier: str | None) -> str:
    """Return the comment on a login that tells its password from another one: a digest of the verifier, salt and all."""
    return _NOTE + ("none" if verifier is None else hashlib.sha256(verifier.encode()).hexdigest()[:16])


async def has_own_password(opened: Any, login: str) -> bool | None:
    """Tell whether the login has the password that `create_logins` gave it. None where that can't be seen, or was not noted.

    SQL in a session can give its own login another password; a comment it can't. Only a superuser sees passwords.
    """
    if not await opened.fetchval("SELECT has_table_privilege('pg_authid', 'SELECT')"):
        return None
    row = await opened.fetchrow(_STORED, login)
    if row is None or not (row["note"] or "").startswith(_NOTE):
        return None
    return bool(row["note"] == password_note(row["verifier"]))


def _is_privileged(role: Any) -> bool:
    if role["rolname"] in (APP_ROLE, ADMIN_ROLE):
        return False
    named = role["rolsuper"] or role["rolbypassrls"] or role["rolcreaterole"] or role["is_owner"]
    return bool(named or role["rolname"].startswith("pg_"))


async def _inherits(opened: Any, name: str, *, by_default: bool) -> bool:
    """From 16 on each membership says itself whether it inherits; before, the member says it for all of its own."""
    query = """
        SELECT coalesce(bool_or(coalesce((to_jsonb(m) ->> 'inherit_option')::bool, $3)), false) FROM pg_auth_members m
        JOIN pg_roles me ON me.oid = m.member JOIN pg_roles r ON r.oid = m.roleid WHERE me.rolname = $1 AND r.rolname = $2
    """
    return bool(await opened.fetchval(query, name, APP_ROLE, by_default))
