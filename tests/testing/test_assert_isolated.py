"""`assert_isolated` passes what keeps to its project and says of what does not: which rows, which result, which tables."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from uuid import UUID

import asyncpg
import pytest
import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict
from sqlmodel import select

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import NotFound, ScopeError
from derwin_db.fields.scalars import new_id
from derwin_db.models import QATicket, QATicketCreate, RAGCorpusCreate, SpendLedgerCreate, TicketStatus
from derwin_db.testing import Filled, TestDatabase, TestServer, assert_isolated, create_filled, filling, isolation
from derwin_db.testing.examples import example
from derwin_db.testing.filling import read_filled
from derwin_db.testing.server import url_of
from derwin_db.testing.traces import Traces, canonical
from tests.conftest import PATIENT
from tests.forking import program
from tests.isolation.fences import started_anyway


@pytest.fixture(scope="module")
async def shared(server: TestServer) -> AsyncIterator[TestDatabase]:
    """A database of these tests alone: what they call may see and change all of it."""
    database = await asyncio.to_thread(server.migrated)
    yield database
    await asyncio.to_thread(server.drop, database)


@pytest.fixture(scope="module")
async def shared_db(shared: TestDatabase) -> AsyncIterator[Database]:
    async with Database(**shared.urls, settings=PATIENT) as database:
        yield database


@pytest.fixture(scope="module")
async def shared_owner(shared: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**shared.owner.connect_arguments(), statement_cache_size=0)
    yield connection
    await connection.close(timeout=60)


async def open_tickets(session: ProjectSession) -> list[QATicket]:
    return (await repos.qa_tickets.list(session, status=TicketStatus.OPEN)).items


async def by_severity(session: ProjectSession) -> list[tuple[object, ...]]:
    query = select(QATicket.severity, sa.func.count()).group_by(QATicket.severity).order_by(QATicket.severity)
    return [tuple(row) for row in (await session.sql.execute(query)).all()]


async def close_all(session: ProjectSession) -> int:
    result = await session.sql.execute(sa.text("UPDATE public.qa_tickets SET updated_at = now()"))
    return result.rowcount


class TestClean:
    @pytest.mark.parametrize("call", [open_tickets, by_severity, close_all])
    async def test_passes(self, shared_db, call):
        await assert_isolated(call, database=shared_db)

    async def test_is_left_to_do_its_own_work(self, shared_db):
        seen = []

        async def noting(session: ProjectSession) -> None:
            seen.append(session.project_id)

        await assert_isolated(noting, database=shared_db)

        assert len(seen) == 6
        assert len(set(seen)) == 2

    async def test_error_of_its_own_is_raised_as_it_is(self, shared_db):
        async def missing(session: ProjectSession) -> QATicket:
            return await repos.qa_tickets.get(session, new_id())

        with pytest.raises(NotFound):
            await assert_isolated(missing, database=shared_db)

    async def test_error_at_the_end_of_its_unit_is_raised_as_it_is(self, shared_db):
        async def ending(session: ProjectSession) -> None:
            await session.sql.execute(sa.text("COMMIT"))

        with pytest.raises(ScopeError):
            await assert_isolated(ending, database=shared_db)


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")


@dataclass
class Holder:
    held: object


def raised(error: Exception, *, cause: Exception | None = None, during: Exception | None = None) -> Exception:
    """The error as it is caught where it came of one, or while another was handled."""
    error.__cause__, error.__context__ = cause, during
    return error


def noted(note: str) -> Exception:
    error = ValueError()
    error.add_note(note)
    return error


ID, OTHER = UUID("01890000-0000-7000-8000-00000000abcd"), UUID("01890000-0000-7000-8000-00000000ffff")
AT = datetime(2026, 1, 1, tzinfo=UTC)


class TestTraces:
    found = staticmethod(Traces(Filled(ID, "acme", "mk1", {})).found_in)

    def test_are_found_in_bytes(self):
        assert self.found([b"--" + ID.bytes, b"of mk1."]) == sorted(["mk1", str(ID)])
        assert self.found([OTHER.bytes, b"of mk2"]) == []
        assert self.found(b"mk1", allowed={"mk1"}) == []

    @pytest.mark.parametrize(
        "place",
        [
            lambda trace: f"of {trace}.",
            lambda trace: {"key": [({trace: 1},)]},
            lambda trace: {"key": [(1, None, 0.5, frozenset([trace]))]},
            lambda trace: Extra(more=trace),
            lambda trace: Holder(Holder(trace)),
            ValueError,
            lambda trace: raised(ValueError(), cause=ValueError(trace)),
            lambda trace: raised(ValueError(), during=ValueError([trace])),
            lambda trace: noted(f"of {trace}"),
            lambda trace: SimpleNamespace(shown=trace),
        ],
        ids=["text", "key", "set", "model", "dataclass", "error", "cause", "context", "note", "object"],
    )
    @pytest.mark.parametrize("trace", ["mk1", ID, str(ID), str(ID).upper(), ID.hex], ids=str)
    def test_are_found_wherever_they_are(self, place, trace):
        (found,) = self.found(place(trace))
        assert UUID(found) == ID if found != "mk1" else trace == "mk1"
        assert self.found(place(trace), allowed={ID, "mk1"}) == self.found(place("mk2")) == self.found(place(OTHER)) == []

    def test_of_what_holds_itself_are_found(self):
        circle: list[object] = ["mk1"]
        circle.append(circle)
        assert self.found(circle) == ["mk1"]


class TestWords:
    @pytest.mark.parametrize(("number", "more"), [(5, ""), (6, " ...")])
    def test_name_five_traces_and_say_that_there_are_more(self, number: int, more: str) -> None:
        ids = sorted((new_id() for _ in range(number)), key=str)
        traces = Traces(Filled(ID, "acme", "mk1", {"qa_runs": [SimpleNamespace(id=id) for id in ids]}))
        said = isolation._traces("of B: ", isolation._Outcome(ids), traces)
        assert said == [f"of B: {', '.join(map(str, ids[:5]))}{more}"]
        assert isolation._traces("of B: ", isolation._Outcome([OTHER]), traces) == []

    def test_say_how_long_a_result_is_that_is_cut(self) -> None:
        assert isolation._short("x" * 100) == repr("x" * 100)
        assert isolation._short("x" * 10_000).endswith("x ... (10002 characters)")


class TestSameResult:
    """Two runs of one call may differ in what they make anew, and in no more."""

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (new_id(), new_id()),
            (AT, AT + timedelta(days=1)),
            ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
            ({"x", "y", "z"}, {"z", "y", "x"}),
            ([(1, "a")], ((1, "a"),)),
            (Extra(a=new_id()), Extra(a=new_id())),
            (Holder(new_id()), Holder(new_id())),
            (ValueError(f"of {new_id()}"), ValueError(f"of {new_id()}")),
            (ValueError("<object at 0x7f00ab>"), ValueError("<object at 0x7f00cd>")),
        ],
    )
    def test_is_the_same(self, one, other):
        assert canonical(one, {ID}) == canonical(other, {ID})

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (ID, new_id()),
            (ID, AT),
            (AT, new_id()),
            ({"a": 1}, {"a": 2}),
            ({"a": 1}, {"b": 1}),
            ({1, 2}, {1, 3}),
            ([1, 2], [2, 1]),
            ("ab", "ba"),
            (b"ab", b"ba"),
            (1, "1"),
            (Extra(a=1), Extra(a=2)),
            (Holder(1), Holder(2)),
            (Holder(1), Extra(held=1)),
            (ValueError("one"), ValueError("two")),
            (ValueError("one"), LookupError("one")),
            (ValueError(f"of {ID}"), ValueError(f"of {OTHER}")),
        ],
    )
    def test_is_another(self, one, other):
        assert canonical(one, {ID}) != canonical(other, {ID})


class TestFilling:
    async def test_a_table_without_rows_is_named(self, session: ProjectSession) -> None:
        with pytest.raises(AssertionError, match="has no row of a filled project"):
            await read_filled(session, "mk1")

    async def test_a_table_that_nothing_here_knows_is_filled_all_the_same(
        self, db: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As of a model that was added since, with a reference and without one."""

        async def fix(session: ProjectSession, marker: str) -> None:
            await repos.qa_tickets.create(session, example(QATicketCreate, marker=marker))
            await repos.rag_corpus.add(session, example(RAGCorpusCreate, marker=marker))

        async def keep(session: ProjectSession, marker: str) -> None:
            await repos.spend_ledger.append(session, example(SpendLedgerCreate, marker=marker))

        monkeypatch.setattr(filling, "_fix", fix)
        monkeypatch.setattr(filling, "_keep", keep)
        filled = await create_filled(db)
        (artifact,), (attempt,) = filled.rows["audit_artifacts"], filled.rows["qa_fix_attempts"]
        assert filled.marker in artifact.storage_uri
        assert attempt.ticket_id in filled.ids("qa_tickets")


