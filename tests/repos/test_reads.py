"""What every repository reads with: get, find, exists, list, stream, count, each over all 14 tables."""

import base64
import inspect
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, get_args, get_type_hints
from uuid import UUID

import pytest

from derwin_db import Database, ProjectSession
from derwin_db.errors import InvalidCursor, InvalidInput, NotFound, ProjectNotFound
from derwin_db.fields.scalars import new_id
from derwin_db.repos.conditions import FilterType
from tests.faults.fill import fill_all
from tests.faults.load import new_project
from tests.repos.conftest import Filled
from tests.repos.filling import REPOSITORIES

SINGLE = {"projects", "project_profiles"}
"""Tables of which a project's session sees one row."""

MANY = sorted(set(REPOSITORIES) - SINGLE)
TYPES = {
    name: {key: FilterType(hint) for key, hint in get_type_hints(repo.filters, include_extras=True).items()}
    for name, repo in REPOSITORIES.items()
}
FILTERS = [(name, key) for name, types in TYPES.items() for key in types]
VALUES = [(name, key) for name, key in FILTERS if TYPES[name][key].takes_many]
"""Filters by the value of a column; the others bound one, or say how it begins."""

FREE_TEXT = ("fingerprint",)
"""Columns that take any text: to their filters no text is of another kind."""


@pytest.fixture(params=sorted(REPOSITORIES))
def repo(request: pytest.FixtureRequest) -> Any:
    return REPOSITORIES[request.param]


@pytest.fixture(params=MANY)
def many(request: pytest.FixtureRequest) -> Any:
    return REPOSITORIES[request.param]


@pytest.fixture
async def session(db: Database, filled: Filled) -> AsyncIterator[ProjectSession]:
    async with db.project(filled.project, read_only=True) as unit:
        yield unit


@pytest.fixture(scope="module")
async def sparse_project(db: Database) -> UUID:
    """A project with a row or two in each table: of no filter it has all values."""
    project = (await new_project(db)).id
    async with db.project(project) as unit:
        await fill_all(unit)
    return project


@pytest.fixture
async def sparse(db: Database, sparse_project: UUID) -> AsyncIterator[ProjectSession]:
    async with db.project(sparse_project, read_only=True) as unit:
        yield unit


@pytest.fixture
async def other(db: Database, filled: Filled) -> AsyncIterator[ProjectSession]:
    async with db.project(filled.other, read_only=True) as unit:
        yield unit


async def all_of(repo: Any, session: ProjectSession, **filters: Any) -> list[Any]:
    return [row async for row in repo.stream(session, **filters)]


async def paged(repo: Any, session: ProjectSession, limit: int, **filters: Any) -> list[Any]:
    page = await repo.list(session, limit=limit, **filters)
    rows = list(page.items)
    while page.next_cursor is not None:
        assert len(page.items) == limit
        page = await repo.list(session, limit=limit, cursor=page.next_cursor, **filters)
        rows += page.items
    return rows


class TestGet:
    async def test_returns_the_row(self, repo: Any, session: ProjectSession) -> None:
        rows = await all_of(repo, session)
        assert rows
        for row in rows:
            assert await repo.get(session, row.id) == row

    async def test_takes_the_text_of_an_id(self, repo: Any, session: ProjectSession) -> None:
        row = (await all_of(repo, session))[0]
        assert await repo.get(session, f"{{{row.id}}}") == row

    async def test_an_unknown_id_is_not_found(self, repo: Any, session: ProjectSession) -> None:
        with pytest.raises(ProjectNotFound if repo.model.__tablename__ == "projects" else NotFound):
            await repo.get(session, new_id())

    async def test_a_row_of_another_project_is_not_found(
        self, repo: Any, session: ProjectSession, other: ProjectSession
    ) -> None:
        foreign = (await all_of(repo, other))[0]
        with pytest.raises(NotFound) as absent:
            await repo.get(session, new_id())
        with pytest.raises(NotFound) as hidden:
            await repo.get(session, foreign.id)
        assert (str(hidden.value), type(hidden.value)) == (str(absent.value), type(absent.value))

    @pytest.mark.parametrize("value", ["", "not-a-uuid", 7, None, UUID(int=0), b"\0" * 16, True])
    async def test_what_is_no_id_is_refused_before_any_sql(self, repo: Any, db: Database, filled: Filled, value: Any) -> None:
        async with db.project(filled.project) as unit:
            for read in (repo.get, repo.find, repo.exists):
                with pytest.raises(InvalidInput):
                    await read(unit, value)
            assert unit._connection is None


