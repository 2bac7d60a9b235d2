"""Whether isolation stands as a whole: what a service asks before it serves. `doctor` asks the same, and more."""

from collections.abc import Mapping
from typing import Any

from derwin_db.fields.own import own_logs, own_tables
from derwin_db.isolation.catalog import code, logins, policies
from derwin_db.isolation.catalog.own import loose_tables
from derwin_db.isolation.preamble import APP_ROLE


async def missing_fences(opened: Any, *, is_sealed: bool, functions: Mapping[str, str] | None = None) -> list[str]:
    """Name what does not stand of the policies of units of work, of their role, of the seal, and of the service's own tables.

    `functions` are the hashes of functions of the seal that a newer revision made and noted: they count instead of this code's.
    Of the service's tables, those whose classes this process knows, where they are there: their revision may not have run yet.

    search_path must be pg_catalog.
    """
    off, unforced = await policies.row_security(opened)
    wrong, foreign = await policies.policies(opened, is_sealed=is_sealed)
    wider = () if is_sealed else foreign  # beside a restrictive policy a permissive one widens nothing
    names = [table.name for table in own_tables()]
    loose = await loose_tables(opened, names, own_logs(), is_sealed=is_sealed, look_for_more=False) if names else []
    changed = await code.changed_functions(opened, code.seal_bodies(), functions) if is_sealed else []
    return [
        *(f"row level security of {table} is off" for table in off),
        *(f"row level security of {table} is not forced" for table in unforced),
        *(f"the policy {policy} is missing or changed" for policy in wrong if not policy.startswith("derwin_admin_")),
        *(f"the policy {policy} is not ours: beside a plain scope it lets rows through" for policy in wider),
        *(f"the function {name} is not the one that this package makes" for name in changed),
        *(f"{what} (fence it in its revision: derwin_db.migrations.fence)" for what in loose),
        *_powers(await logins.probe_login(opened, APP_ROLE)),
    ]


def _powers(role: logins.Login | None) -> list[str]:
    if role is None:
        return [f"there is no role {APP_ROLE}"]
    return [f"{APP_ROLE} bypasses policies"] * (role.is_superuser or role.bypasses_policies) + [
        f"{APP_ROLE} owns what it is fenced in by"
    ] * role.is_owner