class TestLeaking:
    async def test_rows_read_by_a_privileged_login(self, shared_db, shared_owner):
        async def everything(session: ProjectSession) -> list[str]:
            return [row["title"] for row in await shared_owner.fetch("SELECT title FROM public.qa_tickets")]

        with pytest.raises(AssertionError, match="everything is not isolated") as caught:
            await assert_isolated(everything, database=shared_db)

        assert "in project A it returns of B" in str(caught.value)
        assert "in project B it returns of A" in str(caught.value)

    async def test_rows_read_through_the_admin_door(self, shared_db):
        async def projects(session: ProjectSession) -> list[str]:
            async with shared_db.admin(reason="a report") as admin:
                return [project.name for project in (await repos.projects.list(admin)).items]

        with pytest.raises(AssertionError, match="in project A it returns of B"):
            await assert_isolated(projects, database=shared_db)

    async def test_number_that_counts_other_projects(self, shared_db, shared_owner):
        async def total(session: ProjectSession) -> int:
            return await shared_owner.fetchval("SELECT count(*) FROM public.qa_tickets")

        with pytest.raises(AssertionError, match="its result in A is another one once B is there"):
            await assert_isolated(total, database=shared_db)

    async def test_error_that_tells_of_other_projects(self, own_db, owner):
        async def unique(session: ProjectSession) -> None:
            titles = await owner.fetch("SELECT DISTINCT project_id FROM public.qa_tickets")
            if len(titles) > 1:
                raise ValueError("not the only one")

        with pytest.raises(AssertionError, match="another one once B is there"):
            await assert_isolated(unique, database=own_db)

    async def test_rows_of_another_project_that_are_changed(self, shared_db, shared_owner):
        async def touch(session: ProjectSession) -> None:
            await shared_owner.execute("UPDATE public.qa_runs SET updated_at = now()")

        with pytest.raises(AssertionError, match="it changes rows of B in: qa_runs"):
            await assert_isolated(touch, database=shared_db)

    async def test_result_that_is_never_the_same(self, shared_db):
        numbers = count()

        async def next_number(session: ProjectSession) -> int:
            return next(numbers)

        with pytest.raises(AssertionError, match="its result in A is another one"):
            await assert_isolated(next_number, database=shared_db)


