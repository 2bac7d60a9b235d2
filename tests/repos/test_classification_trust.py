"""classification_trust: reading a score that may not be there, and refreshing as the window slides."""

from typing import Any

import pytest
import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import InvalidInput
from derwin_db.models import FixOutcome, Project
from tests.repos.rules.test_trust import concluded, numbers


class TestForClassification:
    async def test_where_nothing_was_concluded_is_zero_and_not_stored(self, session: ProjectSession, project: Project) -> None:
        now = (await session.sql.execute(sa.select(sa.func.now()))).scalar()  # begins a transaction; reads alone begin none
        row = await repos.classification_trust.for_classification(session, "ui_bug")
        assert (row.project_id, row.classification, row.window_days) == (project.id, "ui_bug", 30)
        assert (row.attempts, row.successes, row.reverts, row.score) == (0, 0, 0, 0)
        assert row.created_at == row.updated_at == row.computed_at == now
        assert await repos.classification_trust.count(session) == 0

    async def test_where_something_was_is_the_stored_row(self, session: ProjectSession) -> None:
        await concluded(session, FixOutcome.MERGED)
        (stored,) = (await repos.classification_trust.list(session)).items
        assert await repos.classification_trust.for_classification(session, "ui_bug") == stored

    @pytest.mark.parametrize("name", ["", "UI", "a b", "x" * 65, "é", None, 7])
    async def test_what_is_no_classification_is_refused(self, session: ProjectSession, name: Any) -> None:
        with pytest.raises(InvalidInput, match="name"):
            await repos.classification_trust.for_classification(session, name)


class TestRefresh:
    async def _age(self, session: ProjectSession) -> None:
        await session.sql.execute(sa.text("UPDATE qa_fix_attempts SET concluded_at = now() - interval '31 days'"))

    async def test_recomputes_all(self, session: ProjectSession) -> None:
        for name in ("a", "b", "c"):
            await concluded(session, FixOutcome.MERGED, name)
        await self._age(session)
        assert await numbers(session, "a") == (1, 1, 0)
        assert await repos.classification_trust.refresh(session) == 3
        assert [await numbers(session, name) for name in ("a", "b", "c")] == [(0, 0, 0)] * 3

    async def test_recomputes_those_that_are_named(self, session: ProjectSession) -> None:
        for name in ("a", "b", "c"):
            await concluded(session, FixOutcome.MERGED, name)
        await self._age(session)
        assert await repos.classification_trust.refresh(session, ["a", "c", "a"]) == 2
        assert [await numbers(session, name) for name in ("a", "b", "c")] == [(0, 0, 0), (1, 1, 0), (0, 0, 0)]

    async def test_writes_a_zero_row_for_a_new_name(self, session: ProjectSession) -> None:
        assert await repos.classification_trust.refresh(session, ["new"]) == 1
        (row,) = (await repos.classification_trust.list(session)).items
        assert (row.classification, row.attempts, row.score) == ("new", 0, 0)

    async def test_again_gives_the_same(self, session: ProjectSession) -> None:
        for outcome in (FixOutcome.MERGED, FixOutcome.ERROR, FixOutcome.MERGED):
            await concluded(session, outcome)
        before = [row async for row in repos.classification_trust.stream(session)]
        await repos.classification_trust.refresh(session)
        assert [row async for row in repos.classification_trust.stream(session)] == before

    async def test_stamps_the_time(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            await concluded(session, FixOutcome.MERGED)
            (before,) = (await repos.classification_trust.list(session)).items
        async with db.project(project.id) as session:
            await repos.classification_trust.refresh(session)
            (after,) = (await repos.classification_trust.list(session)).items
        assert after.computed_at == after.updated_at > before.computed_at
        assert after.created_at == before.created_at

    async def test_nothing_is_nothing(self, session: ProjectSession) -> None:
        assert await repos.classification_trust.refresh(session) == 0
        assert await repos.classification_trust.refresh(session, []) == 0

    @pytest.mark.parametrize("names", ["ui_bug", 7, [""], [None], ["ok", "Not ok"]])
    async def test_bad_names_are_refused(self, session: ProjectSession, names: Any) -> None:
        with pytest.raises(InvalidInput, match="names"):
            await repos.classification_trust.refresh(session, names)
        assert await repos.classification_trust.count(session) == 0
