"""Lists in every order, their cursors, totals, rows by many ids, brief rows, and what belongs to a page of tickets."""

from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest

from derwin_db import AdminSession, Database, ProjectSession, repos
from derwin_db.errors import InvalidCursor, InvalidInput, ScopeError, TooLarge
from derwin_db.fields.scalars import new_id
from derwin_db.filters import not_
from derwin_db.models import (
    ProfileEvolutionLogBrief,
    Project,
    QATicketBrief,
    RAGCorpusBrief,
    RawSignalBrief,
    TicketStatus,
)
from derwin_db.repos import base
from tests.repos.conftest import Filled
from tests.repos.filling import REPOSITORIES
from tests.repos.rows import a_ticket

ORDERS = [(name, order) for name, repo in REPOSITORIES.items() for order in get_args(repo.orders)]
BRIEF = {
    "profile_evolution_logs": ProfileEvolutionLogBrief,
    "qa_tickets": QATicketBrief,
    "rag_corpus": RAGCorpusBrief,
    "raw_signals": RawSignalBrief,
}


@pytest.fixture
async def session(db: Database, filled: Filled) -> AsyncIterator[ProjectSession]:
    async with db.project(filled.project, read_only=True) as unit:
        yield unit


async def paged(repo: Any, session: Any, limit: int, **options: Any) -> list[Any]:
    page = await repo.list(session, limit=limit, **options)
    rows = list(page.items)
    while page.next_cursor is not None:
        page = await repo.list(session, limit=limit, cursor=page.next_cursor, **options)
        rows += page.items
    return rows


class TestOrder:
    @pytest.mark.parametrize(("name", "order"), ORDERS)
    @pytest.mark.parametrize("limit", [1, 3, 500])
    async def test_is_that_of_the_column_and_then_of_the_id(
        self, session: ProjectSession, name: str, order: str, limit: int
    ) -> None:
        repo, column = REPOSITORIES[name], order.removeprefix("-")
        rows = [row async for row in repo.stream(session)]
        expected = sorted(rows, key=lambda row: (getattr(row, column), row.id), reverse=order.startswith("-"))
        assert await paged(repo, session, limit, order=order) == expected

    @pytest.mark.parametrize("name", sorted(REPOSITORIES))
    async def test_is_newest_first_unless_said(self, session: ProjectSession, name: str) -> None:
        repo = REPOSITORIES[name]
        assert await repo.list(session, order="-created_at") == await repo.list(session)

    async def test_of_projects_at_the_admin_door(self, db: Database, filled: Filled) -> None:
        async with db.admin(reason="a test") as admin:
            found = await paged(repos.projects, admin, 1, order="slug")
        slugs = [row.slug for row in found]
        assert len(slugs) == len(set(slugs)) == await self._number_of_projects(db)
        assert {filled.project, filled.other} <= {row.id for row in found}

    async def _number_of_projects(self, db: Database) -> int:
        async with db.admin(reason="a test") as admin:
            page = await repos.projects.list(admin, limit=1, with_total=True)
        assert page.total is not None
        return page.total

    @pytest.mark.parametrize(
        "order", ["title", "risk_score desc", "--risk_score", "", None, 7, ["risk_score"], "id", "-RISK_SCORE"]
    )
    async def test_another_is_refused_by_name(self, db: Database, filled: Filled, order: Any) -> None:
        async with db.project(filled.project) as unit:
            with pytest.raises(InvalidInput, match=r"^order: one of -created_at, created_at, risk_score, -risk_score"):
                await repos.qa_tickets.list(unit, order=order)
            assert unit._connection is None


