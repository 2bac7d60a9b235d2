"""Sessions as dependencies: one unit of work a request, committed before the response, behind the authorization."""

import asyncio
import contextlib
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import DatabaseUnavailable, ScopeError
from derwin_db.fastapi import scoped
from derwin_db.models import Project, ProjectCreate, QATicket
from derwin_db.testing import TestDatabase, factories

TICKET = factories.ticket(title="Totals drift")


def may_access(project: str) -> str:
    return project


async def tickets_of(db: Database, project: Project) -> int:
    async with db.project(project.id) as session:
        return await repos.qa_tickets.count(session)


class TestCommit:
    async def test_comes_before_the_response(self, app: FastAPI, scopes: Any, db: Database, project: Project) -> None:
        @app.post("/{project}")
        async def create(session: scopes.write) -> str:
            await repos.qa_tickets.create(session, TICKET)
            return "created"

        seen: list[tuple[str, int]] = []

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            async def watching_send(message: Any) -> None:
                seen.append((message["type"], await tickets_of(db, project)))
                await send(message)

            await app(scope, receive, watching_send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=watched), base_url="http://service") as client:
            assert (await client.post(f"/{project.slug}")).status_code == 200
        assert seen[0] == ("http.response.start", 1)

    async def test_that_fails_is_no_2xx(
        self, app: FastAPI, client: httpx.AsyncClient, own_db: Database, own_database: TestDatabase
    ) -> None:
        async with own_db.admin(reason="a test") as admin:
            project = await repos.projects.create(admin, ProjectCreate(slug="acme", name="Acme", type="ERP"))
        owner = await asyncpg.connect(**own_database.owner.connect_arguments())
        await owner.execute("""
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE 'too late' USING ERRCODE = '40001'; END $$;
            CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON qa_tickets
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail();
        """)
        await owner.close()

        @app.post("/{project}", status_code=201)
        async def create(session: Annotated[ProjectSession, scoped(own_db, authorize=may_access)]) -> QATicket:
            return await repos.qa_tickets.create(session, TICKET)

        answer = await client.post(f"/{project.slug}")
        assert (answer.status_code, answer.json()["code"]) == (503, DatabaseUnavailable.code)
        assert answer.headers["Retry-After"] == "1"
        assert await tickets_of(own_db, project) == 0

    async def test_does_not_happen_after_a_statement_failed_unnoticed(
        self, app: FastAPI, client: httpx.AsyncClient, scopes: Any, db: Database, project: Project
    ) -> None:
        @app.post("/{project}")
        async def create(session: scopes.write) -> str:
            await repos.qa_tickets.create(session, TICKET)
            try:
                await repos.qa_tickets.create(session, TICKET.model_copy(update={"run_id": UUID(int=1)}))
            except Exception:  # a service that hides it
                return "created"
            return "both"

        assert (await client.post(f"/{project.slug}")).status_code == 500
        assert await tickets_of(db, project) == 0


class TestRollback:
    @pytest.mark.parametrize(
        ("error", "status"), [(HTTPException(418, "no"), 418), (RuntimeError("secret"), 500), (ScopeError(), 500)]
    )
    async def test_follows_any_exception(
        self,
        app: FastAPI,
        client: httpx.AsyncClient,
        scopes: Any,
        db: Database,
        project: Project,
        error: Exception,
        status: int,
    ) -> None:
        @app.post("/{project}")
        async def create(session: scopes.write) -> str:
            await repos.qa_tickets.create(session, TICKET)
            raise error

        assert (await client.post(f"/{project.slug}")).status_code == status
        assert await tickets_of(db, project) == 0
        assert db.connections_in_use() == 0

    async def test_follows_an_answer_that_does_not_serialize(
        self, app: FastAPI, client: httpx.AsyncClient, scopes: Any, db: Database, project: Project
    ) -> None:
        @app.post("/{project}")
        async def create(session: scopes.write) -> int:
            return await repos.qa_tickets.create(session, TICKET)  # type: ignore[return-value]

        assert (await client.post(f"/{project.slug}")).status_code == 500
        assert await tickets_of(db, project) == 0

    async def test_follows_a_cancelled_request(
        self, app: FastAPI, client: httpx.AsyncClient, scopes: Any, db: Database, project: Project
    ) -> None:
        written = asyncio.Event()

        @app.post("/{project}")
        async def create(session: scopes.write) -> None:
            await repos.qa_tickets.create(session, TICKET)
            written.set()
            await asyncio.sleep(60)

        request = asyncio.create_task(client.post(f"/{project.slug}"))
        await written.wait()
        assert db.connections_in_use() == 1
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert db.connections_in_use() == 0
        assert await tickets_of(db, project) == 0

    async def test_follows_a_request_cancelled_at_any_time(
        self, app: FastAPI, client: httpx.AsyncClient, scopes: Any, db: Database, project: Project
    ) -> None:
        @app.post("/{project}")
        async def create(session: scopes.write) -> str:
            await repos.qa_tickets.create(session, TICKET)
            return "created"

        answered = 0
        for step in range(40):
            request = asyncio.create_task(client.post(f"/{project.slug}"))
            await asyncio.sleep(step * 0.0002)
            request.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                answered += (await request).status_code == 200
        await db.close()
        assert db.connections_in_use() == 0
        assert answered <= await tickets_of(db, project) <= 40