class TestFind:
    async def test_returns_the_row(self, repo: Any, session: ProjectSession) -> None:
        row = (await all_of(repo, session))[-1]
        assert await repo.find(session, row.id) == row

    async def test_an_unknown_or_foreign_id_is_none(self, repo: Any, session: ProjectSession, other: ProjectSession) -> None:
        foreign = (await all_of(repo, other))[0]
        assert await repo.find(session, new_id()) is None
        assert await repo.find(session, foreign.id) is None


class TestExists:
    async def test_tells_own_from_unknown_and_foreign(self, repo: Any, session: ProjectSession, other: ProjectSession) -> None:
        own, foreign = (await all_of(repo, session))[0], (await all_of(repo, other))[0]
        assert await repo.exists(session, own.id) is True
        assert await repo.exists(session, new_id()) is False
        assert await repo.exists(session, foreign.id) is False


class TestList:
    async def test_is_newest_first_and_of_this_project_alone(self, repo: Any, session: ProjectSession, filled: Filled) -> None:
        rows = (await repo.list(session, limit=500)).items
        assert rows
        assert rows == sorted(rows, key=lambda row: (row.created_at, row.id), reverse=True)
        assert {row.id if repo.model.__tablename__ == "projects" else row.project_id for row in rows} == {filled.project}

    @pytest.mark.parametrize("limit", [1, 2, 3, 5])
    async def test_pages_over_ties_equal_the_stream(self, many: Any, session: ProjectSession, limit: int) -> None:
        streamed = await all_of(many, session)
        assert len(streamed) > limit
        assert await paged(many, session, limit) == streamed

    async def test_rows_of_one_transaction_tie(self, session: ProjectSession) -> None:
        """Without ties, the tests of paging would prove less than they say."""
        rows = await all_of(REPOSITORIES["raw_signals"], session)
        assert len({row.created_at for row in rows}) == 2 < len(rows)

    async def test_a_last_page_that_is_full_has_no_cursor(self, many: Any, session: ProjectSession) -> None:
        total = await many.count(session)
        assert (await many.list(session, limit=total)).next_cursor is None
        assert (await many.list(session, limit=total - 1)).next_cursor is not None

    @pytest.mark.parametrize("limit", [0, -1, 501, 10**9, True, 1.5, "5", None])
    async def test_a_limit_is_an_integer_of_1_to_500(self, repo: Any, session: ProjectSession, limit: Any) -> None:
        with pytest.raises(InvalidInput, match="limit"):
            await repo.list(session, limit=limit)

    def test_a_page_has_50_rows_where_no_limit_is_given(self, repo: Any) -> None:
        assert inspect.signature(repo.list).parameters["limit"].default == 50

    async def test_an_unknown_filter_is_refused(self, repo: Any, session: ProjectSession) -> None:
        for read in (repo.list, repo.count):
            with pytest.raises(InvalidInput, match="no such filter"):
                await read(session, project_id=new_id())
        with pytest.raises(InvalidInput, match="no such filter"):
            await all_of(repo, session, created_at=datetime.now(UTC))


class TestCursor:
    async def test_of_another_project_is_refused(self, many: Any, session: ProjectSession, other: ProjectSession) -> None:
        minted = (await many.list(other, limit=1)).next_cursor
        with pytest.raises(InvalidCursor):
            await many.list(session, limit=1, cursor=minted)

    async def test_of_another_table_is_refused(self, many: Any, session: ProjectSession) -> None:
        source = "qa_runs" if many.model.__tablename__ != "qa_runs" else "qa_tickets"
        minted = (await REPOSITORIES[source].list(session, limit=1)).next_cursor
        with pytest.raises(InvalidCursor):
            await many.list(session, limit=1, cursor=minted)

    async def test_of_another_filter_is_refused(self, many: Any, session: ProjectSession) -> None:
        minted = (await many.list(session, limit=1)).next_cursor
        with pytest.raises(InvalidCursor):
            await many.list(session, limit=1, cursor=minted, since=datetime(2020, 1, 1, tzinfo=UTC))

    async def test_every_flipped_bit_is_noticed(self, session: ProjectSession) -> None:
        tickets = REPOSITORIES["qa_tickets"]
        minted = (await tickets.list(session, limit=1)).next_cursor
        raw = base64.urlsafe_b64decode(minted)
        for bit in range(8 * len(raw)):
            changed = bytearray(raw)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(InvalidCursor):
                await tickets.list(session, limit=1, cursor=base64.urlsafe_b64encode(changed).decode().rstrip("="))

    @pytest.mark.parametrize("cursor", ["", "x", "A" * 48, "A" * 2**20, "é" * 48, "+" * 48, 7, b"A" * 48, True])
    async def test_garbage_is_refused(self, session: ProjectSession, cursor: Any) -> None:
        with pytest.raises(InvalidCursor):
            await REPOSITORIES["qa_tickets"].list(session, cursor=cursor)

    async def test_goes_on_with_another_limit(self, many: Any, session: ProjectSession) -> None:
        first = await many.list(session, limit=2)
        rest = await many.list(session, limit=500, cursor=first.next_cursor)
        assert first.items + rest.items == await all_of(many, session)


