"""What a distributed server does not take, none of the repositories sends: read off the statements themselves."""

import asyncpg
import pytest

from derwin_db import Database
from derwin_db.testing import TestDatabase
from tests.contract.verbs import SHARED, public_verbs
from tests.repos.filling import REPOSITORIES
from tests.scale.recording import Sent, record_all
from tests.scale.rules import (
    chooses_by_function,
    forbidden,
    inserts_from_arrays_alone,
    reads_in_values,
    returns_without_conflict,
    unbound,
    upserted_by_function,
    volatile,
)

OVER_ALL_PROJECTS = {
    "spend_ledger.totals_by_project",
    "audit_artifacts.expired_by_project",
    "audit_artifacts.prune_expired of all projects",
}
"""The admin door's own: sums, counts, and one batch of the sweep. `Database.prune` goes project by project."""


@pytest.fixture(scope="module")
async def sent(migrated: TestDatabase) -> list[Sent]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with Database(**migrated.urls) as db:
            return await record_all(db, monkeypatch)


@pytest.fixture(scope="module")
async def volatile_functions(migrated: TestDatabase) -> set[str]:
    connection = await asyncpg.connect(**migrated.owner.connect_arguments())
    try:
        rows = await connection.fetch("SELECT DISTINCT proname FROM pg_proc WHERE provolatile = 'v'")
    finally:
        await connection.close()
    return {row["proname"] for row in rows}


@pytest.fixture(scope="module")
async def changing_functions(migrated: TestDatabase) -> set[str]:
    connection = await asyncpg.connect(**migrated.owner.connect_arguments())
    try:
        rows = await connection.fetch("SELECT proname FROM pg_proc GROUP BY 1 HAVING bool_and(provolatile <> 'i')")
    finally:
        await connection.close()
    return {row["proname"] for row in rows}


class TestRecord:
    def test_holds_every_verb(self, sent: list[Sent]) -> None:
        heard = {one.verb.split()[0] for one in sent}
        shared = {f"{table}.{read}" for table in REPOSITORIES for read in SHARED}
        assert {verb for verb in public_verbs() if verb not in heard and verb not in shared} == set()
        assert {one.verb for one in sent if one.verb.endswith(" reads")} == {f"{table} reads" for table in REPOSITORIES}
        assert len({one.sql for one in sent}) > 200
        assert {one.is_admin for one in sent} == {True, False}


class TestRules:
    def test_nothing_that_is_forbidden_everywhere(self, sent: list[Sent]) -> None:
        assert {one.verb: found for one in sent if (found := forbidden(one.text))} == {}

    def test_no_volatile_function_where_a_row_is_changed_or_returned(
        self, sent: list[Sent], volatile_functions: set[str]
    ) -> None:
        assert {"random", "clock_timestamp", "nextval"} <= volatile_functions
        assert {one.verb: found for one in sent if (found := volatile(one.text, volatile_functions))} == {}

    def test_no_function_in_an_upsert(self, sent: list[Sent]) -> None:
        assert {one.verb: found for one in sent if (found := upserted_by_function(one.text))} == {}

    def test_no_subquery_among_values(self, sent: list[Sent]) -> None:
        assert {one.verb for one in sent if reads_in_values(one.text)} == set()

    def test_an_insert_from_a_select_that_returns_rows_says_what_a_conflict_does(self, sent: list[Sent]) -> None:
        assert {one.verb for one in sent if returns_without_conflict(one.text)} == set()

    def test_rows_from_arrays_stand_beside_a_row_of_the_project(self, sent: list[Sent]) -> None:
        assert {one.verb for one in sent if inserts_from_arrays_alone(one.text)} == set()

    def test_no_function_that_changes_in_what_an_update_chooses(self, sent: list[Sent], changing_functions: set[str]) -> None:
        assert {one.verb: found for one in sent if (found := chooses_by_function(one.text, changing_functions))} == {}

    def test_every_table_is_bound_to_the_project(self, sent: list[Sent]) -> None:
        assert {one.verb: (one.sql, found) for one in sent if not one.is_admin and (found := unbound(one.text))} == {}

    def test_of_the_admin_door_only_those_that_are_named_go_over_all_projects(self, sent: list[Sent]) -> None:
        assert {one.verb for one in sent if one.is_admin and unbound(one.text)} == OVER_ALL_PROJECTS


