"""Whether isolation stands as a whole: what a service asks before it serves. `doctor` asks the same, and more."""

from collections.abc import Mapping
from typing import Any

from derwin_db.fields.own import own_logs, own_tables
from derwin_db.isolation.catalog import code, logins, policies
from derwin_db.isolation.catalog.own import loose_tables
from derwin_db.isolation.preamble import APP_ROLE, ScopeForm


async def missing_fences(opened: Any, form: ScopeForm, *, functions: Mapping[str, str] | None = None) -> list[str]:
    """Name what does not stand of the policies of units of work, of their role, of the seal, and of the service's own tables.

    `functions` are the hashes of functions of the seal that a newer revision made and noted: they count instead of this code's.
    Of the service's tables, those whose classes this process knows, where they are there: their revision may not have run yet.

    search_path must be pg_catalog.
    """
    off, unforced = await policies.row_security(opened)
    wrong, foreign = await policies.policies(opened, form)
    wider = () if form.is_restrictive else foreign  # beside a restrictive policy a permissive one widens nothing
    names = [table.name for table in own_tables()]
    loose = await loose_tables(opened, names, own_logs(), form=form, look_for_more=False) if names else []
    noted = functions if form is ScopeForm.SEALED else None  # a revision leaves the functions of a cluster's seal alone
    changed = await code.changed_functions(opened, await code.seal_bodies(opened, form), noted)
    return [
        *(f"row level security of {table} is off" for table in off),
        *(f"row level security of {table} is not forced" for table in unforced),
        *(f"the policy {policy} is missing or changed" for policy in wrong if not policy.startswith("derwin_admin_")),
        *(f"the policy {policy} is not ours: beside a permissive scope it lets rows through" for policy in wider),
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
