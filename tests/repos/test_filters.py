"""What filters take beside one value, on every table, compared with Python's own answer."""

from collections.abc import AsyncIterator
from typing import Any, get_type_hints
from uuid import UUID

import pytest

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import InvalidInput, TooLarge
from derwin_db.fields.scalars import new_id
from derwin_db.filters import IS_NULL, Not, not_
from derwin_db.models import Bucket, TicketStatus
from derwin_db.repos.conditions import FilterType, bound_of, column_of
from tests.repos.conftest import Filled
from tests.repos.filling import REPOSITORIES
from tests.repos.rows import a_ticket

TYPES = {
    name: {key: FilterType(hint) for key, hint in get_type_hints(repo.filters, include_extras=True).items()}
    for name, repo in REPOSITORIES.items()
}
VALUES = [(name, key) for name, types in TYPES.items() for key, kind in types.items() if kind.takes_many]
BOUNDS = [(name, key) for name, types in TYPES.items() for key, kind in types.items() if not kind.takes_many]
NULLABLE = [(name, key) for name, key in VALUES if TYPES[name][key].is_optional]


@pytest.fixture
async def session(db: Database, filled: Filled) -> AsyncIterator[ProjectSession]:
    async with db.project(filled.project, read_only=True) as unit:
        yield unit


class Table:
    """All rows of one table, and what a filter makes of them."""

    def __init__(self, name: str, session: ProjectSession) -> None:
        self.repo, self.session = REPOSITORIES[name], session
        self.rows: list[Any] = []

    async def read(self) -> "Table":
        self.rows = [row async for row in self.repo.stream(self.session)]
        return self

    def values(self, key: str) -> list[Any]:
        return sorted({getattr(row, key) for row in self.rows} - {None}, key=str)

    async def check(self, expected: list[Any], **filters: Any) -> None:
        assert (await self.repo.list(self.session, limit=500, **filters)).items == expected
        assert [row async for row in self.repo.stream(self.session, **filters)] == expected
        assert await self.repo.count(self.session, **filters) == len(expected)


async def read(name: str, session: ProjectSession) -> Table:
    return await Table(name, session).read()


class TestSeveral:
    @pytest.mark.parametrize(("name", "key"), VALUES)
    async def test_select_the_rows_of_each(self, session: ProjectSession, name: str, key: str) -> None:
        table = await read(name, session)
        chosen = table.values(key)[:2]
        expected = [row for row in table.rows if getattr(row, key) in chosen]
        for several in (chosen, tuple(chosen), set(chosen), frozenset(chosen), chosen * 2):
            await table.check(expected, **{key: several})

    async def test_none_of_none(self, session: ProjectSession) -> None:
        table = await read("qa_tickets", session)
        await table.check([], status=[])
        await table.check(table.rows, status=not_([]))

    async def test_pages_go_on_in_the_order_that_was_given_or_another(self, session: ProjectSession) -> None:
        first = await repos.qa_tickets.list(session, limit=1, status=[TicketStatus.OPEN, TicketStatus.WONT_FIX])
        more = await repos.qa_tickets.list(
            session, limit=1, cursor=first.next_cursor, status={TicketStatus.WONT_FIX, TicketStatus.OPEN}
        )
        assert more.items != first.items

    @pytest.mark.parametrize("several", [["OPEN", "NO_SUCH"], [None], [["OPEN"]], [7], [not_(TicketStatus.OPEN)], {"OPEN": 1}])
    async def test_each_is_checked(self, session: ProjectSession, several: Any) -> None:
        with pytest.raises(InvalidInput, match=r"^status"):
            await repos.qa_tickets.count(session, status=several)

    async def test_are_at_most_a_thousand(self, session: ProjectSession) -> None:
        ids = [new_id() for _ in range(1000)]
        assert await repos.qa_tickets.count(session, run_id=ids) == 0
        with pytest.raises(TooLarge, match=r"^run_id: at most 1000"):
            await repos.qa_tickets.count(session, run_id=[*ids, new_id()])


class TestIsNull:
    @pytest.mark.parametrize(("name", "key"), NULLABLE)
    async def test_selects_rows_without_a_value(self, session: ProjectSession, name: str, key: str) -> None:
        table = await read(name, session)
        without = [row for row in table.rows if getattr(row, key) is None]
        assert without
        await table.check(without, **{key: IS_NULL})
        await table.check([row for row in table.rows if getattr(row, key) is not None], **{key: not_(IS_NULL)})

    @pytest.mark.parametrize(("name", "key"), NULLABLE)
    async def test_stands_beside_values(self, session: ProjectSession, name: str, key: str) -> None:
        table = await read(name, session)
        [one, *_] = table.values(key)
        either = [row for row in table.rows if getattr(row, key) in {None, one}]
        await table.check(either, **{key: [IS_NULL, one]})
        await table.check([row for row in table.rows if row not in either], **{key: not_([one, IS_NULL])})

    @pytest.mark.parametrize(("name", "key"), [pair for pair in VALUES if pair not in NULLABLE])
    async def test_is_refused_where_every_row_has_one(self, session: ProjectSession, name: str, key: str) -> None:
        for given in (IS_NULL, [IS_NULL], not_(IS_NULL), not_([IS_NULL])):
            with pytest.raises(InvalidInput, match=f"^{key}: every row has a value"):
                await REPOSITORIES[name].count(session, **{key: given})

    @pytest.mark.parametrize(("name", "key"), [*NULLABLE, *BOUNDS])
    async def test_none_is_still_no_filter(self, session: ProjectSession, name: str, key: str) -> None:
        table = await read(name, session)
        await table.check(table.rows, **{key: None})