class TestRulesBite:
    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT set_config('derwin.project_id', $1, true)",
            "SELECT pg_try_advisory_xact_lock(1)",
            "MERGE INTO public.qa_tickets AS t USING given AS g ON t.id = g.id WHEN MATCHED THEN DELETE",
            "LOCK TABLE public.projects",
            "SET statement_timeout = 0",
            "SELECT nextval('s')",
        ],
    )
    def test_forbidden(self, sql: str) -> None:
        assert forbidden(sql)

    def test_set_local_is_allowed(self) -> None:
        assert not forbidden("SET LOCAL hnsw.ef_search = 100; SET LOCAL plan_cache_mode = force_custom_plan")

    @pytest.mark.parametrize(
        "sql",
        [
            "UPDATE public.qa_runs SET started_at=clock_timestamp() WHERE public.qa_runs.project_id = $1",
            "WITH a AS (UPDATE public.qa_runs SET x=random() WHERE true RETURNING id) SELECT 1 FROM a",
            "INSERT INTO public.policies (project_id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET id = gen_random_uuid()",
            "INSERT INTO public.policies (project_id) VALUES ($1) RETURNING clock_timestamp()",
        ],
    )
    def test_volatile(self, sql: str, volatile_functions: set[str]) -> None:
        assert volatile(sql, volatile_functions)

    def test_values(self) -> None:
        insert = "INSERT INTO public.policies (project_id, version) VALUES ($1, {0})"
        assert reads_in_values(insert.format("(SELECT max(version) FROM public.policies) + 1"))
        assert not reads_in_values(insert.format("$2"))

    def test_returned(self) -> None:
        insert = "INSERT INTO public.qa_runs (project_id, id) SELECT public.projects.id, $2 FROM public.projects WHERE true{0}"
        assert returns_without_conflict(insert.format(" RETURNING id"))
        assert not returns_without_conflict(insert.format(" ON CONFLICT (project_id, id) DO NOTHING RETURNING id"))
        assert not returns_without_conflict(insert.format(""))

    def test_arrays(self) -> None:
        insert = "INSERT INTO public.qa_tickets (project_id, id) {0}"
        assert inserts_from_arrays_alone(insert.format("SELECT $1, given.id FROM unnest($2) AS given(id)"))
        locked = "WITH p AS (SELECT 1 FROM public.projects FOR UPDATE) SELECT $1, g.id FROM p JOIN unnest($2) AS g(id) ON true"
        assert inserts_from_arrays_alone(insert.format(locked))
        joined = "SELECT public.projects.id, g.id FROM public.projects JOIN unnest($2) AS g(id) ON true"
        assert not inserts_from_arrays_alone(insert.format(joined))

    def test_chosen(self, changing_functions: set[str]) -> None:
        update = "UPDATE public.projects SET updated_at=now(), archived_at={0} WHERE public.projects.id = $1"
        assert chooses_by_function(update.format("coalesce(archived_at, now())"), changing_functions) == {"now"}
        assert not chooses_by_function(update.format("now()"), changing_functions)
        assert not chooses_by_function(update.format("coalesce(archived_at, $2)"), changing_functions)

    def test_upserted(self) -> None:
        upsert = "INSERT INTO public.policies (project_id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET"
        assert upserted_by_function(f"{upsert} updated_at = now() RETURNING id") == ["now"]
        assert not upserted_by_function(f"{upsert} updated_at = excluded.updated_at WHERE lower(x) = 'a' RETURNING id")

    @pytest.mark.parametrize(
        ("sql", "tables"),
        [
            ("SELECT 1 FROM public.qa_runs WHERE public.qa_runs.id = $1", ["qa_runs"]),
            ("SELECT 1 FROM public.qa_runs AS r WHERE r.project_id = $1", []),
            ("SELECT 1 FROM public.qa_runs AS r JOIN public.qa_tickets ON true WHERE r.project_id = $1", ["qa_tickets"]),
            ("DELETE FROM public.qa_runs WHERE public.qa_runs.project_id IN (SELECT 1)", ["qa_runs"]),
            ("UPDATE public.projects SET name=$1 WHERE public.projects.slug = $2", ["projects"]),
            ("INSERT INTO public.qa_runs (id) VALUES ($1)", ["INSERT INTO qa_runs"]),
            ("INSERT INTO public.qa_runs (project_id, id) VALUES ($1, $2)", []),
        ],
    )
    def test_unbound(self, sql: str, tables: list[str]) -> None:
        assert unbound(sql) == tables
