"""The first page: which project to look at."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from derwin_db import repos
from derwin_db.errors import ConfigurationError, ProjectNotFound, ScopeError
from derwin_db.models import Project
from derwin_db.paging import Page
from derwin_db.session import parse_project
from derwin_db.studio.listing import PAGE_SIZE
from derwin_db.studio.rendering import render, url
from derwin_db.studio.request_params import database, query

REASON = "the studio lists the projects"


async def choose(request: Request) -> Response:
    """List the projects, through the admin door; where no login may open it, a project is named by its slug."""
    asked = query(request, "cursor", "slug")
    if "slug" in asked:
        return RedirectResponse(url(request, f"p/{_named(asked['slug'])}/"), 303)
    page, refusal = Page[Project](items=[]), None
    try:
        async with database(request).admin(reason=REASON) as admin:
            page = await repos.projects.list(admin, limit=PAGE_SIZE, cursor=asked.get("cursor"))
    except ConfigurationError as error:
        refusal = error.message
    return render(
        request, "projects.html", projects=page.items, cursor=page.next_cursor, refusal=refusal, is_first="cursor" not in asked
    )


def _named(slug: str) -> str:
    """Return what was typed, if it can name a project.

    Errors:
        ProjectNotFound.
    """
    try:
        parse_project(slug)
    except ScopeError:
        raise ProjectNotFound from None
    return slug
