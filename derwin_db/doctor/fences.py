"""Logins, policies, grants, keys and functions: does isolation stand?"""

from typing import Any

from sqlmodel import SQLModel

import derwin_db.models  # noqa: F401  # fills SQLModel.metadata
from derwin_db import sql
from derwin_db.connection.facts import Facts, read_facts
from derwin_db.connection.schema import Schema, Standing
from derwin_db.doctor.report import REMAKE, RESTORE, Check, verdict
from derwin_db.isolation.catalog import code, grants, keys, policies
from derwin_db.isolation.catalog.logins import Login, has_own_password, probe_login
from derwin_db.isolation.catalog.own import loose_tables
from derwin_db.isolation.catalog.standing import missing_fences
from derwin_db.isolation.catalog.statistics import value_statistics
from derwin_db.isolation.catalog.stores import SIGNALS, STORES, is_closable, large_objects, open_functions
from derwin_db.isolation.preamble import ADMIN_ROLE, APP_ROLE, LONGEST_PAD, ScopeForm

_LOGINS = "`derwin-db roles create` makes a login that may become derwin_app and nothing else: put that into DATABASE_URL"


_SETTINGS = (
    "`derwin-db roles create --no-passwords` resets what is stored. SQL in a session may have stored it, and the password too: "
    "without --no-passwords it makes new ones"
)


_LEFT_TO_NEWER = "stand; the details of a newer schema are for the `derwin-db doctor` of that version"


async def check_fences(opened: Any, login: str, schema: Schema) -> list[Check]:
    """Check logins, roles and fences, in a transaction whose search_path is pg_catalog.

    On a newer schema than this code's, what is checked at start is checked; the details are left to the code of that schema.
    """
    facts = await read_facts(opened)
    if schema.standing is Standing.COMPATIBLE:
        missing = await missing_fences(opened, facts.scope, functions=schema.functions)
        return [
            *_check_logins(await probe_login(opened, login)),
            await _check_roles(opened),
            verdict("fences", missing, well=_LEFT_TO_NEWER, fix="`derwin-db doctor` of the newer version says"),
        ]
    return [
        *_check_logins(await probe_login(opened, login)),
        await _check_password(opened, login),
        await _check_roles(opened),
        *await _check_policies(opened, facts.scope),
        *await _check_grants(opened, login, facts),
        *await _check_keys(opened),
        *await _check_code(opened, login, facts),
        *_check_seal(facts),
        *(await _check_rotation(opened) if facts.is_sealed else ()),
        *await _check_statistics(opened, facts),
        await _check_dropping(opened),
        await _check_stores(opened, login),
        await _check_signals(opened, login, facts),
    ]


async def _check_statistics(opened: Any, facts: Facts) -> list[Check]:
    return [
        verdict(
            "statistics",
            await value_statistics(opened),
            well="none of values; counts of rows, sizes of tables and pg_stat views tell of all projects together",
            fix="`derwin-db distribute`"
            if facts.is_distributed
            else "as the owner: ALTER TABLE ... ALTER COLUMN ... SET STATISTICS 0; what was gathered before, as a superuser: "
            "DELETE FROM pg_statistic WHERE starelid = 'public...'::regclass, or, from 18 on, pg_clear_attribute_stats",
        )
    ]


_KEEPS = """
SELECT evtenabled = 'A' AND evtevent = 'ddl_command_start' AND evttags = ARRAY['DROP OWNED']
    AND evtfoid IS NOT DISTINCT FROM to_regproc('public.derwin_keep_fences')
FROM pg_event_trigger WHERE evtname = 'derwin_keep_fences'
"""


async def _check_dropping(opened: Any) -> Check:
    is_kept = await opened.fetchval(_KEEPS)
    is_expected = is_kept is not None or await is_closable(opened)
    wrong = (
        ["the event trigger derwin_keep_fences is not as it was made, or not ALWAYS on"] if is_expected and not is_kept else []
    )
    well = "refused" if is_kept else "not refused, for an event trigger needs a superuser; start-up and `doctor` notice it"
    return verdict("drop-owned", wrong, well=f"DROP OWNED of a session's role: {well}", fix=REMAKE)


async def _check_stores(opened: Any, login: str) -> Check:
    stored = await large_objects(opened)
    may_call = await open_functions(opened, login, STORES)
    can_close = await is_closable(opened)
    wrong = [f"{stored} large objects, which units of work of all projects can read and write"] * bool(stored)
    wrong += [f"units of work may call {name}" for name in may_call if can_close]
    well = "are open to all projects, since only a superuser can take their functions from PUBLIC" if may_call else "are closed"
    fix = "SELECT lo_unlink(oid) FROM pg_largeobject_metadata, as a superuser; `derwin-db roles create` closes the functions"
    return verdict("shared-stores", wrong, well=f"no large objects are stored; they {well}", fix=fix)


