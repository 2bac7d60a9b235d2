"""projects: the root, through the admin door and through a project's own session."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from derwin_db import AdminSession, Database, ProjectSession, repos
from derwin_db.errors import Conflict, InvalidInput, ProjectNotFound, RetentionLocked, ScopeError
from derwin_db.fields.scalars import new_id, project_id_of
from derwin_db.models import (
    AdapterSettings,
    ComplianceMode,
    Project,
    ProjectCreate,
    ProjectMode,
    ProjectSettings,
    ProjectType,
    ProjectUpdate,
)
from derwin_db.settings import Settings
from derwin_db.sql import PROJECT_TABLES
from derwin_db.testing import TestDatabase
from tests.repos.conftest import Locks, note_backend
from tests.repos.evidence import expired
from tests.repos.filling import REPOSITORIES, fill
from tests.repos.rows import a_charge, a_ticket, an_artifact

WHO = {"actor": "ada", "reason": "ready for it"}
SETTINGS = ProjectSettings(ticket_adapter=AdapterSettings(kind="jira", settings={"board": 7}))


def a_project(**given: Any) -> ProjectCreate:
    return ProjectCreate(**{"slug": f"p-{new_id().hex[-20:]}", "name": "Acme", "type": ProjectType.CRM, **given})


class TestCreate:
    @pytest.mark.parametrize("key", ["token", "api_key", "apiKey", "PRIVATE_KEY", "db_password", "clientSecret"])
    def test_settings_that_name_a_secret_are_refused(self, key: str) -> None:
        with pytest.raises(ValidationError, match="keep secrets in a secret store") as caught:
            AdapterSettings(kind="jira", settings={"project": "ACME", key: "canary"})
        assert "canary" not in str(caught.value)

    @pytest.mark.parametrize(
        "settings", [{"auth": {"token": "canary"}}, {"hosts": [{"name": "a"}, {"password": "canary"}]}], ids=str
    )
    def test_so_are_those_that_name_one_further_in(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ValidationError, match="keep secrets in a secret store"):
            AdapterSettings(kind="jira", settings=settings)
        assert AdapterSettings(kind="jira", settings={"hosts": [{"name": "token"}]}).settings == {"hosts": [{"name": "token"}]}

    async def test_writes_the_row(self, admin: AdminSession) -> None:
        data = a_project(
            mode=ProjectMode.AUTHOR, compliance_mode=ComplianceMode.SOX, repo_url="https://a.example/r", settings=SETTINGS
        )
        row = await repos.projects.create(admin, data)
        assert row.model_dump(include=set(ProjectCreate.model_fields)) == data.model_dump()
        assert (row.id, row.version, row.archived_at) == (project_id_of(data.slug), 1, None)
        assert row.created_at == row.updated_at

    async def test_begins_the_mode_log(self, db: Database) -> None:
        async with db.admin(reason="onboarding of acme") as admin:
            row = await repos.projects.create(admin, a_project(mode=ProjectMode.TRIAGE))
        async with db.project(row.slug) as session:
            (entry,) = (await repos.project_mode_logs.list(session)).items
        assert (entry.from_mode, entry.to_mode) == (None, ProjectMode.TRIAGE)
        assert (entry.actor, entry.reason) == ("derwin_admin", "onboarding of acme")

    async def test_a_slug_that_is_taken_conflicts(self, admin: AdminSession, project: Project) -> None:
        with pytest.raises(Conflict, match="slug exists"):
            await repos.projects.create(admin, a_project(slug=project.slug))

    async def test_a_slug_that_is_taken_and_has_spent_is_no_former_projects(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            await repos.spend_ledger.append(session, a_charge())
        with pytest.raises(Conflict, match="slug exists already"):
            async with db.admin(reason="a test") as admin:
                await repos.projects.create(admin, a_project(slug=project.slug))

    async def test_a_slug_whose_ledger_is_on_the_books_conflicts(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            await repos.spend_ledger.append(session, a_charge())
        async with db.admin(reason="a test") as admin:
            await repos.projects.delete(admin, project.id)
            with pytest.raises(Conflict, match="still on the books"):
                await repos.projects.create(admin, a_project(slug=project.slug))

    async def test_a_slug_that_is_free_again_makes_the_same_id(self, db: Database, project: Project) -> None:
        async with db.admin(reason="a test") as admin:
            await repos.projects.delete(admin, project.id)
            assert (await repos.projects.create(admin, a_project(slug=project.slug))).id == project.id

    async def test_other_input_and_sessions_are_refused(self, admin: AdminSession, session: ProjectSession) -> None:
        with pytest.raises(InvalidInput):
            await repos.projects.create(admin, ProjectUpdate(name="x"))  # type: ignore[arg-type]
        with pytest.raises(ScopeError):
            await repos.projects.create(session, a_project())  # type: ignore[arg-type]


class TestUpdate:
    @pytest.mark.parametrize(
        ("field", "value"),
        [("name", "New"), ("type", ProjectType.ERP), ("repo_url", "https://a.example/x"), ("settings", SETTINGS)],
    )
    async def test_changes_what_is_set_and_nothing_else(
        self, admin: AdminSession, project: Project, field: str, value: Any
    ) -> None:
        row = await repos.projects.update(admin, project.id, ProjectUpdate(**{field: value}))
        assert row == project.model_copy(update={field: value, "version": 2, "updated_at": row.updated_at})
        assert row.updated_at > project.updated_at

    async def test_none_clears_what_may_be_null(self, admin: AdminSession, project: Project) -> None:
        await repos.projects.update(admin, project.id, ProjectUpdate(repo_url="https://a.example/x"))
        assert (await repos.projects.update(admin, project.id, ProjectUpdate(repo_url=None))).repo_url is None

    @pytest.mark.parametrize("field", ["name", "type", "compliance_mode", "settings"])
    def test_none_is_refused_elsewhere(self, field: str) -> None:
        with pytest.raises(ValidationError):
            ProjectUpdate(**{field: None})

    @pytest.mark.parametrize("field", ["slug", "mode", "id", "version", "archived_at", "created_at", "project_id"])
    def test_what_is_not_for_it_is_refused(self, field: str) -> None:
        with pytest.raises(ValidationError):
            ProjectUpdate(**{field: "x"})

    async def test_nothing_set_changes_nothing(self, admin: AdminSession, project: Project) -> None:
        assert await repos.projects.update(admin, project.id, ProjectUpdate()) == project

    @pytest.mark.parametrize("data", [ProjectUpdate(), ProjectUpdate(name="x"), ProjectUpdate(compliance_mode="SOX")])
    async def test_an_unknown_project_is_not_found(self, admin: AdminSession, data: ProjectUpdate) -> None:
        with pytest.raises(ProjectNotFound):
            await repos.projects.update(admin, new_id(), data)

    async def test_other_input_is_refused(self, admin: AdminSession, project: Project) -> None:
        with pytest.raises(InvalidInput):
            await repos.projects.update(admin, project.id, a_project())  # type: ignore[arg-type]


class TestArchive:
    async def test_leaves_it_out_of_list_and_nothing_else(self, db: Database, project: Project) -> None:
        async with db.admin(reason="a test") as admin:
            row = await repos.projects.archive(admin, project.id)
            assert row.archived_at == row.updated_at
            window = {"since": project.created_at, "until": project.created_at + timedelta(microseconds=1)}
            assert (await repos.projects.list(admin, **window)).items == []
            assert [row async for row in repos.projects.stream(admin, **window)] == [row]
            assert await repos.projects.count(admin, **window) == 1
            assert await repos.projects.get_by_slug(admin, project.slug) == row
        async with db.project(project.id) as session:
            assert (await repos.projects.list(session)).items == []
            await repos.qa_tickets.create(session, a_ticket())

    async def test_again_keeps_the_first_time(self, db: Database, project: Project) -> None:
        """In a unit of its own: within one, now() is one moment."""
        async with db.admin(reason="a test") as admin:
            first = await repos.projects.archive(admin, project.id)
        async with db.admin(reason="a test") as admin:
            again = await repos.projects.archive(admin, project.id)
        assert first.archived_at is not None
        assert again.archived_at == first.archived_at

    async def test_an_unknown_project_is_not_found(self, admin: AdminSession) -> None:
        with pytest.raises(ProjectNotFound):
            await repos.projects.archive(admin, new_id())


class TestDelete:
    async def test_may_take_longer_than_a_statement(
        self, db: Database, migrated: TestDatabase, project: Project, locks: Locks
    ) -> None:
        """Longer than the server allows, and longer than this side waits for an answer elsewhere."""
        settings = Settings(statement_timeout=1, command_timeout=1, transaction_timeout=1, lock_timeout=20, delete_timeout=60)

        async def delete(hasty: Database) -> dict[str, int]:
            async with hasty.admin(reason="a test") as admin:
                await note_backend(admin)
                return await repos.projects.delete(admin, project.id)

        async with Database(**migrated.urls, settings=settings) as hasty:
            async with db.project(project.id) as session:
                await repos.spend_ledger.append(session, a_charge())
                deleting = asyncio.ensure_future(delete(hasty))
                await locks.until_waiting(deleting)
                await asyncio.sleep(1.5)
            assert (await asyncio.wait_for(deleting, 10))["projects"] == 1

    async def test_evidence_whose_time_is_over_is_in_nobodys_way(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            await expired(session, 2)
        async with db.admin(reason="a test") as admin:
            assert (await repos.projects.delete(admin, project.id))["audit_artifacts"] == 2

    async def test_removes_all_but_the_ledger_and_says_how_many(
        self, db: Database, project: Project, other_project: Project
    ) -> None:
        await fill(db, project.id)
        await fill(db, other_project.id)
        async with db.project(project.id) as session:
            counts = {name: await REPOSITORIES[name].count(session) for name in (*PROJECT_TABLES, "projects")}
            spent = await repos.spend_ledger.total(session)
        assert all(counts.values())
        entries = counts.pop("spend_ledger")
        async with db.admin(reason="a test") as admin:
            assert await repos.projects.delete(admin, project.id, despite_retention=True) == counts
            totals = await repos.spend_ledger.totals_by_project(admin)
        assert (entries, totals[project.slug]) == (12, spent)
        with pytest.raises(ProjectNotFound):
            async with db.project(project.id) as session:
                await repos.projects.current(session)
        async with db.project(other_project.id) as session:
            left = {name: await REPOSITORIES[name].count(session) for name in counts}
        assert left == counts

    async def test_no_row_of_it_is_left(self, db: Database, project: Project, admin: AdminSession) -> None:
        await fill(db, project.id)
        await repos.projects.delete(admin, project.id, despite_retention=True)
        for name in PROJECT_TABLES:
            left = await admin._driver("fetchval", f"SELECT count(*) FROM public.{name} WHERE project_id = $1", project.id)
            assert left == (12 if name == "spend_ledger" else 0)

    @pytest.mark.parametrize("despite_retention", [False, True])
    async def test_evidence_on_hold_locks_it(self, db: Database, project: Project, despite_retention: bool) -> None:
        async with db.project(project.id) as session:
            artifact = await repos.audit_artifacts.record(session, an_artifact())
            await repos.audit_artifacts.hold(session, artifact.id)
        async with db.admin(reason="a test") as admin:
            with pytest.raises(RetentionLocked, match="legal hold"):
                await repos.projects.delete(admin, project.id, despite_retention=despite_retention)
            assert await repos.projects.exists(admin, project.id)

    async def test_evidence_that_must_be_kept_locks_it_unless_said(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            await repos.audit_artifacts.record(session, an_artifact())
        async with db.admin(reason="a test") as admin:
            with pytest.raises(RetentionLocked, match="despite_retention"):
                await repos.projects.delete(admin, project.id)
            assert (await repos.projects.delete(admin, project.id, despite_retention=True))["audit_artifacts"] == 1

    async def test_an_unknown_project_is_not_found(self, admin: AdminSession) -> None:
        with pytest.raises(ProjectNotFound):
            await repos.projects.delete(admin, new_id())


class TestAdminReads:
    async def test_pages_equal_the_stream(self, admin: AdminSession, project: Project, other_project: Project) -> None:
        expected = [row async for row in repos.projects.stream(admin) if row.archived_at is None]
        assert {project.id, other_project.id} <= {row.id for row in expected}
        page = await repos.projects.list(admin, limit=2)
        rows = list(page.items)
        while page.next_cursor:
            page = await repos.projects.list(admin, limit=2, cursor=page.next_cursor)
            rows += page.items
        assert rows == expected

    @pytest.mark.parametrize(
        ("key", "value"),
        [("type", ProjectType.MOBILE), ("mode", ProjectMode.AUTONOMOUS), ("compliance_mode", ComplianceMode.PCI_DSS)],
    )
    async def test_filters(self, admin: AdminSession, key: str, value: Any) -> None:
        row = await repos.projects.create(admin, a_project(**{key: value}))
        found = [row async for row in repos.projects.stream(admin, **{key: value})]
        assert row.id in {row.id for row in found}
        assert {getattr(row, key) for row in found} == {value}
        assert await repos.projects.count(admin, **{key: value}) == len(found)

    async def test_one_project(self, admin: AdminSession, project: Project) -> None:
        assert await repos.projects.get(admin, project.id) == project
        assert await repos.projects.find(admin, project.id) == project
        assert await repos.projects.exists(admin, project.id)
        assert await repos.projects.find(admin, new_id()) is None
        assert not await repos.projects.exists(admin, new_id())


class TestGetBySlug:
    async def test_returns_the_project(self, admin: AdminSession, session: ProjectSession, project: Project) -> None:
        assert await repos.projects.get_by_slug(admin, project.slug) == project
        assert await repos.projects.get_by_slug(session, project.slug) == project

    async def test_an_unknown_or_foreign_slug_is_not_found(self, session: ProjectSession, other_project: Project) -> None:
        for slug in ("no-such-project", other_project.slug):
            with pytest.raises(ProjectNotFound):
                await repos.projects.get_by_slug(session, slug)

    @pytest.mark.parametrize("slug", ["", "UPPER", "a--b", "x" * 64, "..", 7, None, "0" * 32])
    async def test_what_is_no_slug_is_refused(self, session: ProjectSession, slug: Any) -> None:
        with pytest.raises(InvalidInput, match="slug"):
            await repos.projects.get_by_slug(session, slug)


class TestCurrent:
    async def test_is_the_sessions_project(self, session: ProjectSession, project: Project) -> None:
        assert await repos.projects.current(session) == project

    async def test_takes_no_admin_session(self, admin: AdminSession) -> None:
        with pytest.raises(ScopeError):
            await repos.projects.current(admin)  # type: ignore[arg-type]


class TestSetMode:
    @pytest.mark.parametrize("to", [mode for mode in ProjectMode if mode is not ProjectMode.OBSERVE])
    async def test_changes_it_and_writes_the_log(self, session: ProjectSession, project: Project, to: ProjectMode) -> None:
        row = await repos.projects.set_mode(session, to, **WHO)
        assert row == project.model_copy(update={"mode": to, "version": 2, "updated_at": row.updated_at})
        entry = (await repos.project_mode_logs.list(session)).items[0]
        assert (entry.from_mode, entry.to_mode, entry.actor, entry.reason) == (ProjectMode.OBSERVE, to, "ada", "ready for it")
        assert await repos.projects.current(session) == row

    async def test_the_same_mode_changes_and_logs_nothing(self, session: ProjectSession, project: Project) -> None:
        assert await repos.projects.set_mode(session, ProjectMode.OBSERVE, **WHO) == project
        assert await repos.project_mode_logs.count(session) == 1

    async def test_takes_a_modes_name(self, session: ProjectSession) -> None:
        assert (await repos.projects.set_mode(session, "AUTHOR", **WHO)).mode is ProjectMode.AUTHOR  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "bad", [{"mode": "author"}, {"mode": None}, {"actor": ""}, {"actor": "x" * 501}, {"reason": "\0"}, {"reason": None}]
    )
    async def test_bad_input_is_refused_before_any_sql(self, db: Database, project: Project, bad: dict[str, Any]) -> None:
        async with db.project(project.id) as unit:
            with pytest.raises(InvalidInput, match=next(iter(bad))):
                await repos.projects.set_mode(unit, **{"mode": ProjectMode.AUTHOR, **WHO, **bad})
            assert unit._connection is None

    async def test_the_log_is_in_the_order_of_the_changes(self, session: ProjectSession) -> None:
        for to in (ProjectMode.TRIAGE, ProjectMode.AUTHOR, ProjectMode.OBSERVE):
            await repos.projects.set_mode(session, to, **WHO)
        entries = (await repos.project_mode_logs.list(session)).items
        assert [entry.to_mode for entry in entries] == ["OBSERVE", "AUTHOR", "TRIAGE", "OBSERVE"]
        assert len({entry.created_at for entry in entries}) == 4
        assert entries[0].created_at <= datetime.now(UTC) + timedelta(seconds=1)
