"""Statuses change along their state machines, whoever writes: the database has the same edges as the models."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import permutations
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import sqlalchemy as sa

from derwin_db import ProjectSession, repos
from derwin_db.errors import IllegalTransition, InvalidInput
from derwin_db.fields.scalars import new_id
from derwin_db.models import FixStatus, QATicket, RunStatus, TicketStatus, qa_fix_attempt, qa_run, qa_ticket
from derwin_db.testing.factories import create_fix_attempt, create_run, create_ticket

MACHINES: dict[str, tuple[type[StrEnum], Mapping[Any, tuple[Any, ...]]]] = {
    "qa_tickets": (TicketStatus, {**qa_ticket.TRANSITIONS, TicketStatus.DUPLICATE: qa_ticket.OPEN_STATUSES}),
    "qa_runs": (RunStatus, qa_run.TRANSITIONS),
    "qa_fix_attempts": (FixStatus, qa_fix_attempt.TRANSITIONS),
}
MAKERS = {"qa_tickets": create_ticket, "qa_runs": create_run, "qa_fix_attempts": create_fix_attempt}


def moves(table: str) -> Iterator[tuple[StrEnum, StrEnum, bool]]:
    """Yield each move between two statuses, and whether the models have it."""
    labels, edges = MACHINES[table]
    for before, after in permutations(labels, 2):
        yield before, after, before in edges.get(after, ())


async def placed_at(session: ProjectSession, row: Any, status: StrEnum, number: int) -> UUID:
    """Write a row like this one that has the status from the start, as an import does."""
    table = type(row).__table__
    values = {column.name: getattr(row, column.name) for column in table.c}
    values |= {"id": new_id(), "status": status} | ({"attempt_no": number} if "attempt_no" in table.c else {})
    await session.sql.execute(sa.insert(table).values(values))
    return values["id"]


async def is_taken(session: ProjectSession, table: str, id: UUID, before: StrEnum, after: StrEnum) -> bool:
    """Move a row by hand; say whether the database let it, and leave no trace."""
    more = ", duplicate_of_id = id" if after == "DUPLICATE" else ""
    move = sa.text(f"UPDATE {table} SET status = :after{more} WHERE id = :id AND status = :before")
    try:
        async with session.savepoint():
            moved = await session.sql.execute(move, {"id": id, "before": before, "after": after})
            assert moved.rowcount == 1  # type: ignore[attr-defined]
            raise Undone
    except IllegalTransition:
        return False
    except Undone:
        return True


class Undone(Exception):
    """Ends a savepoint."""


class TestByHand:
    @pytest.mark.parametrize("table", MACHINES)
    async def test_the_database_has_the_edges_of_the_models(self, project_session, table):
        row = await MAKERS[table](project_session)
        seen, expected = {}, {}
        for number, before in enumerate(MACHINES[table][0], 2):
            placed = await placed_at(project_session, row, before, number)
            for start, after, is_legal in moves(table):
                if start is before:
                    expected[start, after] = is_legal
                    seen[start, after] = await is_taken(project_session, table, placed, start, after)
        assert seen == expected

    @pytest.mark.parametrize(
        ("status", "error", "words"),
        [
            (
                "DUPLICATE",
                IllegalTransition,
                r"does not change this way \(column status of table qa_tickets\)",
            ),  # names no other ticket
            ("DONE", InvalidInput, "status"),  # told by its CHECK
        ],
    )
    async def test_the_error_names_the_cause(self, project_session, status, error, words):
        ticket = await create_ticket(project_session)
        move = sa.text("UPDATE qa_tickets SET status = :status WHERE id = :id")
        with pytest.raises(error, match=words):
            async with project_session.savepoint():
                await project_session.sql.execute(move, {"id": ticket.id, "status": status})

    async def test_through_the_orm(self, project_session):
        ticket = await create_ticket(project_session)
        loaded = await project_session.sql.get_one(QATicket, (ticket.project_id, ticket.id))
        with pytest.raises(IllegalTransition):
            async with project_session.savepoint():
                loaded.status = TicketStatus.RESOLVED
                await project_session.sql.flush()

    async def test_the_owner_may_repair(self, db, new_project, migrated):
        async with db.project((await new_project()).id) as session:
            ticket = await create_ticket(session)
        connection = await asyncpg.connect(**migrated.owner.connect_arguments())
        await connection.execute("UPDATE qa_tickets SET status = 'RESOLVED' WHERE id = $1", ticket.id)
        await connection.close()
        async with db.project(ticket.project_id) as session:
            assert (await repos.qa_tickets.get(session, ticket.id)).status is TicketStatus.RESOLVED