class TestFilters:
    @pytest.mark.parametrize(("table", "key"), VALUES)
    async def test_each_value_selects_its_rows(self, session: ProjectSession, table: str, key: str) -> None:
        repo = REPOSITORIES[table]
        rows = await all_of(repo, session)
        present = {getattr(row, key) for row in rows} - {None}
        assert present, "the data has no value for this filter"
        assert len({getattr(row, key) for row in rows}) > 1 or table in SINGLE or key in {"profile_id", "compliance_mode"}
        for value in sorted(present, key=str):
            await self._check(repo, session, {key: value}, [row for row in rows if getattr(row, key) == value])

    @pytest.mark.parametrize(("table", "key"), VALUES)
    async def test_a_value_that_no_row_has_selects_none(self, sparse: ProjectSession, table: str, key: str) -> None:
        repo = REPOSITORIES[table]
        rows = await all_of(repo, sparse)
        assert rows
        present = {getattr(row, key) for row in rows}
        kind = get_args(TYPES[table][key].value)[0] if get_args(TYPES[table][key].value) else TYPES[table][key].value
        absent = [value for value in kind if value not in present] if issubclass(kind, StrEnum) else [_fresh(kind)]
        assert absent, "the data has every value of this filter"
        for value in absent:
            await self._check(repo, sparse, {key: value}, [])

    @pytest.mark.parametrize("table", sorted(REPOSITORIES))
    async def test_since_and_until_bound_the_time(self, session: ProjectSession, table: str) -> None:
        repo = REPOSITORIES[table]
        rows = await all_of(repo, session)
        for moment in sorted({row.created_at for row in rows}):
            await self._check(repo, session, {"since": moment}, [row for row in rows if row.created_at >= moment])
            await self._check(repo, session, {"until": moment}, [row for row in rows if row.created_at < moment])
            window = {"since": moment, "until": moment + timedelta(microseconds=1)}
            await self._check(repo, session, window, [row for row in rows if row.created_at == moment])

    @pytest.mark.parametrize("table", sorted(REPOSITORIES))
    async def test_none_is_no_filter(self, session: ProjectSession, table: str) -> None:
        repo = REPOSITORIES[table]
        nothing = dict.fromkeys(get_type_hints(repo.filters))
        await self._check(repo, session, nothing, await all_of(repo, session))

    async def test_all_of_a_table_at_once(self, session: ProjectSession) -> None:
        for table in MANY:
            repo = REPOSITORIES[table]
            rows = await all_of(repo, session)
            one = rows[len(rows) // 2]
            keys = [key for name, key in VALUES if name == table and getattr(one, key) is not None]
            chosen = {key: getattr(one, key) for key in keys} | {"since": one.created_at}
            same = [row for row in rows if row.created_at >= one.created_at]
            await self._check(repo, session, chosen, [r for r in same if all(getattr(r, key) == chosen[key] for key in keys)])

    @pytest.mark.parametrize(("table", "key"), FILTERS)
    async def test_a_value_of_another_kind_is_refused(self, session: ProjectSession, table: str, key: str) -> None:
        for value in ("No Such Value", "", 7.5, True, datetime(2026, 1, 1)):  # noqa: DTZ001  # naive on purpose
            if key.startswith(FREE_TEXT) and value == "No Such Value":
                continue
            with pytest.raises(InvalidInput):
                await REPOSITORIES[table].count(session, **{key: value})

    async def _check(self, repo: Any, session: ProjectSession, filters: dict[str, Any], expected: list[Any]) -> None:
        assert await all_of(repo, session, **filters) == expected
        assert (await repo.list(session, limit=500, **filters)).items == expected
        assert await paged(repo, session, 3, **filters) == expected
        assert await repo.count(session, **filters) == len(expected)


def _fresh(kind: Any) -> Any:
    return new_id() if kind is UUID else "no_such"
