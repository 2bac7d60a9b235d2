"""The OpenAPI description is what the service does: rows with all their fields, problems for errors."""

from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Response
from pydantic import BaseModel, create_model
from sqlmodel import SQLModel

from derwin_db import Page, models, sql
from derwin_db.fastapi import Paging, Problem, install_error_handlers
from derwin_db.fields.table import Table
from derwin_db.models import QATicket, QATicketCreate
from derwin_db.query.builders import table_of

TABLES = [kind for kind in vars(models).values() if isinstance(kind, type) and issubclass(kind, Table)]


@pytest.fixture
def schema(app: FastAPI) -> dict[str, Any]:
    """The description of an app with one list and one write."""

    @app.get("/tickets")
    async def tickets(paging: Paging) -> Page[QATicket]:
        """Described, and never called."""

    @app.post("/tickets", status_code=201)
    async def create(data: QATicketCreate) -> QATicket:
        """Described, and never called."""

    @app.get("/own", responses={422: {"description": "own"}, "default": {"description": "own"}})
    async def own(number: int) -> None:
        """Described, and never called."""

    return app.openapi()


class TestRows:
    @pytest.mark.parametrize("model", TABLES, ids=lambda model: model.__name__)
    def test_have_all_their_fields_in_an_answer(self, app: FastAPI, model: type[SQLModel]) -> None:
        @app.get("/", response_model=model)
        async def look() -> None:
            """Described, and never called."""

        described = app.openapi()["components"]["schemas"][model.__name__]
        assert sorted(described["required"]) == sorted(described["properties"]) == sorted(model.model_fields)

    def test_of_all_tables(self) -> None:
        assert {table_of(model).name for model in TABLES} == {"projects", *sql.PROJECT_TABLES}

    def test_are_typed_in_a_page(self, schema: dict[str, Any]) -> None:
        answer = schema["paths"]["/tickets"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        page = schema["components"]["schemas"][answer.rpartition("/")[2]]
        assert page["properties"]["items"]["items"]["$ref"].endswith("/QATicket")

    def test_name_what_is_required_of_an_input(self, schema: dict[str, Any]) -> None:
        described = schema["components"]["schemas"]["QATicketCreate"]
        assert sorted(described["required"]) == [
            *("classification", "confidence", "description", "risk_score", "severity", "steps_to_reproduce", "title"),
        ]
        assert described["additionalProperties"] is False


class TestProblems:
    def test_are_the_answer_to_everything_else(self, schema: dict[str, Any]) -> None:
        for operation in (schema["paths"]["/tickets"]["get"], schema["paths"]["/tickets"]["post"]):
            assert "422" not in operation["responses"]
            content = operation["responses"]["default"]["content"]
            assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}

    def test_stand_among_the_schemas_and_fastapis_own_do_not(self, schema: dict[str, Any]) -> None:
        schemas = schema["components"]["schemas"]
        assert sorted(schemas["Problem"]["required"]) == ["code", "detail", "status", "title", "type"]
        assert "Refusal" in schemas
        assert not {"HTTPValidationError", "ValidationError"} & set(schemas)

    def test_leave_what_a_route_describes_itself(self, schema: dict[str, Any]) -> None:
        responses = schema["paths"]["/own"]["get"]["responses"]
        assert responses["422"]["description"] == responses["default"]["description"] == "own"

    def test_are_described_for_routes_that_come_later(self, app: FastAPI) -> None:
        app.openapi()

        @app.get("/later")
        async def later(number: int) -> Annotated[str, "x"]:
            """Described, and never called."""

        app.openapi_schema = None
        assert "default" in app.openapi()["paths"]["/later"]["get"]["responses"]

    def test_are_described_once_however_often_they_are_installed(self, app: FastAPI) -> None:
        install_error_handlers(app)

        @app.get("/", response_class=Response)
        async def look() -> None:
            """Described, and never called."""

        assert app.openapi() is app.openapi()

    def test_are_described_where_a_route_names_the_problem_itself(self, app: FastAPI) -> None:
        @app.get("/named", responses={404: {"model": Problem}})
        async def named(number: int) -> None:
            """Described, and never called."""

        @app.get("/other")
        async def other(number: int) -> None:
            """Described, and never called."""

        schema = app.openapi()
        assert sorted(schema["components"]["schemas"]) == ["Problem", "Refusal"]
        assert problem_of(schema, "/other") == problem_of(schema, "/named") == "Problem"

    @pytest.mark.parametrize("name", ["Problem", "Refusal", "ValidationError", "HTTPValidationError"])
    def test_leave_a_model_of_the_service_its_name(self, app: FastAPI, name: str) -> None:
        model: type[BaseModel] = create_model(name, theirs=(str, ...))

        @app.get("/theirs", response_model=model)
        async def theirs() -> None:
            """Described, and never called."""

        schema = app.openapi()
        schemas = schema["components"]["schemas"]
        assert set(schemas[name]["properties"]) == {"theirs"}
        problem = schemas[problem_of(schema, "/theirs")]
        refusal = schemas[problem["properties"]["errors"]["anyOf"][0]["items"]["$ref"].rpartition("/")[2]]
        assert "code" in problem["properties"]
        assert "rule" in refusal["properties"]

    def test_keep_what_something_else_refers_to(self, app: FastAPI) -> None:
        """What a webhook answers is described by FastAPI alone."""

        @app.webhooks.post("pushed")
        def pushed(number: int) -> None:
            """Described, and never called."""

        schema = app.openapi()
        answer = schema["webhooks"]["pushed"]["post"]["responses"]["422"]["content"]["application/json"]["schema"]["$ref"]
        assert answer.rpartition("/")[2] in schema["components"]["schemas"]
        assert "ValidationError" in schema["components"]["schemas"]


def problem_of(schema: dict[str, Any], path: str) -> str:
    """Return the name of the schema that an operation answers errors with."""
    content = schema["paths"][path]["get"]["responses"]["default"]["content"]
    reference: str = content["application/problem+json"]["schema"]["$ref"]
    return reference.rpartition("/")[2]
