"""The tables of a project: how many rows each has, a list with filters, one row."""

from starlette.requests import Request
from starlette.responses import Response

from derwin_db import repos
from derwin_db.studio.rendering import render
from derwin_db.studio.request_params import listing, query, unit
from derwin_db.studio.views import REFERENCES, VIEWS, view_of


async def index(request: Request) -> Response:
    """Name the tables and count their rows.

    Cost:
        A statement for each table.
    """
    query(request)
    async with unit(request) as session:
        project = await repos.projects.current(session)
        counts = {name: await view.repository.count(session) for name, view in VIEWS.items()}
    return render(request, "tables.html", project=project, section="tables", views=VIEWS.values(), counts=counts)


async def page(request: Request) -> Response:
    """Show a page of a table.

    Cost:
        Three statements, two of which go through an index.
    """
    view = view_of(request.path_params["table"])
    asked, found = listing(request, view.filters)
    counted = {name: value for name, value in found.items() if name not in ("limit", "cursor")}
    async with unit(request) as session:
        project = await repos.projects.current(session)
        rows = await view.repository.list(session, **found)
        total = await view.repository.count(session, **counted)
    return render(
        request,
        "table.html",
        project=project,
        section="tables",
        views=VIEWS.values(),
        view=view,
        rows=rows,
        total=total,
        asked=asked,
        limit=found["limit"],
        is_first="cursor" not in found,
        references=REFERENCES,
    )


async def one(request: Request) -> Response:
    """Show a row, and where those that belong to it are."""
    view = view_of(request.path_params["table"])
    query(request)
    async with unit(request) as session:
        project = await repos.projects.current(session)
        row = await view.repository.get(session, request.path_params["id"])
    return render(request, "row.html", project=project, section="tables", view=view, row=row, references=REFERENCES)
