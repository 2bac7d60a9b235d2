"""Every error has one form, a status, and nothing in it that a client sent or a row holds."""

import json
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Response, WebSocket
from fastapi.exceptions import RequestValidationError

from derwin_db import errors, repos
from derwin_db.errors import DerwinError, TooLarge
from derwin_db.fastapi import Problem, install_error_handlers
from derwin_db.fastapi.problem import INTERNAL
from derwin_db.fastapi.validation import _RULES
from derwin_db.models import Project, ProjectProfileCreate, QATicketCreate, SpendLedgerCreate
from derwin_db.testing import factories

ROOT = Path(__file__).parents[2]
STATUSES = {
    500: "InvalidStatement DerwinError ScopeError ConcurrentUse",
    422: "InvalidInput InvalidReference",
    413: "TooLarge",
    400: "InvalidCursor",
    404: "NotFound ProjectNotFound",
    409: "Conflict StaleWrite IllegalTransition AppendOnlyViolation RetentionLocked BudgetExceeded",
    503: "DatabaseUnavailable OutcomeUnknown ReplicaBehind ConfigurationError SchemaOutOfDate ExtensionMissing "
    "IsolationNotEnforced",
    504: "DatabaseTimeout",
    507: "StorageFull",
}
EXPECTED = {getattr(errors, name): status for status, names in STATUSES.items() for name in names.split()}
SECRET = "s3cret"


def all_errors(kind: type[DerwinError] = DerwinError) -> list[type[DerwinError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in all_errors(child))]


