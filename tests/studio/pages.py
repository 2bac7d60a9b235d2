"""The addresses of all pages of a project, found in what the project holds."""

from derwin_db import Database
from derwin_db.studio.views import VIEWS


async def pages_of(data: Database, slug: str) -> list[str]:
    """Every kind of page, and of every table one row."""
    found = [f"p/{slug}/{name}" for name in ("", "tables", "profile", "fixes", "fixes?words=a", "?days=14")]
    async with data.project(slug, read_only=True) as session:
        for name, view in VIEWS.items():
            found.append(f"p/{slug}/tables/{name}")
            rows = (await view.repository.list(session, limit=1)).items
            found += [f"p/{slug}/tables/{name}/{row.id}" for row in rows]
    return found
