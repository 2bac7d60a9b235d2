"""Columns of other kinds than our own tables have: what lists of a service's table can be ordered by, and filtered."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID

import pytest
import sqlalchemy as sa
from pydantic import NaiveDatetime
from sqlmodel import Field, select

from derwin_db import Database, ProjectSession
from derwin_db.errors import InvalidInput
from derwin_db.fields.own import OWN_REGISTRY
from derwin_db.migrations import fence
from derwin_db.repos.own import repositories
from derwin_db.tables import (
    Changing,
    Count,
    Created,
    Fields,
    Input,
    LongText,
    Money,
    ProjectTable,
    Repository,
    ShortText,
    Timestamp,
    choice,
    index,
    nullable,
    unique,
)
from derwin_db.testing import TestDatabase, TestServer
from tests.tables.test_log import a_project_of, as_operations


class Kind(StrEnum):
    NEW = "new"
    USED = "used"
    WRITTEN_OFF = "can't be {sold}"


class PartFields(Fields):
    kind: Annotated[Kind, choice(Kind)]
    user: ShortText
    end: Count
    seenBy: ShortText  # noqa: N815  # what is tried here
    weight: float
    shelf: int = Field(sa_type=sa.SmallInteger)
    is_sold: bool
    due: date
    batch: UUID
    name: str
    text: LongText
    price: Money
    seen_at: Timestamp
    sent_at: datetime
    told_at: NaiveDatetime
    lasts: timedelta
    opens: time
    code: bytes


class PartCreate(PartFields, Input):
    pass


class Part(Changing, PartFields, ProjectTable, table=True):
    __tablename__: ClassVar[str] = "own_parts"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        unique("own_parts", "name"),
        index("own_parts", "user DESC", "seenBy", "end DESC"),
    )


UNITS = sa.Table("own_units", OWN_REGISTRY.metadata, sa.Column("code", sa.Text, primary_key=True))
"""No table of projects: all of them refer to its rows."""


class BoxCreate(Input):
    unit: str
    part: str | None = nullable(ShortText)


class Box(Created, ProjectTable, table=True):
    __tablename__: ClassVar[str] = "own_boxes"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        sa.ForeignKeyConstraint(["project_id", "part"], ["public.own_parts.project_id", "public.own_parts.name"]),
    )
    unit: str = Field(foreign_key="public.own_units.code")
    part: str | None = nullable(ShortText)


TABLES = (Part.__table__, UNITS, Box.__table__)
OWN_METADATA_KEEPS_THEM_OUT = [OWN_REGISTRY.metadata.remove(table) for table in TABLES]

ORDERS = ("weight", "shelf", "is_sold", "due", "batch", "name", "text", "price", "seen_at", "sent_at")
"""What a cursor can hold a value of."""


def a_part(number: int) -> PartCreate:
    moment = datetime(2026, 1, 1 + number, tzinfo=UTC)
    return PartCreate(
        kind=list(Kind)[number],
        user=f"User {number}",
        end=number,
        seenBy=f"Viewer {number}",
        weight=number / 3,
        shelf=number,
        is_sold=number > 0,
        due=moment.date(),
        batch=UUID(int=number + 1),
        name=f"Part {number}",
        text=f"Text {number}",
        price=Decimal(number),
        seen_at=moment,
        sent_at=moment,
        told_at=moment.replace(tzinfo=None),
        lasts=timedelta(hours=number),
        opens=time(number),
        code=bytes([number]),
    )


def create_and_fence(op: Any) -> None:
    for table in TABLES:
        table.create(op.get_bind())
    op.execute("INSERT INTO own_units VALUES ('kg')")
    for name in ("own_parts", "own_boxes"):
        fence(op, name)


@pytest.fixture(scope="module")
async def database(server: TestServer) -> AsyncIterator[TestDatabase]:
    made = await asyncio.to_thread(server.migrated)
    await as_operations(made, create_and_fence)
    yield made
    await asyncio.to_thread(server.drop, made)


@pytest.fixture
async def session(database: TestDatabase) -> AsyncIterator[ProjectSession]:
    async with Database(**database.urls) as db:
        project = await a_project_of(db)
        async with db.project(project.id) as unit:
            yield unit


@pytest.fixture
def parts() -> Any:
    yield Repository(Part, create=PartCreate, orders=ORDERS)
    del repositories["own_parts"]


class TestOrders:
    async def test_go_on_from_page_to_page(self, session: ProjectSession, parts: Repository[Part, PartCreate]) -> None:
        await parts.create_many(session, [a_part(number) for number in (2, 0, 1)])
        for order in parts.allowed_orders:
            seen: list[Part] = []
            cursor = None
            while cursor is not None or not seen:
                page = await parts.list(session, limit=1, order=order, cursor=cursor)
                seen, cursor = [*seen, *page.items], page.next_cursor
            column = order.removeprefix("-")
            wanted = sorted(seen, key=lambda row: (getattr(row, column), row.id), reverse=order.startswith("-"))
            assert ([row.id for row in seen], len(seen)) == ([row.id for row in wanted], 3), order

    @pytest.mark.parametrize("name", ["told_at", "lasts", "opens", "code"])
    def test_of_what_no_cursor_holds_are_refused_at_once(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"orders: {name} is no NOT NULL column"):
            Repository(Part, create=PartCreate, orders=[name])


class TestFilters:
    async def test_bound_every_kind_of_number(self, session: ProjectSession, parts: Repository[Part, PartCreate]) -> None:
        await parts.create_many(session, [a_part(number) for number in range(3)])
        middle = a_part(1)
        for name in ("weight", "shelf", "price"):
            value = getattr(middle, name)
            assert await parts.count(session, **{f"min_{name}": value, f"max_{name}": value}) == 1, name
            assert await parts.count(session, **{f"min_{name}": value}) == 2, name

    async def test_bound_times(self, session: ProjectSession, parts: Repository[Part, PartCreate]) -> None:
        await parts.create_many(session, [a_part(number) for number in range(3)])
        for stem in ("seen", "sent"):
            moment = getattr(a_part(1), f"{stem}_at")
            assert await parts.count(session, **{f"{stem}_since": moment}) == 2, stem
            assert await parts.count(session, **{f"{stem}_until": moment}) == 1, stem

    async def test_select_by_value(self, session: ProjectSession, parts: Repository[Part, PartCreate]) -> None:
        await parts.create_many(session, [a_part(number) for number in range(3)])
        first = a_part(0)
        for name in PartFields.model_fields.keys() - {"seen_at", "sent_at", "told_at"}:
            value = getattr(first, name)
            assert await parts.count(session, **{name: value}) == 1, name
            assert await parts.count(session, **{name: [value]}) == 1, name


class TestReferences:
    async def test_that_are_no_ids_of_the_project_are_reported(
        self, session: ProjectSession, parts: Repository[Part, PartCreate]
    ) -> None:
        boxes = Repository(Box, create=BoxCreate)
        del repositories["own_boxes"]
        part = await parts.create(session, a_part(1))
        rows = [BoxCreate(unit=unit, part=name) for unit in ("kg", "no") for name in (None, part.name)]
        rows.append(BoxCreate(unit="kg", part="no"))
        report = await boxes.create_many(session, rows, on_error="report")
        assert report.inserted == 2
        assert [(failure.row, failure.code) for failure in report.failures] == [
            (2, "invalid_reference"), (3, "invalid_reference"), (4, "invalid_reference")
        ]  # fmt: skip


class TestNames:
    """Words of SQL, and capitals, which SQL without quotes takes for others."""

    @pytest.mark.parametrize(("column", "value"), [("user", ""), ("user", "x" * 501), ("end", -1), ("seenBy", "")])
    async def test_are_held_to_their_checks(
        self, session: ProjectSession, parts: Repository[Part, PartCreate], column: str, value: Any
    ) -> None:
        part = await parts.create(session, a_part(1))
        loaded = await session.sql.get_one(Part, (part.project_id, part.id))
        with pytest.raises(InvalidInput, match=column):
            async with session.savepoint():
                setattr(loaded, column, value)
                await session.sql.flush()


class TestChoice:
    @pytest.mark.parametrize("kind", Kind)
    async def test_is_stored_by_its_values_by_whatever_way(
        self, session: ProjectSession, parts: Repository[Part, PartCreate], kind: Kind
    ) -> None:
        given = a_part(0).model_copy(update={"kind": kind})
        by_verb = await parts.create(session, given)
        by_hand = Part(project_id=session.project_id, **{**given.model_dump(), "name": "Part 1"})
        session.sql.add(by_hand)
        await session.sql.flush()
        found = (await session.sql.execute(select(Part).where(Part.kind == kind))).scalars().all()
        assert {row.id for row in found} == {by_verb.id, by_hand.id}
        assert {row.kind for row in found} == {kind}
        assert await parts.count(session, kind=kind) == 2
