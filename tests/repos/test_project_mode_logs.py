"""project_mode_logs: nothing writes it but the change of a mode; nothing changes or removes an entry."""

import pytest
import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import AppendOnlyViolation, InvalidInput
from derwin_db.models import Project, ProjectMode, ProjectModeLog
from tests.contract.verbs import SHARED


class TestVerbs:
    @pytest.mark.parametrize(
        ("table", "reads"), [("project_mode_logs", {*SHARED}), ("profile_evolution_logs", {*SHARED, "list_brief"})]
    )
    def test_there_are_reads_only(self, table: str, reads: set[str]) -> None:
        repo = getattr(repos, table)
        verbs = {name for name in dir(repo) if not name.startswith("_") and callable(getattr(repo, name))}
        assert verbs - {"model", "filters", "orders"} == reads


TO = "UPDATE projects SET mode = '{1}'"
ENTRY = """
INSERT INTO project_mode_logs (project_id, from_mode, to_mode, actor, reason)
SELECT id, '{0}', '{1}', 'a', 'r' FROM projects
"""


class TestMode:
    """A mode that changes by hand has an entry of this change at the commit."""

    @staticmethod
    async def change(db: Database, project: Project, *steps: tuple[str, str, str]) -> None:
        async with db.project(project.id) as session:
            for statement, before, after in steps:
                await session.sql.execute(sa.text(statement.format(before, after)))

    async def test_changes_with_its_entries(self, db: Database, project: Project) -> None:
        there, back = ("OBSERVE", "TRIAGE"), ("TRIAGE", "OBSERVE")
        await self.change(db, project, (TO, *there), (ENTRY, *there), (TO, *back), (ENTRY, *back))
        async with db.project(project.id) as session:
            page = await repos.project_mode_logs.list(session)
            assert [(entry.from_mode, entry.to_mode) for entry in page.items] == [back, there, (None, "OBSERVE")]

    @pytest.mark.parametrize("step", [(ENTRY, "AUTHOR", "TRIAGE"), (ENTRY, "OBSERVE", "AUTHOR"), (ENTRY, "TRIAGE", "OBSERVE")])
    async def test_by_an_entry_of_another_change_stays(
        self, db: Database, project: Project, step: tuple[str, str, str]
    ) -> None:
        with pytest.raises(InvalidInput):
            await self.change(db, project, (TO, "OBSERVE", "TRIAGE"), step)

    async def test_by_an_entry_of_another_change_of_the_unit_stays(self, db: Database, project: Project) -> None:
        there, back = ("OBSERVE", "TRIAGE"), ("TRIAGE", "OBSERVE")
        with pytest.raises(InvalidInput):
            await self.change(
                db, project, (TO, *there), (ENTRY, *there), (TO, *back), (ENTRY, *back), (TO, "OBSERVE", "AUTHOR")
            )

    async def test_by_an_entry_of_before_stays(self, db: Database, project: Project) -> None:
        there, back = ("OBSERVE", "TRIAGE"), ("TRIAGE", "OBSERVE")
        await self.change(db, project, (TO, *there), (ENTRY, *there))
        await self.change(db, project, (TO, *back), (ENTRY, *back))
        with pytest.raises(InvalidInput):
            await self.change(db, project, (TO, *there))


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