class TestUnit:
    async def test_is_one_for_all_that_ask_for_it_in_a_request(
        self, app: FastAPI, client: httpx.AsyncClient, db: Database, project: Project
    ) -> None:
        def session_dependency() -> Any:
            return scoped(db, authorize=may_access)

        async def creates(session: Annotated[ProjectSession, session_dependency()]) -> ProjectSession:
            await repos.qa_tickets.create(session, TICKET)
            return session

        async def counts(
            session: Annotated[ProjectSession, session_dependency()], before: Annotated[ProjectSession, Depends(creates)]
        ) -> bool:
            return session is before

        @app.get("/{project}")
        async def look(
            session: Annotated[ProjectSession, session_dependency()], same: Annotated[bool, Depends(counts)]
        ) -> list[int]:
            assert same
            return [await repos.qa_tickets.count(session), db.connections_in_use()]

        assert (await client.get(f"/{project.slug}")).json() == [1, 1]

    async def test_of_reads_is_another_one(
        self, app: FastAPI, client: httpx.AsyncClient, scopes: Any, project: Project
    ) -> None:
        @app.get("/{project}")
        async def look(session: scopes.write, reads: scopes.read) -> list[bool]:
            return [session is reads, session.is_read_only, reads.is_read_only]

        assert (await client.get(f"/{project.slug}")).json() == [False, False, True]

    async def test_takes_no_connection_before_its_first_statement(
        self, app: FastAPI, client: httpx.AsyncClient, scopes: Any, db: Database, project: Project
    ) -> None:
        @app.get("/{project}")
        async def look(session: scopes.write) -> int:
            return db.connections_in_use()

        assert (await client.get(f"/{project.slug}")).json() == 0

    async def test_does_not_outlive_its_request_in_a_background_task(
        self, app: FastAPI, client: httpx.AsyncClient, scopes: Any, db: Database, project: Project
    ) -> None:
        errors: list[BaseException | int] = []

        async def later(session: ProjectSession) -> None:
            try:
                await repos.qa_tickets.create(session, TICKET)
            except ScopeError as error:
                errors.append(error)
            errors.append(db.connections_in_use())

        @app.post("/{project}")
        async def create(session: scopes.write, tasks: BackgroundTasks) -> None:
            await repos.qa_tickets.create(session, TICKET)
            tasks.add_task(later, session)

        assert (await client.post(f"/{project.slug}")).status_code == 200
        assert isinstance(errors[0], ScopeError)
        assert errors[1] == 0
        assert await tickets_of(db, project) == 1

    async def test_that_reads_refuses_a_write(
        self, app: FastAPI, client: httpx.AsyncClient, scopes: Any, db: Database, project: Project
    ) -> None:
        @app.post("/{project}")
        async def create(session: scopes.read) -> None:
            await repos.qa_tickets.create(session, TICKET)

        assert (await client.post(f"/{project.slug}")).status_code == 500
        assert await tickets_of(db, project) == 0


class TestAuthorize:
    @pytest.mark.parametrize("arguments", [{}, {"authorize": None}, {"authorize": "acme"}])
    def test_is_mandatory(self, db: Database, arguments: dict[str, Any]) -> None:
        with pytest.raises(TypeError):
            scoped(db, **arguments)

    async def test_decides_before_anything_is_opened(
        self, app: FastAPI, client: httpx.AsyncClient, db: Database, project: Project
    ) -> None:
        reached: list[str] = []

        async def nobody(project: str) -> str:
            raise HTTPException(403)

        @app.get("/{project}")
        async def look(session: Annotated[ProjectSession, scoped(db, authorize=nobody)]) -> None:
            reached.append("endpoint")

        assert (await client.get(f"/{project.slug}")).status_code == 403
        assert reached == []

    @pytest.mark.parametrize("name", ["slug", "id"])
    async def test_returns_a_slug_or_an_id(
        self, app: FastAPI, client: httpx.AsyncClient, db: Database, project: Project, name: str
    ) -> None:
        def always() -> Any:
            return getattr(project, name)

        @app.get("/")
        async def look(session: Annotated[ProjectSession, scoped(db, authorize=always)]) -> UUID:
            return (await repos.projects.current(session)).id

        assert (await client.get("/")).json() == str(project.id)

    @pytest.mark.parametrize("returned", [None, "", 0, 1, b"acme", ["acme"], {}])
    async def test_that_returns_no_project_is_a_defect(
        self, app: FastAPI, client: httpx.AsyncClient, db: Database, returned: object
    ) -> None:
        @app.get("/")
        async def look(session: Annotated[ProjectSession, scoped(db, authorize=lambda: returned)]) -> int:
            return await repos.qa_tickets.count(session)

        answer = await client.get("/")
        assert (answer.status_code, answer.json()["code"]) == (500, ScopeError.code)

    @pytest.mark.parametrize(
        "project", ["nobody", "No-Slug", "a--b", "%00", "x" * 64, "0" * 32, "0a0a0a0a-0000-7000-8000-00000000000a"]
    )
    async def test_that_hands_on_what_names_no_project_is_not_found(
        self, app: FastAPI, client: httpx.AsyncClient, scopes: Any, project: str
    ) -> None:
        @app.get("/{project}")
        async def look(session: scopes.write) -> int:
            return await repos.qa_tickets.count(session)

        answer = await client.get(f"/{project}")
        assert answer.status_code == 404

    async def test_shows_its_parameters_and_security_in_the_description(self, app: FastAPI, scopes: Any) -> None:
        @app.get("/{project}/tickets")
        async def look(session: scopes.read) -> int:
            return 0

        operation = app.openapi()["paths"]["/{project}/tickets"]["get"]
        assert [parameter["name"] for parameter in operation["parameters"]] == ["project"]
        assert operation["security"] == [{"HTTPBearer": []}]
