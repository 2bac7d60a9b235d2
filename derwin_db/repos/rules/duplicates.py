"""Chains of duplicates: which ticket ends up as the duplicate of which, and how a chain is locked so that none closes.

Two units may mark tickets that have no ticket in common, and still close a circle together: what they have in common are
the ends of their chains.
"""

from functools import cache
from uuid import UUID

import sqlalchemy as sa

from derwin_db.errors import Conflict
from derwin_db.models.qa_ticket import QATicket
from derwin_db.query.builders import param, scope_of, scoped, scoped_update, table_of
from derwin_db.query.statement import Statement, entities, scalars
from derwin_db.session import ProjectSession

_TICKETS = table_of(QATicket)
_ID = param("id", _TICKETS.c.id)


async def lock_chain(session: ProjectSession, id: UUID, of: UUID) -> tuple[dict[UUID, QATicket], set[UUID]]:
    """Lock a ticket and the chain of another one; once more, where the chain grew before its end was locked.

    That second time nothing is waited for: what it lacks may stand before what is locked already, in the order of ids.
    """
    for waits in (True, False):
        rows = {row.id: row for row in await session.fetch(_lock_chain_statement(waits=waits), {"id": id, "of": of})}
        chain = set(await session.fetch(_chain_statement(), {"of": of}))
        if not chain - rows.keys() - {of}:
            return rows, chain
    raise Conflict("The other ticket is becoming a duplicate at the same time. Look at it again.")


async def lock_with_duplicates(session: ProjectSession, id: UUID) -> QATicket | None:
    """Lock a ticket, against references to it too, and what is marked as its duplicate. Returns the ticket, if it exists."""
    rows = await session.fetch(_lock_with_duplicates_statement(), {"id": id})
    return next((row for row in rows if row.id == id), None)


def released(id: sa.ColumnElement[UUID]) -> sa.Update:
    """Return the update that has the duplicates of a ticket name none."""
    return scoped_update(QATicket).where(_TICKETS.c.duplicate_of_id == id).values(duplicate_of_id=None)


def _chain() -> sa.CTE:
    """The other ticket, and those that it is a duplicate of, one after the other."""
    chain = sa.select(param("of", _TICKETS.c.id).label("id")).cte("chain", recursive=True)
    further = _TICKETS.alias("further")
    step = sa.select(further.c.duplicate_of_id).select_from(further.join(chain, further.c.id == chain.c.id))
    return chain.union(step.where(scope_of(further), further.c.duplicate_of_id.is_not(None)))


@cache
def _chain_statement() -> Statement[UUID]:
    return scalars("qa_tickets.mark_duplicate", sa.select(_chain().c.id))


@cache
def _lock_chain_statement(*, waits: bool) -> Statement[QATicket]:
    ids = sa.func.array_append(sa.func.array(sa.select(_chain().c.id).scalar_subquery()), _ID)
    query = scoped(QATicket).where(_TICKETS.c.id == sa.any_(ids)).order_by(_TICKETS.c.id)
    return entities("qa_tickets.mark_duplicate", query.with_for_update(key_share=True, skip_locked=not waits), QATicket)


@cache
def _lock_with_duplicates_statement() -> Statement[QATicket]:
    """In the order of their ids, as chains are locked."""
    query = scoped(QATicket).where(sa.or_(_TICKETS.c.id == _ID, _TICKETS.c.duplicate_of_id == _ID))
    return entities("qa_tickets.delete", query.order_by(_TICKETS.c.id).with_for_update(), QATicket)
