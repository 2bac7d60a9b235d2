"""Problems: what a client is told of an error (RFC 9457). Nothing that it sent, and nothing that is stored, is in one."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from derwin_db.errors import (
    ConfigurationError,
    Conflict,
    DatabaseTimeout,
    DatabaseUnavailable,
    DerwinError,
    InvalidCursor,
    InvalidInput,
    NotFound,
    StorageFull,
    TooLarge,
)

MEDIA_TYPE = "application/problem+json"

_STATUSES: dict[type[DerwinError], int] = {
    DerwinError: 500,
    InvalidInput: 422,
    TooLarge: 413,
    InvalidCursor: 400,
    NotFound: 404,
    Conflict: 409,
    DatabaseUnavailable: 503,
    DatabaseTimeout: 504,
    StorageFull: 507,
    ConfigurationError: 503,
}
"""The statuses of docs/reference/errors/index.md. A `ScopeError` is a defect of the service: 500. A `ConfigurationError` is
found at start; one that shows up later (a database that was migrated under a running service) is 503, as in /health/ready."""

INTERNAL = "The service failed. The error is in its log."


class Refusal(BaseModel):
    """One rule that the request breaks, and where."""

    field: str = Field(description="Place of the value.", examples=["body.title", "query.limit"])
    rule: str = Field(description="Stable name of the rule.", examples=["string_too_long"])
    message: str = Field(description="The rule, in words.", examples=["String should have at most 500 characters"])


class Problem(BaseModel):
    """An error, by RFC 9457, with a stable `code`. `errors` is there where the request itself was refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(json_schema_extra={"description": "An error (RFC 9457). `code` is stable."})

    type: str = Field(
        description="A URI that names the kind of error; about:blank says no more than the status.",
        examples=["urn:derwin-db:not_found"],
    )
    title: str = Field(description="The kind of error, in words.", examples=["Not found"])
    status: int = Field(ge=400, le=599, description="The HTTP status.", examples=[404])
    code: str = Field(description="The kind of error, stable: what a program looks at.", examples=["not_found"])
    detail: str = Field(description="What happened, and what to do.", examples=["No such row in this project."])
    errors: list[Refusal] | None = Field(default=None, description="Each rule that the request itself breaks.")


def status_of(error: DerwinError) -> int:
    """Return the HTTP status of an error."""
    return next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)


def problem_of(error: DerwinError) -> Response:
    """Return the response to an error of this package."""
    status = status_of(error)
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return problem(status, error.code, error.message)
    return failure(error, status)


def failure(error: DerwinError, status: int) -> Response:
    """Return the response to what is not the client's fault: in general words, since a message may name a host."""
    detail = INTERNAL if status == HTTPStatus.INTERNAL_SERVER_ERROR else error.default
    is_temporary = status == HTTPStatus.SERVICE_UNAVAILABLE
    return problem(status, error.code, detail, retry_after=DatabaseUnavailable.retry_after if is_temporary else None)


def problem(
    status: int,
    code: str,
    detail: Any,
    *,
    is_plain: bool = False,
    retry_after: int | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """Return a problem as a response. `is_plain` says no more than its status does.

    Units:
        `retry_after` in seconds.
    """
    body = {
        "type": "about:blank" if is_plain else f"urn:derwin-db:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
        **more,
    }
    all_headers = dict(headers or {})
    if retry_after is not None:
        all_headers["Retry-After"] = str(retry_after)
    return Response(json.dumps(body), status_code=status, headers=all_headers, media_type=MEDIA_TYPE)
