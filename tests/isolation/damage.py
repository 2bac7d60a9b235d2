"""Mutations of the database (family 24): each fence taken down or widened, one at a time, and which check must say so.

They are made from the models: every table, key, index, grant and trigger. Each runs as the owner, in a transaction that is
rolled back, and `doctor` looks from inside of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from derwin_db import sql
from derwin_db.errors import APPEND_ONLY_TABLES
from derwin_db.isolation.catalog.code import expected_triggers
from derwin_db.isolation.catalog.forms import expected_forms
from derwin_db.isolation.catalog.tables import TABLES
from derwin_db.query.builders import table_of
from derwin_db.testing.filling import models_by_table


@dataclass(frozen=True)
class Damage:
    """One fence that is down: statements of the owner, and the name of the check that has to find it.

    `{service}` is the service's login. `at_start`: whether a service has to refuse to start on it.
    """

    name: str
    statements: tuple[str, ...]
    check: str
    at_start: bool = False


def all_damage(server_version: int) -> Iterator[Damage]:
    """Yield all of it, as far as this server knows the words."""
    yield from policy_damage()
    yield from key_damage()
    yield from grant_damage(has_maintain=server_version >= 170000)
    yield from trigger_damage()
    yield from code_damage()
    yield from quiet_damage()
    yield from login_damage(has_options=server_version >= 160000)


def policy_damage() -> Iterator[Damage]:
    for table in TABLES:
        on, scope = f"ON public.{table}", "id" if table == "projects" else "project_id"
        condition = f"{scope} = (SELECT public.derwin_scope())"
        drop = f"DROP POLICY derwin_scope {on}"
        forms = {
            "dropped": (drop,),
            "permissive": (drop, f"CREATE POLICY derwin_scope {on} TO derwin_app USING ({condition}) WITH CHECK ({condition})"),
            "open to reads": (f"ALTER POLICY derwin_scope {on} USING (true)",),
            "open to writes": (f"ALTER POLICY derwin_scope {on} WITH CHECK (true)",),
            "open by an OR": (f"ALTER POLICY derwin_scope {on} USING ({condition} OR created_at < now())",),
            "for reads alone": (
                drop,
                f"CREATE POLICY derwin_scope {on} AS RESTRICTIVE FOR SELECT TO derwin_app USING ({condition})",
            ),
            "for another role": (f"ALTER POLICY derwin_scope {on} TO derwin_backfill",),
            "plain": (f"ALTER POLICY derwin_scope {on} USING ({scope}::text = current_setting('derwin.project_id', true))",),
        }
        for form, statements in forms.items():
            yield Damage(f"the policy of {table} is {form}", statements, "policies", at_start=True)
        yield Damage(
            f"row level security of {table} is off",
            (f"ALTER TABLE public.{table} DISABLE ROW LEVEL SECURITY",),
            "rls-enabled",
            True,
        )
        yield Damage(f"{table} has a policy that somebody added", (f"CREATE POLICY spy {on} USING (true)",), "foreign-policies")
        if table != "projects":
            yield Damage(
                f"{table} is not forced", (f"ALTER TABLE public.{table} NO FORCE ROW LEVEL SECURITY",), "rls-forced", True
            )


def key_damage() -> Iterator[Damage]:
    for name in sql.PROJECT_TABLES:
        table = table_of(models_by_table()[name])
        on = f"ALTER TABLE public.{name}"
        for form, columns in (("without the project", "id"), ("with the project last", "id, project_id")):
            primary = f"pk_{name}"
            yield Damage(
                f"{primary} is {form}",
                (f"{on} DROP CONSTRAINT {primary} CASCADE", f"{on} ADD CONSTRAINT {primary} PRIMARY KEY ({columns})"),
                "keys",
            )
        for constraint in _sorted(table.constraints, sa.UniqueConstraint):
            rest = [column.name for column in constraint.columns if column.name != "project_id"]
            for form, columns in (("without the project", rest), ("with the project last", [*rest, "project_id"])):
                if rest:
                    name_again = f"ADD CONSTRAINT {constraint.name} UNIQUE ({', '.join(columns)})"
                    change = f"{on} DROP CONSTRAINT {constraint.name}, {name_again}"
                    yield Damage(f"{constraint.name} is {form}", (change,), "keys")
            yield Damage(f"{constraint.name} is gone", (f"{on} DROP CONSTRAINT {constraint.name}",), "keys")
        for key in _sorted(table.constraints, sa.ForeignKeyConstraint):
            yield Damage(f"{key.name} is gone", (f"{on} DROP CONSTRAINT {key.name}",), "foreign-keys")
            its = f"tgconstraint = (SELECT f.oid FROM pg_constraint f WHERE f.conname = '{key.name}')"
            off = f"UPDATE pg_trigger SET tgenabled = 'D' WHERE {its}"
            yield Damage(f"{key.name} is not looked at", (off,), "foreign-keys")
            yield from _single(key, on)
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            yield from _index_damage(index, name)


def _sorted(constraints: Any, kind: type[Any]) -> list[Any]:
    return sorted((one for one in constraints if type(one) is kind), key=lambda one: str(one.name))


def _single(key: sa.ForeignKeyConstraint, on: str) -> Iterator[Damage]:
    """A foreign key over the id alone, for which the parent gets a unique index."""
    target = key.referred_table.name
    if target == "projects":
        return
    column = next(element.parent.name for element in key.elements if element.parent.name != "project_id")
    statements = (
        f"CREATE UNIQUE INDEX spy ON public.{target} (id)",
        f"{on} DROP CONSTRAINT {key.name}, ADD CONSTRAINT {key.name} FOREIGN KEY ({column}) REFERENCES public.{target} (id)",
    )
    yield Damage(f"{key.name} is over {column} alone", statements, "foreign-keys")


def _index_damage(index: sa.Index, table: str) -> Iterator[Damage]:
    parts = [str(getattr(expression, "name", expression)) for expression in index.expressions]
    rest = [part for part in parts if part != "project_id"]
    where = index.dialect_options["postgresql"].get("where")
    tail = f" WHERE {where}" if where is not None else ""
    if rest:
        statements = (
            f"DROP INDEX public.{index.name}",
            f"CREATE {'UNIQUE ' if index.unique else ''}INDEX {index.name} ON public.{table} ({', '.join(rest)}){tail}",
        )
        yield Damage(f"{index.name} is without the project", statements, "keys")
    broken = f"UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indexrelid = 'public.{index.name}'::regclass"
    yield Damage(f"{index.name} is invalid", (broken,), "indexes")


def grant_damage(*, has_maintain: bool) -> Iterator[Damage]:
    for table in TABLES:
        for privilege in ("TRUNCATE", "REFERENCES", "TRIGGER", *(["MAINTAIN"] if has_maintain else [])):
            yield Damage(
                f"derwin_app may {privilege} {table}", (f"GRANT {privilege} ON public.{table} TO derwin_app",), "grants"
            )
        yield Damage(f"everybody may read {table}", (f"GRANT SELECT ON public.{table} TO PUBLIC",), "grants")
        yield Damage(f"the login itself may read {table}", (f"GRANT SELECT ON public.{table} TO {{service}}",), "grants")
        yield Damage(
            f"derwin_app may not read {table}", (f"REVOKE SELECT ON public.{table} FROM derwin_app",), "grants-missing"
        )
    for table in APPEND_ONLY_TABLES:
        for privilege in ("UPDATE", "DELETE"):
            yield Damage(
                f"derwin_app may {privilege} {table}", (f"GRANT {privilege} ON public.{table} TO derwin_app",), "grants"
            )
        yield Damage(
            f"derwin_app may update a column of {table}",
            (f"GRANT UPDATE (created_at) ON public.{table} TO derwin_app",),
            "grants",
        )
    for what in (
        "INSERT ON public.projects", "DELETE ON public.projects", "UPDATE ON public.projects",
        "UPDATE (slug) ON public.projects",
        "DELETE ON public.policies", "UPDATE ON public.policies", "UPDATE (retention_until) ON public.audit_artifacts",
        "UPDATE ON public.derwin_alembic_version",
    ):  # fmt: skip
        yield Damage(f"derwin_app has {what}", (f"GRANT {what} TO derwin_app",), "grants")
    for what in ("SELECT ON public.qa_tickets", "UPDATE (slug) ON public.projects", "DELETE ON public.spend_ledger",
                 "SELECT (details) ON public.spend_ledger"):  # fmt: skip
        yield Damage(f"derwin_admin has {what}", (f"GRANT {what} TO derwin_admin",), "grants")
    for whom in ("PUBLIC", "derwin_app", "{service}"):
        yield Damage(
            f"{whom} may make temporary tables", (f"GRANT TEMPORARY ON DATABASE {{database}} TO {whom}",), "outer-grants"
        )
        yield Damage(f"{whom} may create in the schema public", (f"GRANT CREATE ON SCHEMA public TO {whom}",), "outer-grants")
        yield Damage(f"{whom} may create schemas", (f"GRANT CREATE ON DATABASE {{database}} TO {whom}",), "outer-grants")
        yield Damage(f"{whom} may use the schema of the key", (f"GRANT USAGE ON SCHEMA derwin TO {whom}",), "outer-grants")
        yield Damage(f"{whom} may read the key", (f"GRANT SELECT ON derwin.scope_key TO {whom}",), "seal-grants")
        yield Damage(f"{whom} may read the queue", (f"GRANT SELECT ON derwin.open_runs TO {whom}",), "seal-grants")
    for whom in ("PUBLIC", "derwin_admin", "{service}"):
        yield Damage(
            f"{whom} may ask which projects wait",
            (f"GRANT EXECUTE ON FUNCTION public.derwin_waiting(text, uuid, integer, integer) TO {whom}",),
            "seal-grants",
        )
        yield Damage(
            f"{whom} may open scopes", (f"GRANT EXECUTE ON FUNCTION public.derwin_open(text) TO {whom}",), "seal-grants"
        )
    ends = "GRANT EXECUTE ON FUNCTION public.derwin_end_process(integer, timestamptz, text) TO"
    for whom in ("PUBLIC", "{service}"):
        yield Damage(f"{whom} may end processes", (f"{ends} {whom}",), "seal-grants")


def trigger_damage() -> Iterator[Damage]:
    for table, name in sorted(expected_triggers(is_distributed=False)):
        on = f"ALTER TABLE public.{table}"
        yield Damage(f"{name} of {table} is gone", (f"DROP TRIGGER {name} ON public.{table}",), "triggers")
        yield Damage(f"{name} of {table} is disabled", (f"{on} DISABLE TRIGGER {name}",), "triggers")
        yield Damage(f"{name} of {table} is not ALWAYS", (f"{on} ENABLE TRIGGER {name}",), "triggers")
        yield Damage(f"{name} of {table} is for replicas", (f"{on} ENABLE REPLICA TRIGGER {name}",), "triggers")
        again = f"CREATE TRIGGER {name} BEFORE UPDATE ON public.{table} FOR EACH ROW"
        always = f"{on} ENABLE ALWAYS TRIGGER {name}"
        drop, function = f"DROP TRIGGER {name} ON public.{table}", expected_forms()[table, name].function
        is_called = f"EXECUTE FUNCTION public.{function}()"
        yield Damage(f"{name} of {table} fires for nothing", (drop, f"{again} WHEN (false) {is_called}", always), "triggers")
    for table in TABLES:
        statement = f"CREATE RULE spy AS ON DELETE TO public.{table} DO INSTEAD NOTHING"
        yield Damage(f"{table} has a rule", (statement,), "triggers")
        spying = f"CREATE TRIGGER spy AFTER INSERT ON public.{table} FOR EACH ROW EXECUTE FUNCTION public.spy()"
        function = "CREATE FUNCTION public.spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        yield Damage(f"{table} has a trigger that somebody added", (function, spying), "triggers")


def code_damage() -> Iterator[Damage]:
    replace, seal = (
        "CREATE OR REPLACE FUNCTION public",
        "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp",
    )
    trigger = "LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN OLD; END $$"
    noting = "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN NULL; END $$"
    told = (
        f"{replace}.derwin_scope() RETURNS uuid {seal} AS "
        "$$ BEGIN RETURN left(current_setting('derwin.project_id'), 36); END $$"
    )
    opens = (
        f"{replace}.derwin_open(token text) RETURNS void {seal} AS "
        "$$ BEGIN PERFORM set_config('derwin.project_id', token, true); END $$"
    )
    yield Damage("derwin_scope() believes what it is told", (told,), "functions", at_start=True)
    yield Damage("derwin_open() opens whatever is asked", (opens,), "functions", at_start=True)
    for name in ("derwin_scope()", "derwin_open(text)"):
        reset = f"ALTER FUNCTION public.{name} SET search_path = public"
        yield Damage(f"{name} looks names up in public", (reset,), "functions", at_start=True)
        yield Damage(
            f"{name} runs as the caller", (f"ALTER FUNCTION public.{name} SECURITY INVOKER",), "functions", at_start=True
        )
    guards = ("refuse_change", "keep_evidence", "stamp_evidence", "stamp_log", "check_mode_log", "check_mode", "check_ledger",
              "check_profile_log")  # fmt: skip
    for name in (f"derwin_{guard}" for guard in guards):
        yield Damage(f"{name}() lets everything pass", (f"{replace}.{name}() RETURNS trigger {trigger}",), "functions")
    told = f"{replace}.derwin_check_asker(token text) RETURNS void LANGUAGE plpgsql STABLE PARALLEL RESTRICTED"
    lets = f"{told} SET search_path = pg_catalog, pg_temp AS $$ BEGIN END $$"
    yield Damage("derwin_check_asker() lets everybody ask", (lets,), "functions")
    for name in ("derwin_waiting(text, uuid, integer, integer)", "derwin_stalled(text, interval)", "derwin_note_open_run()"):
        reset = f"ALTER FUNCTION public.{name} SET search_path = public"
        yield Damage(f"{name} looks names up in public", (reset,), "functions")
    yield Damage(
        "derwin_note_open_run() notes nothing", (f"{replace}.derwin_note_open_run() RETURNS trigger {noting}",), "functions"
    )
    definer = (
        "CREATE FUNCTION public.spy() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.qa_tickets'"
    )
    yield Damage("a SECURITY DEFINER function counts tickets", (definer,), "definer-functions")
    yield Damage("a session may drop its own fences", ("DROP EVENT TRIGGER derwin_keep_fences",
        "CREATE EVENT TRIGGER derwin_keep_fences ON ddl_command_start EXECUTE FUNCTION public.derwin_keep_fences()"),
        "drop-owned")  # fmt: skip
    yield Damage("nobody keeps the fences", ("DROP EVENT TRIGGER derwin_keep_fences",), "drop-owned")
    for whom in ("PUBLIC", "derwin_app", "{service}"):
        for call, check in {"lo_create(oid)": "shared-stores", "pg_terminate_backend(int, bigint)": "shared-signals",
                            "pg_try_advisory_lock(bigint)": "shared-signals"}.items():  # fmt: skip
            yield Damage(f"{whom} may call {call}", (f"GRANT EXECUTE ON FUNCTION pg_catalog.{call} TO {whom}",), check)
    ends = "derwin_end_process(process integer, started timestamptz, mac text) RETURNS boolean"
    yield Damage("derwin_end_process() asks for no key", (
        f"{replace}.{ends} {seal} AS $$ BEGIN RETURN pg_terminate_backend(process); END $$",), "functions")  # fmt: skip
    yield Damage("a large object is stored", ("SELECT lo_create(0)",), "shared-stores")
    for table in TABLES:
        gathered = f"ALTER TABLE public.{table} ALTER COLUMN id SET STATISTICS 10"
        yield Damage(f"statistics of {table} are gathered", (gathered,), "statistics")
        view = f"CREATE VIEW public.spy AS SELECT * FROM public.{table}"
        yield Damage(f"a view of {table} reads as its owner", (view,), "views")
        nested = "CREATE VIEW public.spy2 WITH (security_invoker = true) AS SELECT * FROM public.spy"
        yield Damage(f"a view of {table} reads as its owner, behind another", (view, nested), "views")
        yield Damage(f"a materialized view copies {table}", (view.replace("VIEW", "MATERIALIZED VIEW", 1),), "views")
    fifteenth = "CREATE TABLE public.spy (project_id uuid, id uuid, PRIMARY KEY (project_id, id))"
    fence = "ALTER TABLE public.spy ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
    policy = "CREATE POLICY spy ON public.spy USING (project_id = (SELECT public.derwin_scope()))"
    parent = "CREATE TABLE public.spy (project_id uuid, id uuid) PARTITION BY HASH (project_id)"
    restrictive = policy.replace("USING", "AS RESTRICTIVE TO derwin_app USING")
    part = "CREATE TABLE public.spy_0 PARTITION OF public.spy FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
    yield Damage("a table is not fenced", (fifteenth,), "unfenced-tables")
    yield Damage(
        "a table in another schema is not fenced",
        ("CREATE SCHEMA spies", fifteenth.replace("public.spy", "spies.spy")),
        "unfenced-tables",
    )
    yield Damage("a table has a permissive policy alone", (fifteenth, fence, policy), "unfenced-tables")
    yield Damage(
        "a table is fenced, but not forced",
        (fifteenth, fence.replace(", FORCE ROW LEVEL SECURITY", ""), restrictive),
        "unfenced-tables",
    )
    yield Damage("a partition is not fenced", (parent, fence, restrictive, part), "unfenced-tables")


def quiet_damage() -> Iterator[Damage]:
    """What looks as if all stood: the names are there, and something else behind them."""
    for form, change in {"is computed once for all": "IMMUTABLE", "is called before the policies": "LEAKPROOF"}.items():
        changed = f"ALTER FUNCTION public.derwin_scope() {change}"
        yield Damage(f"derwin_scope() {form}", (changed,), "functions", at_start=True)
    drop, always = "DROP EVENT TRIGGER derwin_keep_fences", "ALTER EVENT TRIGGER derwin_keep_fences ENABLE ALWAYS"
    spy = "CREATE FUNCTION public.spy() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'"
    keeping = "CREATE EVENT TRIGGER derwin_keep_fences ON ddl_command_start WHEN TAG IN ('{}') EXECUTE FUNCTION public.{}()"
    for form, tag, function in (
        ("by another function", "DROP OWNED", "spy"),
        ("from another statement", "DROP TABLE", "derwin_keep_fences"),
    ):
        yield Damage(f"the fences are kept {form}", (spy, drop, keeping.format(tag, function), always), "drop-owned")
    drop, made = "DROP TRIGGER derwin_keep_evidence_row ON public.audit_artifacts", "BEFORE UPDATE OR DELETE"
    keeping = f"CREATE TRIGGER derwin_keep_evidence_row {made} ON public.audit_artifacts FOR EACH ROW"
    always = "ALTER TABLE public.audit_artifacts ENABLE ALWAYS TRIGGER derwin_keep_evidence_row"
    calling = f"{keeping} EXECUTE FUNCTION public.derwin_stamp_log()"
    yield Damage("another function keeps evidence", (drop, calling, always), "triggers")
    yield Damage("no foreign key is looked at here", ("SET LOCAL session_replication_role = replica",), "triggers")
    vector = "rag_corpus USING hnsw (embedding public.vector_cosine_ops)"
    for over in (
        "projects (slug)",
        "projects ((slug || name))",
        "qa_tickets USING hash (title)",
        "qa_tickets USING gin (words)",
        vector,
    ):
        yield Damage(f"an index answers for all projects: {over}", (f"CREATE INDEX spy ON public.{over}",), "keys")
    above = ("CREATE TABLE public.spy (id uuid NOT NULL)", "ALTER TABLE public.qa_tickets INHERIT public.spy")
    yield Damage("a table is read through another one", above, "unfenced-tables")
    made = ("CREATE SCHEMA spies", "GRANT CREATE ON SCHEMA spies TO derwin_app")
    yield Damage("derwin_app may create in a schema", made, "outer-grants")
    handing_on = "GRANT derwin_app TO {service} WITH ADMIN OPTION"
    yield Damage("the service's login may hand its role on", (handing_on,), "login-member")


def login_damage(*, has_options: bool) -> Iterator[Damage]:
    for name, check in {"SUPERUSER": "login-superuser", "BYPASSRLS": "login-bypassrls", "CREATEROLE": "login-attributes",
                        "REPLICATION": "login-attributes", "CREATEDB": "login-attributes"}.items():  # fmt: skip
        yield Damage(f"the service's login has {name}", (f"ALTER ROLE {{service}} {name}",), check)
        for role in ("derwin_app", "derwin_admin"):
            yield Damage(
                f"{role} has {name}",
                (f"ALTER ROLE {role} {name}",),
                "roles",
                at_start=role == "derwin_app" and name in ("SUPERUSER", "BYPASSRLS"),
            )
    for password in ("'chosen'", "NULL"):
        changed = f"ALTER ROLE {{service}} PASSWORD {password}"
        noted = "COMMENT ON ROLE {service} IS 'derwin-db: password 0123456789abcdef'"
        yield Damage(f"the service's login has another password: {password}", (noted, changed), "login-password")
    yield Damage("the service's login may become derwin_admin", ("GRANT derwin_admin TO {service}",), "login-admin")
    yield Damage(
        "the service's login may become the owner",
        ("CREATE ROLE spy", "ALTER TABLE public.projects OWNER TO spy", "GRANT spy TO {service}"),
        "login-member",
    )
    yield Damage(
        "the service's login may become one who bypasses",
        ("CREATE ROLE spy BYPASSRLS", "CREATE ROLE spy2", "GRANT spy TO spy2", "GRANT spy2 TO {service}"),
        "login-member",
    )
    yield Damage("the service's login may read all data", ("GRANT pg_read_all_data TO {service}",), "login-member")
    yield Damage("the service's login sees all statements", ("GRANT pg_monitor TO {service}",), "login-member")
    yield Damage("the service's login owns a table", ("ALTER TABLE public.qa_tickets OWNER TO {service}",), "login-owner")
    yield Damage("the service's login owns the database", ("ALTER DATABASE {database} OWNER TO {service}",), "login-owner")
    yield Damage(
        "the service's login owns the seal", ("ALTER FUNCTION public.derwin_scope() OWNER TO {service}",), "login-owner"
    )
    yield Damage(
        "the service's login inherits",
        ("ALTER ROLE {service} INHERIT", "GRANT derwin_app TO {service}" + " WITH INHERIT TRUE" * has_options),
        "login-inherits",
    )
    for whom, check in (("{service}", "login-settings"), ("derwin_app", "roles"), ("derwin_admin", "roles")):
        for where in ("", " IN DATABASE {database}"):
            setting = f"ALTER ROLE {whom}{where} SET synchronous_commit = off"
            yield Damage(f"a setting is stored for {whom}{where}", (setting,), check)
    yield Damage(
        "the service's login may hand its role on", ("GRANT derwin_app TO {service} WITH ADMIN OPTION",), "login-member"
    )
    yield Damage("the service's login may become nothing", ("REVOKE derwin_app FROM {service}",), "login-role")
    yield Damage("derwin_app can become derwin_admin", ("GRANT derwin_admin TO derwin_app",), "roles")
    yield Damage("derwin_app owns a table", ("ALTER TABLE public.qa_tickets OWNER TO derwin_app",), "roles")
    yield Damage("the seal is gone", ("DROP FUNCTION public.derwin_open(text)",), "scope-sealed")