async def _check_signals(opened: Any, login: str, facts: Facts) -> Check:
    may_call = await open_functions(opened, login, SIGNALS)
    is_closed = facts.is_sealed and await is_closable(opened)
    wrong = [f"units of work may call {name}" for name in may_call if is_closed]
    well = "open to units of all projects, since only a superuser can take them from PUBLIC" if may_call else "closed"
    well = well if facts.is_sealed else "open to units of all projects, as the scope is plain"
    fix = f"{REMAKE}, and closes them; REVOKE what the login itself was granted"
    return verdict("shared-signals", wrong, well=f"signals and advisory locks are {well}", fix=fix)


def _check_logins(login: Login | None) -> list[Check]:
    if login is None:
        return [Check("login-role", ok=False, detail="the login is not in pg_roles", fix=_LOGINS)]
    may_app = APP_ROLE in login.held or login.is_superuser
    named = {
        "login-superuser": ("is no superuser", ["it is a superuser: policies and grants do not bind it"] * login.is_superuser),
        "login-bypassrls": ("does not bypass policies", ["it has BYPASSRLS"] * login.bypasses_policies),
        "login-owner": ("owns nothing here", ["it owns the database, a schema, a table or a function"] * login.is_owner),
        "login-member": (
            "can become no privileged role",
            [f"it can become {role}" for role in login.privileged]
            + ["it may give derwin_app to others, and take it from them"] * login.hands_on,
        ),
        "login-admin": (
            "can't become derwin_admin",
            ["it can become derwin_admin, from inside a project's session too"] * (ADMIN_ROLE in login.held),
        ),
        "login-attributes": ("makes no roles or databases", [f"it has {extra}" for extra in login.extras]),
        "login-inherits": ("is nothing by itself", ["it has the rights of derwin_app without taking it"] * login.inherits),
        "login-settings": (
            "begins its sessions with the server's own settings",
            [f"{setting} is stored for it" for setting in login.settings],
        ),
        "login-role": ("may become derwin_app", ["it may not become derwin_app"] * (not may_app)),
    }
    fixes = {"login-settings": _SETTINGS}
    return [
        verdict(name, wrong, well=f"{login.name} {well}", fix=fixes.get(name, _LOGINS)) for name, (well, wrong) in named.items()
    ]


async def _check_password(opened: Any, login: str) -> Check:
    is_own = await has_own_password(opened, login)
    wrong = [f"{login} has another one than it was given: SQL in a session may have changed it"] * (is_own is False)
    well = "as it was made" if is_own else "not looked at: it was made elsewhere, or DIRECT_URL is no superuser's"
    fix = "`derwin-db roles create` makes new ones; `ALTER ROLE ... PASSWORD` by hand is noticed, too"
    return verdict("login-password", wrong, well=well, fix=fix)


async def _check_roles(opened: Any) -> Check:
    wrong = []
    for name in (APP_ROLE, ADMIN_ROLE):
        role = await probe_login(opened, name)
        if role is None:
            wrong.append(f"{name} is missing")
            continue
        held = [f"{name} can become {other}" for other in role.held]
        flags = {"is a superuser": role.is_superuser, "has BYPASSRLS": role.bypasses_policies, "owns something": role.is_owner}
        wrong += [
            *(f"{name} {what}" for what, is_so in flags.items() if is_so),
            *(f"{name} has {e}" for e in role.extras),
            *(f"{setting} is stored for {name}" for setting in role.settings),
            *held,
        ]
    fix = "as an administrator: ALTER ROLE ... NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION; REVOKE what it holds"
    return verdict("roles", wrong, well="derwin_app and derwin_admin hold nothing but their grants", fix=fix)


async def _check_policies(opened: Any, form: ScopeForm) -> list[Check]:
    off, unforced = await policies.row_security(opened)
    wrong, foreign = await policies.policies(opened, form)
    unfenced = await policies.unfenced_tables(opened, form)
    return [
        verdict("rls-enabled", off, well="on for every table", fix="ALTER TABLE ... ENABLE ROW LEVEL SECURITY"),
        verdict("rls-forced", unforced, well="forced upon the owner", fix="ALTER TABLE ... FORCE ROW LEVEL SECURITY"),
        verdict("policies", wrong, well="as the migrations make them", fix=REMAKE),
        verdict("foreign-policies", foreign, well="none", fix="DROP POLICY, or write down why it is there"),
        verdict(
            "unfenced-tables",
            unfenced,
            well="every table with a project_id is fenced",
            fix="fence it in the revision that makes it: derwin_db.migrations.fence(op, ...)",
        ),
        verdict(
            "own-tables",
            await loose_tables(opened, form=form, look_for_more=True),
            well="those of the service are fenced as ours are",
            fix="a revision of the service: derwin_db.migrations.unfence and fence; REVOKE what is not ours",
        ),
    ]


