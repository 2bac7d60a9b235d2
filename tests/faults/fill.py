"""At least one row in every table of a project, by the published factories."""

from derwin_db import ProjectSession
from derwin_db.models import ProjectMode
from derwin_db.testing.factories import (
    create_artifact,
    create_doc,
    create_mode_log,
    create_past_fix,
    create_policy,
    create_profile,
    create_signal,
    create_spend,
    create_ticket,
    create_trust,
)


async def fill_all(session: ProjectSession) -> None:
    """Write to all tables that a project's session may write to, and what they log."""
    await create_profile(session)
    await create_doc(session)
    await create_signal(session)
    ticket = await create_ticket(session)
    await create_trust(session, "ui_bug")
    await create_past_fix(session)
    await create_artifact(session, ticket_id=ticket.id)
    await create_policy(session)
    await create_mode_log(session, ProjectMode.AUTHOR)
    await create_spend(session)