class TestCursor:
    @pytest.mark.parametrize("other", [order for name, order in ORDERS if name == "qa_tickets" and order != "-risk_score"])
    async def test_is_bound_to_its_order(self, session: ProjectSession, other: Any) -> None:
        cursor = (await repos.qa_tickets.list(session, limit=1, order="-risk_score")).next_cursor
        with pytest.raises(InvalidCursor):
            await repos.qa_tickets.list(session, cursor=cursor, order=other)

    async def test_is_bound_to_filters_of_every_form(self, session: ProjectSession) -> None:
        one = TicketStatus.OPEN
        chosen: list[Any] = [one, [one], not_(TicketStatus.RESOLVED), not_([TicketStatus.RESOLVED]), None]
        cursors = {}
        for filters in ({"status": value} for value in chosen):
            cursors[repr(filters)] = (await repos.qa_tickets.list(session, limit=1, **filters)).next_cursor
        assert len(set(cursors.values())) == len(chosen)

    async def test_of_another_project_is_refused(self, db: Database, session: ProjectSession, filled: Filled) -> None:
        async with db.project(filled.other) as other:
            cursor = (await repos.qa_tickets.list(other, limit=1, order="-risk_score")).next_cursor
        with pytest.raises(InvalidCursor):
            await repos.qa_tickets.list(session, cursor=cursor, order="-risk_score")

    async def test_is_stable_while_rows_come(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as unit:
            rows = [a_ticket(risk_score=number / 10) for number in range(8)]
            await repos.qa_tickets.create_many(unit, rows)
        seen, cursor = [], None
        for _ in range(4):
            async with db.project(project.id) as unit:
                page = await repos.qa_tickets.list(unit, limit=2, cursor=cursor, order="-risk_score")
                await repos.qa_tickets.create(unit, a_ticket(risk_score=1.0))
            seen += [row.risk_score for row in page.items]
            cursor = page.next_cursor
        assert seen == [number / 10 for number in range(7, -1, -1)]


class TestTotal:
    @pytest.mark.parametrize("name", sorted(REPOSITORIES))
    async def test_counts_what_the_filters_select(self, session: ProjectSession, name: str) -> None:
        repo = REPOSITORIES[name]
        page = await repo.list(session, limit=1, with_total=True)
        assert (page.total, page.is_total_exact) == (await repo.count(session), True)
        plain = await repo.list(session, limit=1)
        assert (plain.total, plain.is_total_exact) == (None, None)
        assert (await repo.list(session, limit=1, with_total=True, until=page.items[0].created_at)).total < page.total

    async def test_stays_the_same_from_page_to_page(self, session: ProjectSession) -> None:
        first = await repos.raw_signals.list(session, limit=2, with_total=True)
        second = await repos.raw_signals.list(session, limit=2, cursor=first.next_cursor, with_total=True)
        assert first.total == second.total == await repos.raw_signals.count(session)

    async def test_leaves_out_what_the_list_leaves_out(self, db: Database, project: Project) -> None:
        async with db.admin(reason="a test") as admin:
            before = await repos.projects.list(admin, limit=1, with_total=True)
            await repos.projects.archive(admin, project.id)
            after = await repos.projects.list(admin, limit=1, with_total=True)
        assert after.total == before.total - 1

    async def test_is_bounded(self, session: ProjectSession, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(base, "MAX_TOTAL", 3)
        page = await repos.raw_signals.list(session, limit=1, with_total=True)
        assert (page.total, page.is_total_exact) == (3, False)
        monkeypatch.setattr(base, "MAX_TOTAL", await repos.raw_signals.count(session))
        page = await repos.raw_signals.list(session, limit=1, with_total=True)
        assert (page.total, page.is_total_exact) == (base.MAX_TOTAL, True)

    @pytest.mark.parametrize("flag", [1, 0, "true", None])
    async def test_is_asked_for_by_a_flag(self, session: ProjectSession, flag: Any) -> None:
        with pytest.raises(InvalidInput, match=r"^with_total"):
            await repos.qa_tickets.list(session, with_total=flag)


class TestGetMany:
    @pytest.mark.parametrize("name", sorted(REPOSITORIES))
    async def test_returns_rows_by_id(self, session: ProjectSession, name: str) -> None:
        repo = REPOSITORIES[name]
        rows = [row async for row in repo.stream(session)][:3]
        ids = [*(row.id for row in rows), str(rows[0].id), new_id()]
        assert await repo.get_many(session, ids) == {row.id: row for row in rows}
        assert await repo.get_many(session, iter([rows[0].id])) == {rows[0].id: rows[0]}

    @pytest.mark.parametrize("name", sorted(REPOSITORIES))
    async def test_leaves_out_rows_of_another_project(
        self, db: Database, session: ProjectSession, filled: Filled, name: str
    ) -> None:
        repo = REPOSITORIES[name]
        async with db.project(filled.other) as other:
            foreign = [row.id async for row in repo.stream(other)]
        assert await repo.get_many(session, foreign) == {}

    @pytest.mark.parametrize("name", sorted(REPOSITORIES))
    async def test_bad_ids_take_no_connection(self, db: Database, filled: Filled, name: str) -> None:
        repo = REPOSITORIES[name]
        async with db.project(filled.project) as unit:
            assert await repo.get_many(unit, []) == {}
            for ids in (5, None, "not-a-uuid", [None], [7], ["x"]):
                with pytest.raises(InvalidInput, match=r"^ids"):
                    await repo.get_many(unit, ids)
            with pytest.raises(TooLarge, match=r"^ids: at most 1000"):
                await repo.get_many(unit, [new_id() for _ in range(1001)])
            assert unit._connection is None

    async def test_of_projects_takes_the_admin_door_too(self, db: Database, filled: Filled) -> None:
        async with db.admin(reason="a test") as admin:
            assert set(await repos.projects.get_many(admin, [filled.project, filled.other])) == {filled.project, filled.other}

    async def test_takes_a_session_alone(self, db: Database, filled: Filled) -> None:
        async with db.admin(reason="a test") as admin:
            wrong: Any = admin
            assert isinstance(wrong, AdminSession)
            with pytest.raises(ScopeError):
                await repos.qa_tickets.get_many(wrong, [filled.project])


class TestBrief:
    @pytest.mark.parametrize("name", BRIEF)
    async def test_is_the_row_without_its_long_values(self, session: ProjectSession, name: str) -> None:
        repo, model = REPOSITORIES[name], BRIEF[name]
        whole = (await repo.list(session, limit=500)).items
        brief = (await repo.list_brief(session, limit=500)).items
        assert brief == [model.model_validate(row.model_dump(include=model.model_fields.keys())) for row in whole]
        assert all(type(row) is model for row in brief)

    def test_leaves_out_the_long_values_alone(self) -> None:
        left_out = {name: set(REPOSITORIES[name].model.model_fields) - set(model.model_fields) for name, model in BRIEF.items()}
        assert left_out == {
            "qa_tickets": {"description", "steps_to_reproduce", "expected", "actual"},
            "raw_signals": {"payload"},
            "rag_corpus": {"problem", "fix_summary", "diff", "embedding"},
            "profile_evolution_logs": {"patch"},
        }

    async def test_takes_filters_order_total_and_the_cursors_of_list(self, session: ProjectSession) -> None:
        first = await repos.qa_tickets.list(session, limit=2, order="-risk_score", status=TicketStatus.OPEN)
        rest = await repos.qa_tickets.list_brief(
            session, limit=2, cursor=first.next_cursor, order="-risk_score", status=TicketStatus.OPEN, with_total=True
        )
        whole = await repos.qa_tickets.list(session, limit=4, order="-risk_score", status=TicketStatus.OPEN)
        assert [row.id for row in rest.items] == [row.id for row in whole.items[2:]]
        assert rest.total == await repos.qa_tickets.count(session, status=TicketStatus.OPEN)

    async def test_is_json_as_the_whole_row_is(self, session: ProjectSession) -> None:
        whole, brief = (await repos.qa_tickets.list(session)).items[0], (await repos.qa_tickets.list_brief(session)).items[0]
        assert brief.model_dump(mode="json").items() <= whole.model_dump(mode="json").items()


class TestOfTickets:
    @pytest.mark.parametrize("name", ["raw_signals", "audit_artifacts"])
    async def test_are_the_newest_of_each(self, session: ProjectSession, name: str) -> None:
        repo = REPOSITORIES[name]
        rows = [row async for row in repo.stream(session) if row.ticket_id is not None]
        tickets = [row.id async for row in repos.qa_tickets.stream(session)]
        for limit in (1, 2, 100):
            expected = {id: [row for row in rows if row.ticket_id == id][:limit] for id in tickets}
            assert await repo.of_tickets(session, tickets, limit_each=limit) == expected
            assert any(expected.values())

    @pytest.mark.parametrize("name", ["raw_signals", "audit_artifacts"])
    async def test_of_another_project_are_none(self, db: Database, session: ProjectSession, filled: Filled, name: str) -> None:
        async with db.project(filled.other) as other:
            foreign = [row.id async for row in repos.qa_tickets.stream(other)]
            assert any((await REPOSITORIES[name].of_tickets(other, foreign)).values())
        assert await REPOSITORIES[name].of_tickets(session, foreign) == {id: [] for id in foreign}
        assert await repos.qa_fix_attempts.latest_of_tickets(session, foreign) == {}

    @pytest.mark.parametrize("limit", [0, 101, True, "5", None])
    async def test_are_bounded(self, session: ProjectSession, limit: Any) -> None:
        for repo in (repos.raw_signals, repos.audit_artifacts):
            with pytest.raises(InvalidInput, match=r"^limit_each"):
                await repo.of_tickets(session, [new_id()], limit_each=limit)
            with pytest.raises(TooLarge, match=r"^ticket_ids"):
                await repo.of_tickets(session, [new_id() for _ in range(1001)])

    async def test_the_latest_attempt_is_the_one_of_the_highest_number(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as unit:
            tickets = [await repos.qa_tickets.create(unit, a_ticket()) for _ in range(3)]
            made = {}
            for count, ticket in enumerate(tickets):
                for _ in range(count):
                    made[ticket.id] = await repos.qa_fix_attempts.dispatch(unit, ticket.id, model="m")
            found = await repos.qa_fix_attempts.latest_of_tickets(unit, [ticket.id for ticket in tickets])
        assert found == made
        assert {row.attempt_no for row in found.values()} == {1, 2}