def check(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    Problem.model_validate(body, strict=True)
    assert body["status"] == answer.status_code
    assert SECRET not in answer.text
    return body


class TestDerwinErrors:
    @pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
    async def test_have_their_status(self, app: FastAPI, client: httpx.AsyncClient, kind: type[DerwinError]) -> None:
        @app.get("/")
        async def look() -> None:
            raise kind

        answer = await client.get("/")
        body = check(answer)
        assert answer.status_code == EXPECTED[kind]
        assert body["code"] == kind.code
        assert body["type"] == f"urn:derwin-db:{kind.code}"
        assert body["detail"] == (INTERNAL if answer.status_code == 500 else kind.default)
        assert ("Retry-After" in answer.headers) is (answer.status_code == 503)

    async def test_say_what_to_do_where_the_client_can(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        @app.get("/")
        async def look() -> None:
            raise errors.Conflict("A ticket is not a duplicate of itself.")

        assert check(await client.get("/"))["detail"] == "A ticket is not a duplicate of itself."

    @pytest.mark.parametrize("kind", [errors.ScopeError, errors.DatabaseUnavailable, errors.ConfigurationError])
    async def test_keep_the_services_own_affairs_to_the_log(
        self, app: FastAPI, client: httpx.AsyncClient, kind: type[DerwinError], caplog: pytest.LogCaptureFixture
    ) -> None:
        @app.get("/")
        async def look() -> None:
            raise kind(f"No PostgreSQL answers on {SECRET}.internal.")

        with caplog.at_level(logging.WARNING, "derwin_db.fastapi"):
            check(await client.get("/"))
        assert [record.name for record in caplog.records] == ["derwin_db.fastapi"]
        assert SECRET in caplog.text

    @pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
    async def test_are_logged_by_whose_fault_they_are(
        self, app: FastAPI, client: httpx.AsyncClient, kind: type[DerwinError], caplog: pytest.LogCaptureFixture
    ) -> None:
        """The service's own with where they come from, a server's without, and a client's not at all."""

        @app.get("/")
        async def look() -> None:
            raise kind

        with caplog.at_level(logging.DEBUG, "derwin_db.fastapi"):
            await client.get("/")
        is_defect = issubclass(kind, errors.ScopeError | errors.InvalidStatement | errors.ConfigurationError)
        seen = [(record.levelname, record.exc_info is not None) for record in caplog.records]
        assert seen == ([] if EXPECTED[kind] < 500 else [("ERROR", True)] if is_defect else [("WARNING", False)])

    async def test_of_a_row_of_another_project_are_those_of_no_row(
        self,
        app: FastAPI,
        client: httpx.AsyncClient,
        scopes: Any,
        db: Any,
        project: Project,
        other_project: Project,
    ) -> None:
        from uuid import UUID

        @app.get("/{project}/{ticket_id}")
        async def look(session: scopes.read, ticket_id: UUID) -> Any:
            return await repos.qa_tickets.get(session, ticket_id)

        async with db.project(other_project.id) as session:
            await repos.qa_tickets.create_many(session, [QATicketCreate(**TICKET)])
            foreign = (await repos.qa_tickets.list(session)).items[0].id
        answers = [await client.get(f"/{project.slug}/{id}") for id in (foreign, UUID(int=foreign.int ^ 1))]
        assert answers[0].status_code == 404
        assert answers[0].text == answers[1].text


TICKET: dict[str, Any] = factories.ticket(title="Totals drift").model_dump(exclude_defaults=True)


@pytest.fixture
def posts(app: FastAPI) -> FastAPI:
    """Endpoints that take bodies."""

    @app.post("/tickets", status_code=201)
    async def ticket(data: QATicketCreate) -> None:
        pass

    @app.post("/spend", status_code=201)
    async def spend(data: SpendLedgerCreate) -> None:
        pass

    @app.post("/profile", status_code=201)
    async def profile(data: ProjectProfileCreate) -> None:
        pass

    return app


class TestRefusedRequests:
    @pytest.mark.parametrize(
        ("change", "field", "rule"),
        [
            ({"title": ""}, "body.title", "string_too_short"),
            ({"title": f"{SECRET}\0"}, "body.title", "text"),
            ({"title": SECRET * 100}, "body.title", "string_too_long"),
            ({"title": None}, "body.title", "string_type"),
            ({"description": f"{SECRET}\ud800"}, "body.description", "text"),
            ({"severity": SECRET}, "body.severity", "enum"),
            ({"confidence": SECRET}, "body.confidence", "float_type"),
            ({"confidence": True}, "body.confidence", "float_type"),
            ({"confidence": float("nan")}, "body.confidence", "float_type"),
            ({"risk_score": 1.0001}, "body.risk_score", "less_than_equal"),
            ({"classification": f"No {SECRET}"}, "body.classification", "pattern"),
            ({"run_id": SECRET}, "body.run_id", "uuid"),
            ({"steps_to_reproduce": SECRET}, "body.steps_to_reproduce", "list_type"),
            ({"steps_to_reproduce": [1]}, "body.steps_to_reproduce.0", "string_type"),
            ({"project_id": SECRET}, "body.project_id", "extra_forbidden"),
            ({f"{SECRET} with spaces": 1}, "body.?", "extra_forbidden"),
            ({"\ud800": 1}, "body", "string_unicode"),
        ],
        ids=lambda value: value if isinstance(value, str) else None,
    )
    async def test_name_field_and_rule_and_no_value(
        self, posts: FastAPI, client: httpx.AsyncClient, change: dict[str, Any], field: str, rule: str
    ) -> None:
        answer = await client.post("/tickets", content=json.dumps({**TICKET, **change}), headers=JSON)
        body = check(answer)
        assert answer.status_code == 422
        assert [(error["field"], error["rule"]) for error in body["errors"]] == [(field, rule)]

    async def test_name_every_field_that_is_missing(self, posts: FastAPI, client: httpx.AsyncClient) -> None:
        body = check(await client.post("/tickets", json={}))
        assert {error["rule"] for error in body["errors"]} == {"missing"}
        assert len(body["errors"]) == len(TICKET)

    async def test_are_413_where_something_is_too_large(self, posts: FastAPI, client: httpx.AsyncClient) -> None:
        answer = await client.post("/tickets", json={**TICKET, "description": "x" * 1_000_001})
        assert (answer.status_code, check(answer)["code"]) == (413, TooLarge.code)
        assert len(answer.content) < 1000

    @pytest.mark.parametrize("is_streamed", [False, True])
    async def test_are_413_where_the_body_is_too_large(self, is_streamed: bool) -> None:
        app = FastAPI(max_body_size=1000)
        install_error_handlers(app)

        @app.post("/tickets")
        async def create(data: QATicketCreate) -> None: ...

        @app.get("/plain")
        async def plain() -> Response:
            return Response("my own", status_code=413, media_type="text/plain")

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b" " * 100

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answer = await client.post("/tickets", content=parts() if is_streamed else b" " * 2000, headers=JSON)
            assert (answer.status_code, check(answer)["code"]) == (413, TooLarge.code)
            assert (await client.get("/plain")).text == "my own"

    @pytest.mark.parametrize(
        "content", [b"", b"{", b'{"title": s3cret}', b"s3cret", b"null", b"[]", b'"s3cret"', b"\xff\xfe", b"{}" * 3]
    )
    async def test_that_are_no_json_object(self, posts: FastAPI, client: httpx.AsyncClient, content: bytes) -> None:
        answer = await client.post("/tickets", content=content, headers=JSON)
        assert answer.status_code in {400, 422}
        check(answer)

    async def test_that_are_too_deep_for_the_parser(self, posts: FastAPI, client: httpx.AsyncClient) -> None:
        answer = await client.post("/tickets", content=b"[" * 200_000, headers=JSON)
        assert answer.status_code in {400, 422}
        check(answer)

    async def test_do_not_repeat_keys_of_a_dictionary(self, posts: FastAPI, client: httpx.AsyncClient) -> None:
        profile = {
            "summary": "",
            "domain_ontology": {},
            "risk_weights": {f"{SECRET} {SECRET}": 2},
            "critical_flows": [],
            "glossary": {},
        }
        body = check(await client.post("/profile", json=profile))
        assert body["errors"][0]["field"] == "body.risk_weights.?"

    async def test_do_not_repeat_what_a_service_s_own_rule_says(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        @app.get("/")
        async def look() -> None:
            raise RequestValidationError(
                [{"type": "value_error", "loc": ("body", "x"), "msg": f"Value error, {SECRET}", "input": SECRET, "ctx": {}}]
            )

        assert check(await client.get("/"))["errors"][0] == {
            "field": "body.x",
            "rule": "value_error",
            "message": "The value is not valid.",
        }

    @pytest.mark.parametrize(("number", "said"), [(100, ""), (101, " The first 100 of 101 are listed."), (5000, " of 5000 ")])
    async def test_list_a_hundred_errors_at_most(
        self, posts: FastAPI, client: httpx.AsyncClient, number: int, said: str
    ) -> None:
        answer = await client.post("/tickets", json={**TICKET, "steps_to_reproduce": [1] * number})
        body = check(answer)
        assert len(body["errors"]) == 100
        assert said in body["detail"]
        assert ("are listed" in body["detail"]) is (said != "")

    async def test_by_a_path_parameter(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        from uuid import UUID

        @app.get("/{id}")
        async def look(id: UUID) -> None:
            pass

        body = check(await client.get(f"/{SECRET}"))
        assert body["errors"] == [{"field": "path.id", "rule": "uuid_parsing", "message": "The value is not valid."}]

    def test_rules_of_this_package_are_all_known(self) -> None:
        sources = [path.read_text() for path in (ROOT / "derwin_db").rglob("*.py")]
        used = {code for source in sources for code in re.findall(r'(?:refuse|PydanticCustomError)\(\s*"([a-z_]+)"', source)}
        assert "money" in used
        assert used - _RULES == set()


JSON = {"Content-Type": "application/json"}


class TestOtherErrors:
    async def test_that_nobody_knows_are_500_without_text(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        @app.get("/")
        async def look() -> None:
            raise ValueError(SECRET)

        answer = await client.get("/")
        assert answer.status_code == 500
        assert check(answer)["code"] == "internal_error"

    async def test_of_http_keep_their_words_and_headers(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        @app.get("/")
        async def look() -> None:
            raise HTTPException(401, "Who are you?", headers={"WWW-Authenticate": "Bearer"})

        answer = await client.get("/")
        body = check(answer)
        assert (body["detail"], body["type"], body["code"]) == ("Who are you?", "about:blank", "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (400, "bad_request"),
            (403, "forbidden"),
            (404, "not_found"),
            (413, "too_large"),
            (409, "http_409"),
            (418, "http_418"),
        ],
    )
    async def test_of_http_have_a_code(self, app: FastAPI, client: httpx.AsyncClient, status: int, code: str) -> None:
        @app.get("/")
        async def look() -> None:
            raise HTTPException(status)

        assert check(await client.get("/"))["code"] == code

    async def test_of_the_router_are_problems_too(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        @app.get("/")
        async def look() -> None:
            pass

        assert check(await client.get("/nowhere"))["code"] == "not_found"
        assert check(await client.post("/"))["code"] == "method_not_allowed"

    async def test_without_a_body_stay_without(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        @app.get("/")
        async def look() -> None:
            raise HTTPException(304, headers={"ETag": "x"})

        answer = await client.get("/")
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", "x")

    @pytest.mark.parametrize(
        ("kind", "path"),
        [(HTTPException, "/http"), (DerwinError, "/ours"), (RequestValidationError, "/refused"), (Exception, "/other")],
        ids=lambda value: value.__name__ if isinstance(value, type) else "",
    )
    async def test_that_the_app_answers_itself_stay_its_own(self, kind: type[Exception], path: str) -> None:
        app = FastAPI()

        @app.exception_handler(kind)
        async def own(*_: Any) -> Response:
            return Response("own", 418)

        install_error_handlers(app)

        @app.get("/{what}")
        async def look(what: Literal["http", "ours", "other"]) -> None:
            raise {"http": HTTPException(400), "ours": errors.NotFound(), "other": ValueError()}[what]

        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            answers = {each: (await client.get(each)).text for each in ("/http", "/ours", "/refused", "/other")}
        assert {each for each, text in answers.items() if text == "own"} == {path}


class TestWebSockets:
    @pytest.mark.parametrize(
        ("path", "code", "reason"),
        [("/number/s3cret", 1008, "invalid_input"), ("/missing", 1008, "not_found"), ("/defect", 1011, "scope_error")],
    )
    async def test_are_closed_with_a_code_and_no_value(self, app: FastAPI, path: str, code: int, reason: str) -> None:
        @app.websocket("/number/{number}")
        async def number(socket: WebSocket, number: int) -> None:
            pass

        @app.websocket("/missing")
        async def missing(socket: WebSocket) -> None:
            await socket.accept()
            raise errors.NotFound

        @app.websocket("/defect")
        async def defect(socket: WebSocket) -> None:
            await socket.accept()
            raise errors.ScopeError

        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(socket_scope(path), receive, send)
        assert (sent[-1]["type"], sent[-1]["code"], sent[-1]["reason"]) == ("websocket.close", code, reason)

    @pytest.mark.parametrize("who", ["the service", "the client"])
    async def test_that_are_closed_already_are_not_closed_again(self, app: FastAPI, who: str) -> None:
        """As where a unit of work can't be stored at the end of its block."""

        @app.websocket("/")
        async def late(socket: WebSocket) -> None:
            await socket.accept()
            if who == "the service":
                await socket.close()
            else:
                await socket.receive()
            raise errors.DatabaseUnavailable

        received = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001}])
        sent: list[str] = []

        async def receive() -> Any:
            return next(received)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await app(socket_scope("/"), receive, send)
        assert sent == ["websocket.accept", *(["websocket.close"] if who == "the service" else [])]


def socket_scope(path: str) -> dict[str, Any]:
    return {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "root_path": "",
    }
