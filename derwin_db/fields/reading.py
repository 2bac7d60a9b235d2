"""What a row looks like to whoever reads it as JSON: a plain Pydantic model for each table, made from its columns.

A table class validates nothing that it is given. Its read model does: it is what a row is read back through from a cache or a
queue, and what a response that says more, or less, is derived from.
"""

from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializeAsAny,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)
from sqlmodel import SQLModel

from derwin_db.fields.described import Described

_AS_IT_IS: Any = SerializeAsAny()  # type: ignore[type-arg]  # checkers see an alias


class Read(Described, BaseModel):
    """Base of the read models: made from a row or from JSON, with no values in errors."""

    model_config: ClassVar[ConfigDict] = ConfigDict(from_attributes=True, hide_input_in_errors=True)


@cache
def read_model(table: type[SQLModel]) -> type[Read]:
    """Return the read model of a table class: all its columns, each required, for a row has them all."""
    from derwin_db.fields.table import PydanticJson  # it imports this module

    columns = table.__table__.columns  # type: ignore[attr-defined]  # of every table class
    fields: dict[str, Any] = {}
    for name, field in table.model_fields.items():
        kind = _annotation(field.annotation, field.metadata)
        is_json = isinstance(columns[name].type, PydanticJson)
        fields[name] = (Annotated[kind, _AS_IT_IS, WrapValidator(_or_plain)] if is_json else kind, ...)
    return create_model(f"{table.__name__}Read", __base__=Read, __module__=table.__module__, __doc__=table.__doc__, **fields)


def _or_plain(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Take JSON of another shape as the plain JSON that it is, as rows are read: SQL of a caller may have written it."""
    try:
        return validate(value)
    except ValidationError:
        if value is None or isinstance(value, dict | list | str | int | float):
            return value
        raise


def _annotation(kind: Any, metadata: list[Any]) -> Any:
    """Return the type with the rules of its values, and without what SQLModel keeps there for the column."""
    rules = tuple(rule for rule in metadata if not type(rule).__module__.startswith("sqlmodel"))
    return Annotated[(kind, *rules)] if rules else kind
