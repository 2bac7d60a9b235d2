"""What a session takes of a repository's statements, and what it makes of answers that nobody can read."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import ConcurrentUse, DatabaseUnavailable, DerwinError, ScopeError
from derwin_db.fields.scalars import NIL, project_id_of
from derwin_db.models import Project, ProjectType
from derwin_db.query.builders import scoped, table_of
from derwin_db.query.statement import Statement, scalars
from derwin_db.unit.alone import Reader
from derwin_db.unit.backend import Route
from derwin_db.unit.transaction import State
from tests.repos.rows import a_charge

ID = UUID("0198a7f0-0000-7000-8000-0000000000ab")


class OfTheDriver(UUID):
    """As asyncpg has one."""


class Twin(str):
    """A text that passes for "acme", in whatever form it is asked for."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other == "acme"

    def __hash__(self) -> int:
        return hash("acme")

    def __str__(self) -> str:
        return "acme"


SLUG = table_of(Project).c.slug


class TestStatements:
    async def test_of_the_other_kind_of_session_is_refused(self, session: ProjectSession) -> None:
        of_nobody = scalars("projects.now", sa.select(sa.func.now()), is_scoped=False)
        with pytest.raises(ScopeError, match="the other kind of session"):
            await session.fetch(of_nobody, {})

    async def test_whose_parameter_was_forgotten_is_a_defect_and_no_bad_input(self, session: ProjectSession) -> None:
        by_slug = scalars("projects.by_slug", scoped(Project, SLUG).where(sa.bindparam("slug", type_=sa.Text()) == SLUG))
        with pytest.raises(KeyError, match="slug"):
            await session.fetch(by_slug, {})

    @pytest.mark.parametrize("way", ["fetch", "stream"])
    async def test_whose_answer_has_another_shape_than_its_column_says_whose(self, session: ProjectSession, way: str) -> None:
        odd: Statement[Any] = scalars("projects.odd", scoped(Project, sa.type_coerce(SLUG, sa.Enum(ProjectType))))

        async def read() -> None:
            if way == "fetch":
                await session.fetch(odd, {})
            else:
                async for _ in session.stream(odd, {}):
                    pass

        with pytest.raises(DerwinError, match=r"projects\.odd: a stored value does not have the shape") as refused:
            await read()
        assert refused.value.__cause__ is None


class TestStream:
    async def test_beside_a_statement_that_is_on_its_way_is_refused_and_the_unit_goes_on(
        self, db: Database, project: Project
    ) -> None:
        async with db.project(project.id) as session:
            async with session.savepoint():
                pass
            slow = scalars("projects.slow", scoped(Project, sa.func.count(sa.func.pg_sleep(0.05))))
            running = asyncio.create_task(session.fetch(slow, {}))
            await asyncio.sleep(0)
            with pytest.raises(ConcurrentUse):
                await anext(repos.qa_tickets.stream(session))
            assert await running == [1]
            assert [row async for row in repos.qa_tickets.stream(session)] == []


class TestProject:
    @pytest.mark.parametrize("project", [5, None, b"acme", ["acme"], object()])
    async def test_is_named_by_text_or_an_id(self, db: Database, project: Any) -> None:
        with pytest.raises(ScopeError, match="by its slug or its id"):
            db.project(project)

    @pytest.mark.parametrize("project", [ID, OfTheDriver(str(ID)), str(ID), str(ID).upper()], ids=repr)
    async def test_has_an_id_of_python_s_own_class_however_it_was_named(self, db: Database, project: Any) -> None:
        named = db.project(project).project_id
        assert (named, type(named)) == (ID, UUID)

    @pytest.mark.parametrize("project", [NIL, str(NIL), f"{{{ID}}}", f"urn:uuid:{ID}", f" {ID}", "Acme", ""], ids=repr)
    async def test_has_no_other_name(self, db: Database, project: Any) -> None:
        with pytest.raises(ScopeError, match="by its slug or its id"):
            db.project(project)

    def test_is_told_by_its_text_whatever_a_subclass_says_of_it(self, db: Database) -> None:
        """Names are kept with the ids that they lead to: what passes for another one would have its id."""
        ids = [db.project(name).project_id for name in ("acme", Twin("globex"), "acme", Twin("initech"))]
        assert ids == [project_id_of(name) for name in ("acme", "globex", "acme", "initech")]