class TestNot:
    @pytest.mark.parametrize(("name", "key"), VALUES)
    async def test_selects_every_other_row(self, session: ProjectSession, name: str, key: str) -> None:
        table = await read(name, session)
        [one, *more] = table.values(key)
        await table.check([row for row in table.rows if getattr(row, key) != one], **{key: not_(one)})
        left_out = [one, *more[:1]]
        await table.check([row for row in table.rows if getattr(row, key) not in left_out], **{key: not_(left_out)})

    @pytest.mark.parametrize(
        ("value", "said"),
        [(None, "not_ is of one value"), (not_(Bucket.NOISE), "not_ is of one value"), ("NO_SUCH", ""), ([None], "")],
    )
    async def test_of_nothing_is_refused(self, session: ProjectSession, value: Any, said: str) -> None:
        with pytest.raises(InvalidInput, match=f"^final_bucket: {said}"):
            await repos.qa_tickets.count(session, final_bucket=Not(value))

    @pytest.mark.parametrize(("name", "key"), BOUNDS)
    async def test_is_no_bound(self, session: ProjectSession, name: str, key: str) -> None:
        table = await read(name, session)
        value = next(iter(table.values(column_of(table.repo.model.__table__, key).name)), "x")
        for given in (not_(value), [value], IS_NULL):
            with pytest.raises(InvalidInput, match=f"^{key}"):
                await table.repo.count(session, **{key: given})

    def test_says_what_it_is(self) -> None:
        assert repr(not_(IS_NULL)) == "not_(IS_NULL)"


class TestBounds:
    @pytest.mark.parametrize(("name", "key"), [pair for pair in BOUNDS if not pair[1].endswith("_prefix")])
    async def test_select_from_and_up_to(self, session: ProjectSession, name: str, key: str) -> None:
        table = await read(name, session)
        column, compare = bound_of(key)
        values = table.values(column)
        assert values
        for value in (values[0], values[len(values) // 2], values[-1]):
            inside = [row for row in table.rows if (own := getattr(row, column)) is not None and compare(own, value)]
            await table.check(inside, **{key: value})

    async def test_scores_include_both_ends_and_times_only_the_first(self, session: ProjectSession) -> None:
        table = await read("qa_tickets", session)
        score, resolved = table.values("risk_score")[0], table.values("resolved_at")[0]
        await table.check([row for row in table.rows if row.risk_score == score], min_risk_score=score, max_risk_score=score)
        await table.check([], resolved_since=resolved, resolved_until=resolved)

    @pytest.mark.parametrize("score", [-0.1, 1.1, True, "0.5", float("nan")])
    async def test_are_of_the_column(self, session: ProjectSession, score: Any) -> None:
        with pytest.raises(InvalidInput, match=r"^min_risk_score"):
            await repos.qa_tickets.count(session, min_risk_score=score)


class TestPrefix:
    TEXTS = ("a", "ab", "ab c", "ab\U0010ffff", "ab\U0010ffff\U0010ffffx", "aB", "ac", "b", "ä", "äb", "%", "_", "a" * 128)

    @pytest.fixture
    async def texts(self, db: Database, project: Any) -> UUID:
        async with db.project(project.id) as unit:
            await repos.qa_tickets.create_many(unit, [a_ticket(fingerprint=text) for text in self.TEXTS])
        return project.id

    @pytest.mark.parametrize("prefix", [*TEXTS, "x", "ab\U0010ffff\U0010ffff", "B", "A", "\U0010ffff"])
    async def test_is_by_code_points_in_any_collation(self, db: Database, texts: UUID, prefix: str) -> None:
        async with db.project(texts, read_only=True) as unit:
            found = [row.fingerprint async for row in repos.qa_tickets.stream(unit, fingerprint_prefix=prefix)]
        assert sorted(found) == sorted(text for text in self.TEXTS if text.startswith(prefix))

    @pytest.mark.parametrize("name", [name for name, key in BOUNDS if key == "classification_prefix"])
    async def test_of_a_classification(self, session: ProjectSession, name: str) -> None:
        table = await read(name, session)
        for prefix in ("class_", "class_1", "f", "zz"):
            matching = [row for row in table.rows if row.classification.startswith(prefix)]
            await table.check(matching, classification_prefix=prefix)

    @pytest.mark.parametrize("prefix", ["", "Ui", "ui bug", 7, ["ui"]])
    async def test_is_of_the_column(self, session: ProjectSession, prefix: Any) -> None:
        with pytest.raises(InvalidInput, match=r"^classification_prefix"):
            await repos.qa_tickets.count(session, classification_prefix=prefix)


class TestNames:
    def test_every_filter_is_about_a_column(self) -> None:
        for name, types in TYPES.items():
            table = REPOSITORIES[name].model.__table__
            for key, kind in types.items():
                column = column_of(table, key)
                assert kind.takes_many is (key in table.c)
                assert kind.is_optional is (key in table.c and column.nullable)
