"""The tables of a project: how many rows each has, a list with filters, one row."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from derwin_db import repos
from derwin_db.errors import InvalidCursor, InvalidInput
from derwin_db.paging import Page
from derwin_db.session import ProjectSession
from derwin_db.studio.listing import Listing
from derwin_db.studio.related import children_of, names_of
from derwin_db.studio.rendering import render
from derwin_db.studio.request_params import current, query, unit, views


async def index(request: Request) -> Response:
    """Name the tables and count their rows, each up to 10,000.

    Cost:
        Two statements for each table.
    """
    query(request)
    async with unit(request) as session:
        project = await current(request, session)
        shown = views(request)
        counts = {view.name: await view.repository.list(session, limit=1, with_total=True) for view in shown.all()}
    return render(
        request,
        "tables.html",
        project=project,
        section="tables",
        listed=shown.all(),
        counts=counts,
        unknown=shown.unknown,
    )


async def page(request: Request) -> Response:
    """Show a page of a table. What can't be asked stays in its fields, and says why.

    Cost:
        Three statements, and one for each table that the columns shown refer to.
    """
    async with unit(request) as session:
        project = await current(request, session)
    view = views(request).of(request.path_params["table"])
    listing = Listing.of(view, request.query_params)
    rows, names = None, {}
    if not listing.errors:
        try:
            async with unit(request) as session:  # of its own: what the server refuses ends it
                rows = await read_page(session, listing, limit=listing.limit, cursor=listing.cursor, with_total=True)
                names = await names_of(session, views(request), view, rows.items, listing.columns)
        except InvalidCursor:
            raise
        except InvalidInput as error:
            listing.note(error)
    return render(
        request,
        "table.html",
        status_code=422 if listing.errors else 200,
        project=project,
        section=view.name,
        view=view,
        listing=listing,
        rows=rows,
        names=names,
    )


async def read_page(
    session: ProjectSession, listing: Listing, *, limit: int, cursor: str | None, with_total: bool
) -> Page[Any]:
    """Return a part of what was asked for: of the list, or of a search by words, which has no total."""
    view = listing.view
    if not listing.words:
        return await view.repository.list(  # type: ignore[no-any-return]  # repositories have no type in common
            session, limit=limit, cursor=cursor, order=listing.order, with_total=with_total, **listing.keywords
        )
    if view.name == "rag_corpus":
        matches = await repos.rag_corpus.search(session, text=listing.words, limit=limit, **listing.keywords)
        return Page[Any].model_construct(items=[match.entry for match in matches])
    return await view.repository.search(  # type: ignore[no-any-return]
        session, listing.words, limit=limit, cursor=cursor, **listing.keywords
    )


async def one(request: Request) -> Response:
    """Show a row, what it names, and where those that name it are.

    Cost:
        A statement for each table that it names, two for each that names it.
    """
    query(request)
    async with unit(request) as session:
        project = await current(request, session)
        view = views(request).of(request.path_params["table"])
        row = await view.repository.get(session, request.path_params["id"])
        names = await names_of(session, views(request), view, [row])
        children = await children_of(session, views(request), view, row)
    return render(request, "row.html", project=project, section=view.name, view=view, row=row, names=names, children=children)
