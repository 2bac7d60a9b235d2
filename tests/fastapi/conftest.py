"""A service on the tests' database, called in this process: requests go through ASGI, without a socket."""

from typing import Annotated, Any, NamedTuple

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

from derwin_db import Database, ProjectSession
from derwin_db.fastapi import install_error_handlers, scoped

bearer = HTTPBearer(auto_error=False)


def may_access(project: str, _: Annotated[Any, Depends(bearer)]) -> str:
    """Everybody may; what a service decides is not what is tested here."""
    return project


class Scopes(NamedTuple):
    """The annotations of a service's sessions."""

    write: Any
    read: Any
    stream: Any


@pytest.fixture
def scopes(db: Database) -> Scopes:
    """Sessions of the tests' database."""
    return Scopes(
        Annotated[ProjectSession, scoped(db, authorize=may_access)],
        Annotated[ProjectSession, scoped(db, authorize=may_access, read_only=True)],
        Annotated[ProjectSession, scoped(db, authorize=may_access, read_only=True, streaming=True)],
    )


@pytest.fixture
def app() -> FastAPI:
    """An app with the handlers, and no routes yet."""
    made = FastAPI()
    install_error_handlers(made)
    return made


@pytest.fixture
async def client(app: FastAPI) -> Any:
    """A client of the app."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as opened:
        yield opened
