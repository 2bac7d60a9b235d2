"""Findings over a web socket: each message is stored in a unit of work of its own, and acknowledged when it is committed."""

from typing import Annotated

from fastapi import APIRouter, Depends, WebSocket, WebSocketDisconnect
from pydantic import ValidationError

from derwin_db import repos
from derwin_db.errors import DerwinError
from derwin_db.fastapi import OpenUnit, scoped_units
from derwin_db.models import QATicketCreate
from examples.service.access import User, db, user_of

router = APIRouter(prefix="/projects/{project}/tickets", tags=["tickets"])


def may_send(project: str, user: Annotated[User, Depends(user_of)]) -> str:
    """Return the project of the path, for those who may write there. The token comes with the address: `?token=...`."""
    return user.project_to_write(project)


Units = Annotated[OpenUnit, scoped_units(db, authorize=may_send)]


@router.websocket("/live")
async def live(socket: WebSocket, unit: Units) -> None:
    """Store each ticket that is sent, and answer with its id, or with what is wrong with it."""
    await socket.accept()
    try:
        while True:
            await socket.send_json(await _stored(unit, await socket.receive_text()))
    except WebSocketDisconnect:
        return  # what was acknowledged is stored


async def _stored(unit: OpenUnit, text: str) -> dict[str, str]:
    try:
        data = QATicketCreate.model_validate_json(text)
        async with unit() as session:
            ticket = await repos.qa_tickets.create(session, data)
    except ValidationError:
        return {"error": "invalid_input"}
    except DerwinError as error:
        return {"error": error.code}
    return {"stored": str(ticket.id)}
