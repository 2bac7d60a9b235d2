"""qa_tickets: every edge of the state machine, and every one that is none."""

from itertools import pairwise
from typing import Any

import pytest

from derwin_db import ProjectSession, repos
from derwin_db.errors import Conflict, IllegalTransition, InvalidInput, InvalidReference, NotFound, StaleWrite
from derwin_db.fields.scalars import new_id
from derwin_db.models import QATicket, TicketStatus
from tests.repos.rows import a_ticket

S = TicketStatus
OPEN = (S.OPEN, S.TRIAGED, S.IN_PROGRESS, S.FIX_PROPOSED)
LEGAL = {
    *zip(OPEN, (*OPEN[1:], S.RESOLVED), strict=True),
    *((status, out) for status in OPEN for out in (S.REJECTED, S.WONT_FIX)),
    (S.RESOLVED, S.OPEN),
    (S.FIX_PROPOSED, S.IN_PROGRESS),
}
"""OPEN -> TRIAGED -> IN_PROGRESS -> FIX_PROPOSED -> RESOLVED; any open one -> REJECTED | WONT_FIX; RESOLVED ->
OPEN; FIX_PROPOSED -> IN_PROGRESS."""

ILLEGAL = sorted({(one, other) for one in S for other in S} - LEGAL)


async def in_status(session: ProjectSession, status: TicketStatus) -> QATicket:
    row = await repos.qa_tickets.create(session, a_ticket())
    if status is S.DUPLICATE:
        other = await repos.qa_tickets.create(session, a_ticket())
        return await repos.qa_tickets.mark_duplicate(session, row.id, other.id)
    path = [status] if status in (S.REJECTED, S.WONT_FIX) else [*OPEN, S.RESOLVED][1 : [*OPEN, S.RESOLVED].index(status) + 1]
    for to in path:
        row = await repos.qa_tickets.transition(session, row.id, to)
    assert row.status is status
    return row


class TestTransition:
    def test_there_are_fourteen_edges(self) -> None:
        assert len(LEGAL) == 14

    @pytest.mark.parametrize(("status", "to"), sorted(LEGAL))
    async def test_a_legal_move(self, session: ProjectSession, status: TicketStatus, to: TicketStatus) -> None:
        ticket = await in_status(session, status)
        row = await repos.qa_tickets.transition(session, ticket.id, to)
        changed = {"status": to, "version": ticket.version + 1, "updated_at": row.updated_at}
        changed["resolved_at"] = row.updated_at if to is S.RESOLVED else None
        assert row == ticket.model_copy(update=changed)

    @pytest.mark.parametrize(("status", "to"), ILLEGAL)
    async def test_any_other_move_is_refused_and_changes_nothing(
        self, session: ProjectSession, status: TicketStatus, to: TicketStatus
    ) -> None:
        ticket = await in_status(session, status)
        for expected in (None, ticket.version):
            with pytest.raises(IllegalTransition):
                await repos.qa_tickets.transition(session, ticket.id, to, expected_version=expected)
        assert await repos.qa_tickets.get(session, ticket.id) == ticket

    async def test_the_expected_version(self, session: ProjectSession) -> None:
        ticket = await in_status(session, S.OPEN)
        with pytest.raises(StaleWrite):
            await repos.qa_tickets.transition(session, ticket.id, S.TRIAGED, expected_version=2)
        assert (await repos.qa_tickets.transition(session, ticket.id, S.TRIAGED, expected_version=1)).version == 2
        with pytest.raises(StaleWrite):
            await repos.qa_tickets.transition(session, ticket.id, S.IN_PROGRESS, expected_version=1)

    async def test_an_unknown_ticket_is_not_found(self, session: ProjectSession) -> None:
        with pytest.raises(NotFound):
            await repos.qa_tickets.transition(session, new_id(), S.TRIAGED)

    async def test_takes_a_statuss_name(self, session: ProjectSession) -> None:
        ticket = await in_status(session, S.OPEN)
        assert (await repos.qa_tickets.transition(session, ticket.id, "TRIAGED")).status is S.TRIAGED  # type: ignore[arg-type]

    @pytest.mark.parametrize("bad", [{"to": "triaged"}, {"to": None}, {"to": 1}, {"expected_version": 0}, {"id": "x"}])
    async def test_bad_input_is_refused(self, session: ProjectSession, bad: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput, match=next(iter(bad))):
            await repos.qa_tickets.transition(session, **{"id": new_id(), "to": S.TRIAGED, **bad})


class TestMarkDuplicate:
    @pytest.mark.parametrize("status", OPEN)
    async def test_ends_an_open_ticket(self, session: ProjectSession, status: TicketStatus) -> None:
        ticket, other = await in_status(session, status), await in_status(session, S.RESOLVED)
        row = await repos.qa_tickets.mark_duplicate(session, ticket.id, other.id)
        changed = {"status": S.DUPLICATE, "duplicate_of_id": other.id, "version": ticket.version + 1}
        assert row == ticket.model_copy(update={**changed, "updated_at": row.updated_at})
        assert await repos.qa_tickets.get(session, other.id) == other

    @pytest.mark.parametrize("status", [status for status in S if status not in OPEN])
    async def test_another_one_is_refused_and_not_changed(self, session: ProjectSession, status: TicketStatus) -> None:
        ticket, other = await in_status(session, status), await in_status(session, S.OPEN)
        with pytest.raises(IllegalTransition):
            await repos.qa_tickets.mark_duplicate(session, ticket.id, other.id)
        assert await repos.qa_tickets.get(session, ticket.id) == ticket

    async def test_unknown_tickets(self, session: ProjectSession) -> None:
        ticket = await in_status(session, S.OPEN)
        with pytest.raises(NotFound):
            await repos.qa_tickets.mark_duplicate(session, new_id(), ticket.id)
        with pytest.raises(InvalidReference):
            await repos.qa_tickets.mark_duplicate(session, ticket.id, new_id())
        with pytest.raises(NotFound):
            await repos.qa_tickets.mark_duplicate(session, new_id(), new_id())
        assert await repos.qa_tickets.get(session, ticket.id) == ticket

    async def test_a_chain_grows_and_never_closes(self, session: ProjectSession) -> None:
        ids = [(await in_status(session, S.OPEN)).id for _ in range(6)]
        for one, other in pairwise(ids):
            await repos.qa_tickets.mark_duplicate(session, one, other)
        for of in ids:
            with pytest.raises(Conflict):
                await repos.qa_tickets.mark_duplicate(session, ids[-1], of)
        outside = (await in_status(session, S.OPEN)).id
        assert (await repos.qa_tickets.mark_duplicate(session, ids[-1], outside)).duplicate_of_id == outside
        another = (await in_status(session, S.OPEN)).id
        assert (await repos.qa_tickets.mark_duplicate(session, another, ids[0])).duplicate_of_id == ids[0]
