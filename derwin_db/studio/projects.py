"""The first page: which project to look at."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from derwin_db import repos
from derwin_db.errors import ConfigurationError
from derwin_db.models import Project
from derwin_db.studio.asking import PAGE_SIZE, database, query
from derwin_db.studio.rendering import render

REASON = "the studio lists the projects"


async def choose(request: Request) -> Response:
    """List the projects, through the admin door; where no login may open it, a project is named by its slug."""
    asked = query(request, "cursor", "slug")
    if "slug" in asked:
        return RedirectResponse(request.url_for("overview", project=asked["slug"]).path, 303)
    projects: list[Project] = []
    cursor, refusal = None, None
    try:
        async with database(request).admin(reason=REASON) as admin:
            page = await repos.projects.list(admin, limit=PAGE_SIZE, cursor=asked.get("cursor"))
            projects, cursor = page.items, page.next_cursor
    except ConfigurationError as error:
        refusal = error.message
    return render(request, "projects.html", projects=projects, cursor=cursor, refusal=refusal, is_first="cursor" not in asked)
