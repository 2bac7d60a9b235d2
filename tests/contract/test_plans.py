"""Every statement of every repository, EXPLAINed on a filled database under the policies: an index, and no sequential scan.

The statements are those that calls send: nothing is listed by hand but how to call a verb (verbs.py).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, get_args, get_type_hints
from uuid import UUID

import pytest
import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.filters import IS_NULL, not_
from derwin_db.query.statement import Statement
from derwin_db.repos.conditions import Order, column_of
from derwin_db.sql import PROJECT_TABLES
from derwin_db.testing import TestDatabase, TestServer
from tests.contract.bulk import LARGE, MIDDLE, fill
from tests.contract.verbs import PROJECT_CALLS, SINCE, UNTIL, Call
from tests.repos.filling import REPOSITORIES
from tests.repos.test_projects import a_project


class Sent(NamedTuple):
    """What a session hands to the driver: of a statement that reads, both its forms."""

    name: str
    sql: str
    arguments: list[Any]

    @classmethod
    def of(cls, statement: Statement[Any], arguments: list[Any]) -> "Sent":
        return cls(statement.name, statement.sql, arguments)


NOW = datetime.now(UTC)
ITS_PROJECT = object()
"""Stands in recorded arguments for the project: a statement is looked at for projects of several sizes."""


SELECTIVE = [
    (table, column)
    for table, repo in REPOSITORIES.items()
    for column in get_type_hints(repo.filters)
    if column in repo.model.__table__.c and not isinstance(repo.model.__table__.c[column].type, sa.Enum)
]
"""Filters by what few rows have in common, each with an index of its own: references, fingerprints, classifications."""


BOUNDED = [
    ("qa_tickets", "min_risk_score", 0.95),
    ("qa_tickets", "max_risk_score", 0.05),
    ("qa_tickets", "classification_prefix", "name3"),
    ("qa_tickets", "fingerprint_prefix", "name3"),
    ("raw_signals", "fingerprint_prefix", "name33"),
    ("rag_corpus", "classification_prefix", "name3"),
    ("qa_fix_attempts", "concluded_since", NOW - timedelta(minutes=20)),
    ("qa_fix_attempts", "concluded_until", NOW - timedelta(minutes=980)),
    ("spend_ledger", "occurred_since", NOW - timedelta(minutes=20)),
    ("spend_ledger", "occurred_until", NOW - timedelta(minutes=980)),
    ("audit_artifacts", "max_retention_until", NOW - timedelta(minutes=980)),
    ("qa_tickets", "since", NOW - timedelta(minutes=20)),
]
"""Bounds and prefixes that have an index, with values that few rows of a large project meet. The others say what they cost."""

INDEXED = [
    (table, f"{sign}{column}")
    for table, column in (
        ("qa_tickets", "created_at"),
        ("qa_tickets", "risk_score"),
        ("profile_evolution_logs", "to_version"),
        ("policies", "version"),
        ("classification_trust", "classification"),
        ("audit_artifacts", "retention_until"),
        ("spend_ledger", "occurred_at"),
    )
    for sign in ("", "-")
]
"""Orders that have an index."""


IN_ORDER = "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off"


@dataclass
class Plans:
    """A filled database, and what EXPLAIN says of it."""

    db: Database
    projects: dict[int, UUID]

    async def explain(
        self, size: int, sent: list[Sent], *, is_generic: bool, settings: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the plans of these statements for the project of this size."""
        plans, before = [], "SET LOCAL plan_cache_mode = force_generic_plan; "
        async with self.db.project(self.projects[size]) as session:
            if settings is not None:
                await session._driver("execute", settings)
            for number, (_, sql, arguments) in enumerate(sent):
                given = [session.project_id if value is ITS_PROJECT else value for value in arguments]
                if is_generic:
                    name, nulls = f"plan_{number}", ", ".join(["NULL"] * len(given))
                    await session._driver("execute", f"{before}PREPARE {name} AS {sql}")
                    execute = f"EXECUTE {name}({nulls})" if given else f"EXECUTE {name}"
                    (row,) = await session._driver("fetch", f"EXPLAIN (FORMAT JSON) {execute}")
                    before = f"DEALLOCATE {name}; "
                else:
                    (row,) = await session._driver("fetch", f"EXPLAIN (FORMAT JSON) {sql}", *given)
                plans.append(json.loads(row[0])[0]["Plan"])
            if is_generic and sent:
                await session._driver("execute", before)
        return plans

    async def check(self, sent: list[Sent], *, is_whole: bool = True) -> None:
        """Fail for a plan that scans a project table from end to end, or enters it by no index that begins with its project.

        The whole are both kinds of plan of each statement, for projects of both sizes; else half of them have a generic plan,
        the others one for their values, for the large project.
        """
        assert sent
        for size in (LARGE, MIDDLE) if is_whole else (LARGE,):
            for generic in (False, True):
                chosen = [one for n, one in enumerate(sent) if is_whole or (n + n // 2) % 2 == generic]  # forms come in pairs
                for (name, sql, _), plan in zip(chosen, await self.explain(size, chosen, is_generic=generic), strict=True):
                    for node in nodes(plan):
                        assert is_by_index(node), f"{name}: {json.dumps(node, indent=1)}\n{sql}"


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {key: value for key, value in plan.items() if key != "Plans"}
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def is_by_index(node: dict[str, Any]) -> bool:
    kind = node["Node Type"]
    if node.get("Relation Name") == "pg_class":
        return True  # the planner's estimate, by its key
    if node.get("Relation Name") in PROJECT_TABLES and kind in {"Seq Scan", "Sample Scan", "Tid Scan"}:
        return False
    if kind in {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}:
        column = "(id = " if "_projects" in node["Index Name"] else "(project_id = "
        return column in node.get("Index Cond", "")
    return True


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Sent]]:
    """Note every statement that a session of a project hands to the driver, with its arguments."""
    sent: list[Sent] = []
    original = ProjectSession._arguments

    def note(self: ProjectSession, statement: Any, values: Any, *, is_alone: bool = False) -> Any:
        for form in (statement, statement.alone) if statement.reads else (statement,):
            arguments = original(self, statement, values, is_alone=form is not statement)
            given = [ITS_PROJECT if value == self.project_id else value for value in arguments]
            sent.append(Sent(statement.name, form.sql, given))
        return original(self, statement, values, is_alone=is_alone)

    with monkeypatch.context() as patch:
        patch.setattr(ProjectSession, "_arguments", note)
        yield sent