class TestReason:
    @pytest.mark.parametrize("reason", ["x", "x" * 500, " of two words "], ids=len)
    async def test_is_kept_as_it_was_given(self, db: Database, reason: str) -> None:
        assert db.admin(reason=reason).reason == reason

    @pytest.mark.parametrize("reason", ["", " ", "x" * 501, "x\ny", 5, None], ids=repr)
    async def test_is_one_line_of_text(self, db: Database, reason: Any) -> None:
        with pytest.raises(ScopeError, match="one line of 1 to 500 characters"):
            db.admin(reason=reason)


class TestAnotherServer:
    async def test_that_stands_in_for_a_read_is_the_unit_s_from_then_on(
        self, db: Database, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So it never goes back in time."""
        primary = await db.app_pool(read_only=False)
        other = primary._replace()
        asked: list[Any] = []
        read = Reader.read

        async def lost_at_first(reader: Reader, source: Any, *rest: Any) -> Any:
            asked.append(source)
            if len(asked) == 1:
                raise DatabaseUnavailable
            return await read(reader, source, *rest)

        monkeypatch.setattr(Reader, "read", lost_at_first)
        async with db.project(project.id, read_only=True) as session:
            session._route = Route(session._route.choose, lambda _pool, _error: other)
            for _ in range(2):
                assert await repos.spend_ledger.count(session) == 0
        assert [one is other for one in asked] == [False, True, True]

    async def test_hears_of_a_failure_also_where_the_unit_was_left_meanwhile(
        self, db: Database, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heard: list[BaseException] = []

        async def lost(*_: Any) -> Any:
            session._state = State.ENDED  # another task has left the unit
            raise DatabaseUnavailable

        session = db.project(project.id, read_only=True)
        monkeypatch.setattr(Reader, "read", lost)
        await session.__aenter__()
        session._route = Route(session._route.choose, lambda _pool, error: heard.append(error) or session._source)
        with pytest.raises(DatabaseUnavailable):
            await repos.spend_ledger.count(session)
        assert [type(error) for error in heard] == [DatabaseUnavailable]


class Stop(BaseException):
    """What no code of a unit catches, as KeyboardInterrupt."""


class TestLeft:
    async def test_by_what_is_no_error_a_savepoint_goes_with_its_unit(self, db: Database, project: Project) -> None:
        with pytest.raises(Stop):
            async with db.project(project.id) as session, session.savepoint():
                await repos.spend_ledger.append(session, a_charge())
                raise Stop
        assert session.outcome == "rolled back"
        async with db.project(project.id) as session:
            assert await repos.spend_ledger.count(session) == 0

    async def test_by_an_error_of_the_caller_where_the_connection_is_gone_it_stays_that_error(
        self, db: Database, project: Project
    ) -> None:
        """There is no savepoint to go back to any more, and nothing is asked of the connection."""
        with pytest.raises(ZeroDivisionError):
            async with db.project(project.id) as session, session.savepoint():
                assert session._connection is not None
                session._connection.terminate()
                raise ZeroDivisionError
        assert session.outcome == "rolled back"

    async def test_by_a_generator_that_is_closed_before_its_first_statement(self, db: Database, project: Project) -> None:
        async def rows() -> Any:
            async with db.project(project.id) as session:
                yield session

        generator = rows()
        session = await anext(generator)
        before = db.connections_in_use()
        await generator.aclose()
        assert db.connections_in_use() == before
        with pytest.raises(ScopeError, match="not open"):
            await repos.spend_ledger.count(session)
