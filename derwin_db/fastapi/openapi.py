"""The OpenAPI description says what `install_error_handlers` does: every operation may answer with a problem."""

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI

from derwin_db.fastapi.problem import MEDIA_TYPE, Problem

_REFERENCE = "#/components/schemas/"
_FASTAPIS = ("HTTPValidationError", "ValidationError")
_PROBLEM = {
    "description": "An error, as a problem.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": f"{_REFERENCE}Problem"}}},
}


def describe_problems(app: FastAPI) -> None:
    """Have the app's description name the problem as the answer of each operation to whatever is not described itself."""
    app.openapi = _described(app.openapi)  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _described(openapi: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    def description() -> dict[str, Any]:
        schema = openapi()  # FastAPI keeps it: what is done here is done once
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        if "Problem" not in schemas:
            own = Problem.model_json_schema(ref_template=f"{_REFERENCE}{{model}}", mode="serialization")
            schemas.update(own.pop("$defs"), Problem=own)
            for operation in _operations(schema):
                _add_problem(operation["responses"])
            for name in _FASTAPIS:
                schemas.pop(name, None)
        return schema

    return description


def _operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in schema.get("paths", {}).values():
        yield from (operation for operation in path.values() if isinstance(operation, dict) and "responses" in operation)


def _add_problem(responses: dict[str, Any]) -> None:
    content = responses.get("422", {}).get("content", {})
    if content.get("application/json", {}).get("schema", {}).get("$ref") == f"{_REFERENCE}HTTPValidationError":
        del responses["422"]
    responses.setdefault("default", _PROBLEM)