async def _check_grants(opened: Any, login: str, facts: Facts) -> list[Check]:
    extra, missing = await grants.grants(opened)
    if not facts.has_vector_grant:
        missing = [*missing, f"USAGE on the schema {facts.vector_schema}, where pgvector is, to {APP_ROLE}"]
    outer = await grants.outer_grants(opened, login)
    seal = await grants.function_grants(opened)
    return [
        verdict("grants", extra, well="none beyond ours", fix="REVOKE it"),
        verdict("grants-missing", missing, well="all are there", fix=REMAKE),
        verdict(
            "outer-grants", outer, well="no temporary tables, nothing to create",
            fix="REVOKE TEMPORARY ON DATABASE ... FROM PUBLIC; REVOKE CREATE ... FROM the role",
        ),
        verdict("seal-grants", seal, well="the key and the seal are closed", fix="REVOKE it, then `derwin-db roles rotate`"),
    ]  # fmt: skip


async def _check_keys(opened: Any) -> list[Check]:
    constraints, references = expected_keys()
    return [
        verdict("keys", await keys.keys(opened, constraints), well="project_id comes first in every one", fix=RESTORE),
        verdict("foreign-keys", await keys.foreign_keys(opened, references), well="all bind the project", fix=RESTORE),
        verdict("indexes", await keys.invalid_indexes(opened), well="all are valid", fix="REINDEX INDEX CONCURRENTLY"),
    ]


def expected_keys() -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Return (table, name) of the primary keys and unique constraints, and of the foreign keys, that the models have."""
    unique: set[tuple[str, str]] = set()
    references: set[tuple[str, str]] = set()
    for name in sql.PROJECT_TABLES:
        table = SQLModel.metadata.tables[f"public.{name}"]
        references.update((name, str(key.name)) for key in table.foreign_key_constraints)
        unique.update((name, str(item.name)) for item in table.indexes if item.unique)
        unique.update(
            (name, str(item.name))
            for item in table.constraints
            if type(item).__name__ in ("PrimaryKeyConstraint", "UniqueConstraint")
        )
    return unique, references


async def _check_code(opened: Any, login: str, facts: Facts) -> list[Check]:
    expected = {
        **code.guard_bodies(is_distributed=facts.is_distributed),
        **await code.seal_bodies(opened, facts.scope),
        **(code.ending_bodies() if facts.is_sealed else {}),
        **await code.search_bodies(opened),
    }
    changed = await code.changed_functions(opened, expected)
    definers = await code.definer_functions(opened, login)
    views = await code.open_views(opened)
    return [
        verdict(
            "triggers",
            await code.triggers(opened, is_distributed=facts.is_distributed),
            well="all in place, ALWAYS",
            fix="ALTER TABLE ... ENABLE ALWAYS TRIGGER ...",
        ),
        verdict("functions", changed, well="as the migrations make them", fix=RESTORE),
        verdict("definer-functions", definers, well="none but ours", fix="REVOKE EXECUTE, or make them SECURITY INVOKER"),
        verdict("views", views, well="none reads with its owner's rights", fix="ALTER VIEW ... SET (security_invoker = true)"),
    ]


def _check_seal(facts: Facts) -> list[Check]:
    size = facts.activity_query_size
    plain = [] if facts.is_sealed else ["SQL in a session can set another project"]
    large = [f"it is {size}"] if facts.is_sealed and size > LONGEST_PAD else []
    return [
        verdict(
            "scope-sealed", plain, well="the scope is sealed",
            fix="`derwin-db distribute`, then start the services anew" if facts.is_distributed else RESTORE,
        ),
        verdict(
            "activity-size", large, well=f"track_activity_query_size is {size}: the opening of a unit hides its token",
            fix=f"at {LONGEST_PAD} or below, a unit of work opens with one round trip less",
        ),
    ]  # fmt: skip


_ROTATION = """
SELECT former_inner_pad IS NOT NULL AS is_under_way, rotated_at < now() - interval '1 day' AS is_old FROM derwin.scope_key
"""


async def _check_rotation(opened: Any) -> list[Check]:
    """Check that no rotation of the key was forgotten. Looked at with the owner's login alone: another may not read the key."""
    may_read = "SELECT has_schema_privilege('derwin', 'USAGE') AND has_table_privilege('derwin.scope_key', 'SELECT')"
    if not await opened.fetchval(may_read):
        return [Check("scope-key", ok=True, detail="not looked at: that takes the owner's login")]
    seen = await opened.fetchrow(_ROTATION)
    is_forgotten = seen["is_under_way"] and seen["is_old"]
    return [
        verdict(
            "scope-key",
            ["a rotation was started more than a day ago, and the former key is good still"] * is_forgotten,
            well="a rotation is under way: two keys are taken" if seen["is_under_way"] else "one key is taken",
            fix="`derwin-db roles rotate --finish`, as the owner",
        )
    ]
