"""classification_trust: the rolling scores. They are computed, never written by hand."""

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from functools import cache
from typing import Literal, Unpack

import sqlalchemy as sa
from pydantic import TypeAdapter

from derwin_db.fields.scalars import Classification, Score
from derwin_db.filters import Filter
from derwin_db.models.classification_trust import ClassificationTrust
from derwin_db.paging import Page
from derwin_db.query.builders import param, scoped, table_of
from derwin_db.query.statement import Statement, entities, scalars
from derwin_db.repos.base import Repository, TimeFilters
from derwin_db.repos.rules import trust
from derwin_db.repos.validation import checked, iterated
from derwin_db.session import ProjectSession, project_session

_TRUST = table_of(ClassificationTrust)

_NAME: TypeAdapter[str] = TypeAdapter(Classification)


class ClassificationTrustFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    classification: Filter[Classification]
    min_score: Score | None
    max_score: Score | None
    classification_prefix: Classification | None


ClassificationTrustOrder = Literal["-created_at", "created_at", "score", "-score", "classification", "-classification"]
"""Orders of `list`: `-` says that the greatest comes first."""


class ClassificationTrusts(Repository[ClassificationTrust]):
    """How far fixes of each classification can be trusted."""

    model = ClassificationTrust
    filters = ClassificationTrustFilters
    orders = ClassificationTrustOrder

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: ClassificationTrustOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[ClassificationTrustFilters],
    ) -> Page[ClassificationTrust]:
        """Return a page of scores.

        Order:
            Newest first. `classification` goes through its index; by `score` all of the project are sorted.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page(session, limit, cursor, filters, order=order, with_total=with_total)

    def stream(
        self, session: ProjectSession, **filters: Unpack[ClassificationTrustFilters]
    ) -> AsyncIterator[ClassificationTrust]:
        """Iterate over all scores.

        Order:
            Newest first.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[ClassificationTrustFilters]) -> int:
        """Count scores.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        return await self._count(session, filters)

    async def for_classification(self, session: ProjectSession, name: str) -> ClassificationTrust:
        """Return the score; where nothing was ever concluded, a zero score that is not stored.

        Cost:
            One statement, or two.
        """
        session = project_session(session)
        wanted = checked(_NAME, name, "name")
        rows = await session.fetch(_by_name_statement(), {"name": wanted})
        if rows:
            return rows[0]
        now = (await session.fetch(_now_statement(), {}))[0]
        return ClassificationTrust(
            project_id=session.project_id, classification=wanted, created_at=now, updated_at=now, computed_at=now
        )

    async def refresh(self, session: ProjectSession, names: Iterable[str] | None = None) -> int:
        """Compute the scores again, of these classifications or of all, as the window has moved on. Returns how many.

        Locks:
            The score rows.

        Cost:
            The scores are computed by one statement, the rows are locked by another before it.
        """
        session = project_session(session)
        if names is None:
            return await trust.refresh_all(session)
        return await trust.bring_up_to_date(session, [checked(_NAME, name, "names") for name in iterated(names, "names")])


@cache
def _by_name_statement() -> Statement[ClassificationTrust]:
    query = scoped(ClassificationTrust).where(_TRUST.c.classification == param("name", _TRUST.c.classification))
    return entities("classification_trust.for_classification", query, ClassificationTrust)


@cache
def _now_statement() -> Statement[datetime]:
    return scalars("classification_trust.for_classification", sa.select(sa.func.now()))