@pytest.fixture(scope="module")
async def bulk(server: TestServer) -> AsyncIterator[TestDatabase]:
    database = await asyncio.to_thread(server.migrated)
    yield database
    await asyncio.to_thread(server.drop, database)


@pytest.fixture(scope="module")
async def plans(bulk: TestDatabase) -> AsyncIterator[Plans]:
    projects = await fill(bulk.owner)
    async with Database(**bulk.urls) as db:
        yield Plans(db, projects)


def filters_of(repo: Any, row: Any) -> list[dict[str, Any]]:
    """Return no filter, each filter alone in all its forms, each with both bounds, and all at once, with a row's values."""
    table = repo.model.__table__
    bounds = {"since": SINCE, "until": UNTIL}
    own = {name: getattr(row, column_of(table, name).name) for name in get_type_hints(repo.filters) if name not in bounds}
    singles = [{name: value} for name, value in (own | bounds).items() if value is not None]
    values = {name: value for name, value in own.items() if value is not None and name in table.c}
    forms = [{name: form} for name, value in values.items() for form in ([value], not_(value), not_([value]))]
    empty = [{name: form} for name in values if table.c[name].nullable for form in (IS_NULL, not_(IS_NULL), [IS_NULL])]
    return [{}, *singles, bounds, *(single | bounds for single in singles), own | bounds, *forms, *empty]


