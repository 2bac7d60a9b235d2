"""Past fixes: by words and classification, and those that are similar to one of them."""

from collections.abc import Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.orm import defer
from sqlmodel import col
from starlette.requests import Request
from starlette.responses import Response

from derwin_db import repos
from derwin_db.errors import InvalidInput
from derwin_db.models import RAGCorpus
from derwin_db.session import ProjectSession
from derwin_db.studio.rendering import render
from derwin_db.studio.request_params import PAGE_SIZE, listing, query, unit

_MOST_WORDS = 10
_LONGEST_WORDS = 200
_NEIGHBOURS = 10


async def search(request: Request) -> Response:
    """List past fixes, of one classification and with all of some words.

    Cost:
        With words, the project's fixes are read.
    """
    asked, found = listing(request, ("words", "classification"))
    words = _words(found.pop("words", ""))
    classification = found.get("classification")
    cursor = None
    async with unit(request) as session:
        project = await repos.projects.current(session)
        names = (await session.sql.execute(_names())).all()
        if words:
            fixes: Sequence[Any] = (await session.sql.scalars(_with_words(words, classification))).all()
            total = (await session.sql.execute(_count(words, classification))).scalar_one()
        else:
            page = await repos.rag_corpus.list(session, **found)
            fixes, cursor = page.items, page.next_cursor
            total = await repos.rag_corpus.count(session, classification=classification)
    return render(
        request,
        "fixes.html",
        project=project,
        section="fixes",
        asked=asked,
        names=names,
        fixes=fixes,
        total=total,
        cursor=cursor,
        is_first=bool(words) or "cursor" not in found,
    )


async def show(request: Request) -> Response:
    """Show a past fix and those most similar to it.

    Cost:
        Four statements, or six where the vector index is searched.
    """
    asked = query(request, "same")
    async with unit(request) as session:
        project = await repos.projects.current(session)
        fix = await repos.rag_corpus.get(session, request.path_params["id"], with_embedding=True)
        similar = await _similar(session, fix, within_its_own=asked.get("same") == "yes")
    return render(request, "fix.html", project=project, section="fixes", fix=fix, similar=similar, same=asked.get("same"))


async def _similar(session: ProjectSession, fix: RAGCorpus, *, within_its_own: bool) -> list[Any] | None:
    """Return the nearest fixes but for this one, or None where it has no embedding."""
    if fix.embedding is None:
        return None
    classification = fix.classification if within_its_own else None
    matches = await repos.rag_corpus.search(session, fix.embedding, limit=_NEIGHBOURS + 1, classification=classification)
    return [match for match in matches if match.entry.id != fix.id][:_NEIGHBOURS]


def _words(text: str) -> list[str]:
    words = text.split()
    if len(words) > _MOST_WORDS or len(text) > _LONGEST_WORDS or "\0" in text:
        raise InvalidInput(f"words: up to {_MOST_WORDS} words, {_LONGEST_WORDS} characters in all.")
    return words


def _conditions(words: Sequence[str], classification: str | None) -> list[sa.ColumnElement[bool]]:
    """Every word stands somewhere in the fix, as it is written: `%` and `_` are characters."""
    texts = (col(RAGCorpus.problem), col(RAGCorpus.fix_summary), col(RAGCorpus.diff))
    found: list[sa.ColumnElement[bool]] = [sa.or_(*(text.icontains(word, autoescape=True) for text in texts)) for word in words]
    if classification is not None:
        found.append(col(RAGCorpus.classification) == classification)
    return found


def _with_words(words: Sequence[str], classification: str | None) -> sa.Select[RAGCorpus]:
    """Whole entries, but for their embeddings."""
    query = sa.select(RAGCorpus).options(defer(cast("Any", RAGCorpus.embedding))).where(*_conditions(words, classification))
    return query.order_by(col(RAGCorpus.created_at).desc(), col(RAGCorpus.id).desc()).limit(PAGE_SIZE)


def _count(words: Sequence[str], classification: str | None) -> sa.Select[Any]:
    return sa.select(sa.func.count()).select_from(RAGCorpus).where(*_conditions(words, classification))


def _names() -> sa.Select[str, int]:
    name = col(RAGCorpus.classification)
    return sa.select(name, sa.func.count().label("fixes")).group_by(name).order_by(name)
