"""Past fixes: remembered with an embedding, found by similarity."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Body

from derwin_db import repos
from derwin_db.fields.vector import VECTOR_SIZE
from derwin_db.models import Match, RAGCorpus, RAGCorpusCreate
from examples.service.access import ReadScoped, Scoped

router = APIRouter(prefix="/projects/{project}/fixes", tags=["fixes"])


@router.post("", status_code=201)
async def add_fix(session: Scoped, data: RAGCorpusCreate) -> RAGCorpus:
    """Remember a fix."""
    return await repos.rag_corpus.add(session, data)


@router.post("/search")
async def search_fixes(
    session: ReadScoped,
    embedding: Annotated[
        list[float],
        Body(min_length=VECTOR_SIZE, max_length=VECTOR_SIZE, description="What to look for, as your model embeds it."),
    ],
    limit: Annotated[int, Body(ge=1, le=50, description="How many fixes there are at most.")] = 5,
    classification: Annotated[str | None, Body(description="Only fixes of this kind.", examples=["calculation"])] = None,
) -> Sequence[Match]:
    """Return the fixes that are most similar, the most similar first."""
    return await repos.rag_corpus.search(session, embedding, limit=limit, classification=classification)
