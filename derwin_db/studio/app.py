"""The app: routes, errors as pages, the door in front of them, and a database that starts and ends with it."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from derwin_db.database import Database
from derwin_db.studio import failure, fixes, overview, profile, projects, rows, ticket
from derwin_db.studio.door import LOOPBACK, Door
from derwin_db.studio.rendering import Renderer

_FOLDER = Path(__file__).parent


def create_app(
    db: Database,
    *,
    token: str,
    hosts: Collection[str] = LOOPBACK,
    takes_addresses: bool = False,
    on_start: Callable[[], object] = lambda: None,
) -> ASGIApp:
    """Return the studio of this database, below the path `/{token}/`.

    `hosts` are the names that the server goes by; with `takes_addresses` also any IP address. `on_start` is called when the
    database is ready.

    Errors:
        At start: what `Database.start` raises.
    """

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        async with db:
            on_start()
            yield

    app = Starlette(
        routes=[
            Route("/", projects.choose, name="projects"),
            Route("/p/{project}/", overview.show, name="overview"),
            Route("/p/{project}/profile", profile.show, name="profile"),
            Route("/p/{project}/fixes", fixes.search, name="fixes"),
            Route("/p/{project}/tables", rows.index, name="tables"),
            Route("/p/{project}/tables/qa_tickets/{id:uuid}", ticket.show, name="ticket"),
            Route("/p/{project}/tables/rag_corpus/{id:uuid}", fixes.show, name="fix"),
            Route("/p/{project}/tables/{table}", rows.page, name="table"),
            Route("/p/{project}/tables/{table}/{id:uuid}", rows.one, name="row"),
            Mount("/static", StaticFiles(directory=_FOLDER / "static"), name="static"),
        ],
        exception_handlers=failure.HANDLERS,
        lifespan=life,
    )
    app.state.db = db
    app.state.renderer = Renderer(f"/{token}")
    return Door(
        app, token=token, hosts=hosts, takes_addresses=takes_addresses
    )  # outermost: an answer to a defect passes it too
