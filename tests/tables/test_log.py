"""An append-only table of a service: refused in Python, by grants and by triggers, and gone with its project alone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import asyncpg
import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy.ext.asyncio import create_async_engine

from derwin_db import Database, repos
from derwin_db.errors import AppendOnlyViolation, DerwinError, IsolationNotEnforced
from derwin_db.fields.own import OWN_REGISTRY
from derwin_db.fields.scalars import new_id
from derwin_db.migrations import fence, unfence
from derwin_db.models import Project
from derwin_db.tables import Created, Fields, Id, Input, ProjectTable, Repository, ShortText, nullable
from derwin_db.testing import TestDatabase, TestServer
from tests.repos.test_projects import a_project


class NoteFields(Fields):
    text: ShortText
    of_id: Id | None = nullable(Id)


class NoteCreate(NoteFields, Input):
    pass


class Note(Created, NoteFields, ProjectTable, table=True):
    __tablename__: ClassVar[str] = "own_notes"
    append_only: ClassVar[bool] = True


TRIGGERS = ("derwin_append_only_row", "derwin_append_only_statement", "derwin_append_only_truncate")

notes = Repository(Note, create=NoteCreate)


async def as_operations(database: TestDatabase, work: Any) -> None:
    """Do what a revision does, on a connection of the owner."""
    owner = database.owner
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(**owner.connect_arguments()))
    async with engine.begin() as connection:
        await connection.run_sync(lambda sync: work(Operations(MigrationContext.configure(sync))))
    await engine.dispose()


def create_and_fence(op: Any) -> None:
    Note.__table__.create(op.get_bind())
    fence(op, Note)


@pytest.fixture
async def database(server: TestServer) -> AsyncIterator[TestDatabase]:
    made = await asyncio.to_thread(server.migrated)
    await as_operations(made, create_and_fence)
    yield made
    await asyncio.to_thread(server.drop, made)


@pytest.fixture(autouse=True)
def apart():
    """Other tests ask whether metadata and database agree: this table is in neither of theirs."""
    OWN_REGISTRY.metadata._add_table(Note.__table__.name, Note.__table__.schema, Note.__table__)
    yield
    OWN_REGISTRY.metadata.remove(Note.__table__)


OWN_METADATA_KEEPS_IT_OUT = OWN_REGISTRY.metadata.remove(Note.__table__)


async def a_project_of(db: Database) -> Project:
    async with db.admin(reason="a test") as admin:
        return await repos.projects.create(admin, a_project())


class TestLog:
    async def test_is_written_and_read(self, database: TestDatabase) -> None:
        async with Database(**database.urls) as db:
            project = await a_project_of(db)
            async with db.project(project.id) as unit:
                row = await notes.create(unit, NoteCreate(text="x"))
                assert await notes.create_many(unit, [NoteCreate(text="y")]) == 1
                assert (await notes.list(unit, text="x")).items == [row]

    async def test_is_changed_by_none_of_its_verbs(self, database: TestDatabase) -> None:
        async with Database(**database.urls) as db:
            project = await a_project_of(db)
            async with db.project(project.id) as unit:
                wrong: Any = NoteCreate(text="x")
                for change in (
                    lambda: notes.update(unit, new_id(), wrong),
                    lambda: notes.update_many(unit, wrong, text="y"),
                    lambda: notes.delete(unit, new_id()),
                ):
                    with pytest.raises(AppendOnlyViolation):
                        await change()
                assert unit._connection is None

    @pytest.mark.parametrize("statement", ["UPDATE own_notes SET text = 'z'", "DELETE FROM own_notes", "TRUNCATE own_notes"])
    async def test_nor_by_sql_of_the_session_or_the_owner(self, database: TestDatabase, statement: str) -> None:
        async with Database(**database.urls) as db:
            project = await a_project_of(db)
            async with db.project(project.id) as unit:
                await notes.create(unit, NoteCreate(text="x"))
            with pytest.raises(DerwinError):
                async with db.project(project.id) as unit:
                    await unit.sql.execute(sa.text(statement))
        owner = await asyncpg.connect(**database.owner.connect_arguments())
        with pytest.raises(asyncpg.PostgresError, match="never changed or removed"):
            await owner.execute(statement)
        await owner.close()

    async def test_goes_with_its_project(self, database: TestDatabase) -> None:
        async with Database(**database.urls) as db:
            project = await a_project_of(db)
            async with db.project(project.id) as unit:
                await notes.create(unit, NoteCreate(text="x"))
            async with db.admin(reason="a test") as admin:
                assert (await repos.projects.delete(admin, project.id))["own_notes"] == 1

    async def test_goes_with_its_project_also_when_its_name_begins_like_the_ledgers(self, database: TestDatabase) -> None:
        async with Database(**database.urls) as db:
            project = await a_project_of(db)
            async with db.project(project.id) as unit:
                await notes.create(unit, NoteCreate(text="x"))
        owner = await asyncpg.connect(**database.owner.connect_arguments())
        await owner.execute("ALTER TABLE own_notes RENAME TO spend_ledger_notes")
        with pytest.raises(asyncpg.PostgresError, match="never changed or removed"):
            await owner.execute("DELETE FROM spend_ledger_notes")
        assert await owner.execute("DELETE FROM projects WHERE id = $1", project.id) == "DELETE 1"
        assert await owner.fetchval("SELECT count(*) FROM spend_ledger_notes") == 0
        await owner.close()

    @pytest.mark.parametrize("triggers", [TRIGGERS[:1], TRIGGERS], ids=len)
    async def test_without_its_triggers_nothing_starts(self, database: TestDatabase, triggers: tuple[str, ...]) -> None:
        """Without all of them only its class tells that it is to be append-only."""
        await as_operations(database, lambda op: [op.execute(f"DROP TRIGGER {name} ON public.own_notes") for name in triggers])
        with pytest.raises(IsolationNotEnforced) as caught:
            async with Database(**database.urls):
                pass
        assert all(f"own_notes: {name} is missing" in str(caught.value) for name in triggers)

    async def test_unfenced_it_is_the_owners_alone(self, database: TestDatabase) -> None:
        await as_operations(database, lambda op: unfence(op, Note))
        owner = await asyncpg.connect(**database.owner.connect_arguments())
        assert await owner.fetchval("SELECT has_table_privilege('derwin_app', 'own_notes', 'SELECT')") is False
        assert await owner.fetchval("SELECT count(*) FROM pg_policies WHERE tablename = 'own_notes'") == 0
        await owner.close()
        await as_operations(database, lambda op: fence(op, "own_notes", append_only=True))
        async with Database(**database.urls):
            pass

    def test_has_no_input_of_changes(self) -> None:
        class NoteUpdate(Input):
            text: ShortText = nullable(ShortText)

        with pytest.raises(ValueError, match="append-only"):
            Repository(Note, create=NoteCreate, update=NoteUpdate)
