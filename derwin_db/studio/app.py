"""The app: routes, errors as pages, the door in front of them, and a database that starts and ends with it."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from derwin_db.database import Database
from derwin_db.studio import download, failure, fixes, overview, profile, projects, rows, schema, sql_box, ticket
from derwin_db.studio.door import LOOPBACK, Door
from derwin_db.studio.rendering import Renderer
from derwin_db.studio.views import Views

_FOLDER = Path(__file__).parent


def create_app(
    db: Database,
    *,
    token: str,
    hosts: Collection[str] = LOOPBACK,
    takes_addresses: bool = False,
    takes_sql: bool = False,
    on_start: Callable[[], object] = lambda: None,
) -> ASGIApp:
    """Return the studio of this database, below the path `/{token}/`.

    `hosts` are the names that the server goes by; with `takes_addresses` also any IP address. `takes_sql` opens the SQL box.
    `on_start` is called when the database is ready. Tables of a service are shown whose repositories this process has made.

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
            Route("/p/{project}/schema", schema.show, name="schema"),
            Route("/p/{project}/sql", sql_box.show, name="sql"),
            Route("/p/{project}/tables", rows.index, name="tables"),
            Route("/p/{project}/tables/qa_tickets/{id:uuid}", ticket.show, name="ticket"),
            Route("/p/{project}/tables/rag_corpus/{id:uuid}", fixes.show, name="fix"),
            Route("/p/{project}/tables/{table}.{form}", download.download, name="download"),
            Route("/p/{project}/tables/{table}", rows.page, name="table"),
            Route("/p/{project}/tables/{table}/{id:uuid}", rows.one, name="row"),
            Mount("/static", StaticFiles(directory=_FOLDER / "static"), name="static"),
        ],
        exception_handlers=failure.HANDLERS,
        lifespan=life,
    )
    app.state.db = db
    app.state.box = sql_box.Box() if takes_sql else None
    app.state.views = Views()
    app.state.renderer = Renderer(f"/{token}", app.state.views, takes_sql=takes_sql)
    return Door(
        app, token=token, hosts=hosts, takes_addresses=takes_addresses
    )  # outermost: an answer to a defect passes it too
