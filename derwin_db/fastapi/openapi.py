"""The OpenAPI description says what `install_error_handlers` does: every operation may answer with a problem."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder

from derwin_db.fastapi.problem import MEDIA_TYPE, Problem

_REFERENCE = "#/components/schemas/"
_FASTAPIS = ("HTTPValidationError", "ValidationError")
_LONG = f"{Problem.__module__.replace('.', '__')}__"
"""What FastAPI puts before a model's name where two have the same one."""


def describe_problems(app: FastAPI) -> None:
    """Have the app's description name the problem as the answer of each operation to whatever is not described itself."""
    app.openapi = _described(app.openapi)  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _described(openapi: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    done: dict[str, Any] | None = None

    def description() -> dict[str, Any]:
        nonlocal done
        schema = openapi()
        if schema is not done:  # FastAPI keeps it
            _describe(schema)
            done = schema
        return schema

    return description


def _describe(schema: dict[str, Any]) -> None:
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    reference = _add_schemas(schemas)
    for operation in _operations(schema):
        _add_problem(operation["responses"], reference)
    for name in _FASTAPIS:
        if f'"{_REFERENCE}{name}"' not in json.dumps(schema, default=str):
            schemas.pop(name, None)


def _add_schemas(schemas: dict[str, Any]) -> str:
    """Add the models of a problem, and return the reference to it. A model of the service keeps its name."""
    ours = _models("")
    if any(schemas.get(name, model) != model for name, model in ours.items()):
        ours = _models(_LONG)
    schemas.update(ours)
    return f"{_REFERENCE}{next(reversed(ours))}"


def _models(prefix: str) -> dict[str, Any]:
    """Return the problem's models as FastAPI writes them, by their names with this before them, the problem last."""
    made = Problem.model_json_schema(ref_template=f"{_REFERENCE}{prefix}{{model}}", mode="serialization")
    described = jsonable_encoder(made, exclude_none=True)
    parts = described.pop("$defs")
    return {f"{prefix}{name}": model for name, model in [*parts.items(), (Problem.__name__, described)]}


def _operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in schema.get("paths", {}).values():
        yield from (operation for operation in path.values() if isinstance(operation, dict) and "responses" in operation)


def _add_problem(responses: dict[str, Any], reference: str) -> None:
    content = responses.get("422", {}).get("content", {})
    if content.get("application/json", {}).get("schema", {}).get("$ref") == f"{_REFERENCE}HTTPValidationError":
        del responses["422"]
    described = {"description": "An error, as a problem.", "content": {MEDIA_TYPE: {"schema": {"$ref": reference}}}}
    responses.setdefault("default", described)