class TestReads:
    @pytest.mark.parametrize("is_whole", [False, pytest.param(True, marks=pytest.mark.long)])
    @pytest.mark.parametrize("table", sorted(REPOSITORIES))
    async def test_every_read_with_every_filter(
        self, plans: Plans, table: str, is_whole: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repo = REPOSITORIES[table]
        async with plans.db.project(plans.projects[LARGE], read_only=True) as session:
            rows = (await repo.list(session, limit=20)).items
            row = next((row for row in rows if getattr(row, "duplicate_of_id", row) is not None), rows[0])
        with recorded(monkeypatch) as sent:
            async with plans.db.project(plans.projects[LARGE], read_only=True) as session:
                for read in (repo.get, repo.find, repo.exists):
                    await read(session, row.id)
                for filters in filters_of(repo, row):
                    page = await repo.list(session, limit=1, **filters)
                    if page.next_cursor:
                        await repo.list(session, limit=1, cursor=page.next_cursor, **filters)
                    async for _ in repo.stream(session, **filters):
                        break
                    await repo.count(session, **filters)
                for order in get_args(repo.orders):
                    page = await repo.list(session, limit=1, order=order, with_total=True)
                    if page.next_cursor:
                        await repo.list(session, limit=1, order=order, cursor=page.next_cursor)
                await repo.get_many(session, [row.id])
        following = [one for one in sent if ") < (" in one.sql or ") > (" in one.sql]
        assert following or table in {"projects", "project_profiles"}
        await plans.check(list({one.sql: one for one in sent}.values()), is_whole=is_whole)

    @pytest.mark.parametrize(("table", "column"), SELECTIVE)
    @pytest.mark.parametrize("is_generic", [False, True])
    async def test_a_filter_that_selects_few_rows_is_an_index_condition(
        self, plans: Plans, table: str, column: str, is_generic: bool
    ) -> None:
        repo = REPOSITORIES[table]
        async with plans.db.project(plans.projects[LARGE], read_only=True) as session:
            row = next(row for row in (await repo.list(session, limit=20)).items if getattr(row, column) is not None)
            statement = repo._count_statement(((column, "one"),))
            values = {"project_id": ITS_PROJECT, column: getattr(row, column)}
        sent = [Sent.of(statement, statement.arguments(values))]
        (plan,) = await plans.explain(LARGE, sent, is_generic=is_generic)
        assert any(f"({column} = " in node.get("Index Cond", "") for node in nodes(plan)), json.dumps(plan, indent=1)

    @pytest.mark.parametrize(("table", "name", "value"), BOUNDED)
    @pytest.mark.parametrize("is_generic", [False, True])
    async def test_a_bound_or_a_prefix_is_an_index_condition(
        self, plans: Plans, table: str, name: str, value: Any, is_generic: bool
    ) -> None:
        statement = REPOSITORIES[table]._count_statement(((name, "one"),))
        arguments = statement.arguments({"project_id": ITS_PROJECT, name: value})
        (plan,) = await plans.explain(LARGE, [Sent.of(statement, arguments)], is_generic=is_generic)
        column = column_of(REPOSITORIES[table].model.__table__, name).name
        conditions = [node.get("Index Cond", "") for node in nodes(plan)]
        assert any(f"({column} " in condition for condition in conditions), json.dumps(plan, indent=1)

    @pytest.mark.parametrize(("table", "order"), INDEXED)
    @pytest.mark.parametrize("is_generic", [False, True])
    @pytest.mark.parametrize("follows", [False, True])
    async def test_an_order_goes_along_its_index(
        self, plans: Plans, table: str, order: str, follows: bool, is_generic: bool
    ) -> None:
        """Where sorting is out, the index brings the rows in order; a sort may mend ties. A small table may be sorted anyway.

        The planner knows nothing of values, so that it takes each project for one of two hundred alike.
        """
        by, repo = Order(order.removeprefix("-"), order.startswith("-")), REPOSITORIES[table]
        statement = repo._list_statement((), follows=follows, order=by)
        async with plans.db.project(plans.projects[LARGE], read_only=True) as session:
            row = (await repo.list(session, order=order, limit=20)).items[-1]
        place = {"after_key": getattr(row, by.column), "after_id": row.id}
        arguments = statement.arguments({"project_id": ITS_PROJECT, "limit": 51, **place})
        sent = [Sent.of(statement, arguments)]
        (plan,) = await plans.explain(LARGE, sent, is_generic=is_generic, settings=IN_ORDER)
        kinds = {node["Node Type"] for node in nodes(plan)}
        assert "Sort" not in kinds, json.dumps(plan, indent=1)
        if follows:
            assert any(
                f"({by.column}" in node.get("Index Cond", "") or f"ROW({by.column}" in node.get("Index Cond", "")
                for node in nodes(plan)
            ), json.dumps(plan, indent=1)


class TestVerbs:
    @pytest.mark.parametrize("call", PROJECT_CALLS, ids=str)
    async def test_every_statement(self, plans: Plans, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        async with plans.db.admin(reason="a test") as admin:
            project = await repos.projects.create(admin, a_project())
        async with plans.db.project(project.id) as session:
            made = await call.prepare(session)
        with recorded(monkeypatch) as sent:
            async with plans.db.project(project.id) as session:
                await call.run(session, made)
        await plans.check(sent)


class TestIsByIndex:
    """What the tests above stand on: they see a plan that is none."""

    async def test_a_sequential_scan_is_seen(self, plans: Plans) -> None:
        statement = repos.qa_tickets._list_statement((("fingerprint", "one"),), follows=False)
        async with plans.db.project(plans.projects[MIDDLE]) as session:
            await session._driver("execute", "SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off")
            arguments = statement.arguments({"project_id": session.project_id, "fingerprint": "x", "limit": 2})
            (row,) = await session._driver("fetch", f"EXPLAIN (FORMAT JSON) {statement.sql}", *arguments)
        assert not all(map(is_by_index, nodes(json.loads(row[0])[0]["Plan"])))

    @pytest.mark.parametrize("condition", [{"Index Cond": "(id = '1')"}, {}])
    def test_an_index_that_is_entered_without_the_project_is_seen(self, condition: dict[str, str]) -> None:
        assert not is_by_index({"Node Type": "Index Scan", "Index Name": "ix_qa_runs_x", **condition})

    async def test_the_data_is_large_enough_to_tell(self, plans: Plans) -> None:
        for size in (LARGE, MIDDLE):
            async with plans.db.project(plans.projects[size], read_only=True) as session:
                counts = {table: await repo.count(session) for table, repo in REPOSITORIES.items()}
            assert set(counts.values()) == {1, size}
            assert [table for table, count in counts.items() if count == 1] == ["project_profiles", "projects"]
