"""A past fix, and those that are similar to it."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from derwin_db import repos
from derwin_db.models import RAGCorpus
from derwin_db.session import ProjectSession
from derwin_db.studio.related import names_of
from derwin_db.studio.rendering import render
from derwin_db.studio.request_params import current, query, unit, views
from derwin_db.studio.views import VIEWS

_NEIGHBOURS = 10
_LONGEST = 10_000
"""Characters of a text that is searched for."""


async def show(request: Request) -> Response:
    """Show a past fix and those most similar to it: by their embeddings, or by their words where it has none.

    Cost:
        Five statements.
    """
    asked = query(request, "same")
    view = VIEWS["rag_corpus"]
    async with unit(request) as session:
        project = await current(request, session)
        fix = await repos.rag_corpus.get(session, request.path_params["id"], with_embedding=True)
        names = await names_of(session, views(request), view, [fix])
        similar = await _similar(session, fix, within_its_own=asked.get("same") == "yes")
    return render(
        request,
        "fix.html",
        project=project,
        section=view.name,
        view=view,
        fix=fix,
        names=names,
        similar=similar,
        same=asked.get("same"),
    )


async def _similar(session: ProjectSession, fix: RAGCorpus, *, within_its_own: bool) -> list[Any]:
    """Return the nearest fixes but for this one; none of one that has neither an embedding nor a problem."""
    if fix.embedding is None and not fix.problem:
        return []
    classification = fix.classification if within_its_own else None
    by: dict[str, Any] = {"text": fix.problem[:_LONGEST]} if fix.embedding is None else {"embedding": fix.embedding}
    matches = await repos.rag_corpus.search(session, **by, limit=_NEIGHBOURS + 1, classification=classification)
    return [match for match in matches if match.entry.id != fix.id][:_NEIGHBOURS]
