"""project_mode_logs: nothing writes it but the change of a mode; nothing changes or removes an entry."""

import pytest
import sqlalchemy as sa

from derwin_db import ProjectSession, repos
from derwin_db.errors import AppendOnlyViolation
from derwin_db.models import ProjectMode, ProjectModeLog
from tests.contract.verbs import SHARED


class TestVerbs:
    @pytest.mark.parametrize(
        ("table", "reads"), [("project_mode_logs", {*SHARED}), ("profile_evolution_logs", {*SHARED, "list_brief"})]
    )
    def test_there_are_reads_only(self, table: str, reads: set[str]) -> None:
        repo = getattr(repos, table)
        verbs = {name for name in dir(repo) if not name.startswith("_") and callable(getattr(repo, name))}
        assert verbs - {"model", "filters", "orders"} == reads


class TestAppendOnly:
    @pytest.mark.parametrize("verb", ["UPDATE project_mode_logs SET reason = 'x'", "DELETE FROM project_mode_logs"])
    async def test_raw_sql_is_refused(self, session: ProjectSession, verb: str) -> None:
        with pytest.raises(AppendOnlyViolation):
            async with session.savepoint():
                await session.sql.execute(sa.text(verb))
        assert await repos.project_mode_logs.count(session) == 1

    async def test_a_merged_change_is_refused(self, session: ProjectSession) -> None:
        (entry,) = (await repos.project_mode_logs.list(session)).items
        entry.to_mode = ProjectMode.AUTONOMOUS
        with pytest.raises(AppendOnlyViolation):
            async with session.savepoint():
                await session.sql.merge(entry)
        stored: ProjectModeLog = await repos.project_mode_logs.get(session, entry.id)
        assert stored.to_mode is ProjectMode.OBSERVE