class TestPoliciesOff:
    """Where a policy is missing, a repository's own filter is not enough: the call is tried without it."""

    async def test_repository(self, own_database, owner):
        await owner.execute("ALTER TABLE public.qa_tickets DISABLE ROW LEVEL SECURITY")
        with started_anyway():
            async with Database(**own_database.urls) as database:
                with pytest.raises(AssertionError) as caught:
                    await assert_isolated(open_tickets, database=database)

        assert "with the policies alone, in project A it returns of B" in str(caught.value)
        assert "- in project A" not in str(caught.value)

    async def test_sql_of_its_own(self, own_database, owner):
        await owner.execute("ALTER TABLE public.qa_tickets DISABLE ROW LEVEL SECURITY")

        async def titles(session: ProjectSession) -> list[str]:
            return list((await session.sql.execute(select(QATicket.title))).scalars())

        with started_anyway():
            async with Database(**own_database.urls) as database:
                with pytest.raises(AssertionError, match="- in project A it returns of B"):
                    await assert_isolated(titles, database=database)


class TestWithoutADatabase:
    def test_takes_one_of_its_own(self, server: TestServer) -> None:
        """In a process of its own: the database is kept for the life of the process."""
        script = (
            "import asyncio; from derwin_db import repos; from derwin_db.testing import assert_isolated\n"
            "async def mine(session): return await repos.qa_tickets.count(session)\n"
            "asyncio.run(assert_isolated(mine)); asyncio.run(assert_isolated(mine)); print('isolated')"
        )
        environment = {**os.environ, "DERWIN_TEST_DATABASE_URL": url_of(server.owner)}
        done = program(script, environment=environment, warnings="error")

        assert done.stdout == "isolated\n", done.stderr
