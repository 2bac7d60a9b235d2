"""The addresses of all pages of a project, found in what the project holds."""

from urllib.parse import quote

from derwin_db import Database
from derwin_db.studio.views import VIEWS

SQL = "SELECT title, risk_score, created_at FROM qa_tickets ORDER BY risk_score DESC"
KINDS = (
    "",
    "?days=14",
    "profile",
    "tables",
    "schema",
    "sql",
    f"sql?statement={quote(SQL)}",
    "tables/qa_tickets?with-words=a",
    "tables/rag_corpus?with-words=a",
    "tables/qa_tickets?status=OPEN&status=TRIAGED&is-none=duplicate_of_id&order=-risk_score&with-column=title&with-column=run_id",
)
"""Every kind of page but tables and rows."""

WRONG = tuple(f"p/lifeline/{page}" for page in ("tables/qa_tickets?min_risk_score=x&since=y", "sql?statement=DROP", "nothing"))
"""Pages that are asked badly, or that there are none of: the server refuses them, and shows why."""


async def pages_of(data: Database, slug: str) -> list[str]:
    """Every kind of page, and of every table one row."""
    found = [f"p/{slug}/{name}" for name in KINDS]
    async with data.project(slug, read_only=True) as session:
        for name, view in VIEWS.items():
            found.append(f"p/{slug}/tables/{name}")
            rows = (await view.repository.list(session, limit=1)).items
            found += [f"p/{slug}/tables/{name}/{row.id}" for row in rows]
    return found
