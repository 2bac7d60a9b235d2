"""Descriptions and examples of fields, put into the JSON Schema of the models that have them. The texts are the models' own."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema

Texts = Mapping[str, tuple[str, Any]]

_FACES = ("Conclusion", "Create", "Update", "Brief", "Fields", "Read")
_TEXTS: dict[str, dict[str, tuple[str, Any]]] = {}


def describe(module: str, texts: Texts) -> None:
    """Say what fields mean to the clients of an API: a description and an example for each, None for no example.

        describe(__name__, {"Webhook.note": ("Why it is there.", "For the dashboard."), "url": ("Where to call.", "https://...")})

    They hold for the models that this module defines, or one below it. A key is a field's name, or `Class.field`, where the
    class is the table's: it holds for its inputs too (`WebhookCreate`, `WebhookUpdate`).
    """
    _TEXTS.setdefault(module, {}).update(texts)


class Described:
    """Puts them into the JSON Schema of a model, for the fields that models of this package have given it."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema that Pydantic makes, with descriptions."""
        schema = handler(core_schema)
        for name, shown in handler.resolve_ref_schema(schema).get("properties", {}).items():
            if _says_itself(cls, name):
                continue
            description, example = _text(cls, name)
            if description is not None:
                shown["description"] = description
            if example is not None and "$ref" not in shown:
                shown["examples"] = [example]
        return schema


def _says_itself(model: Any, name: str) -> bool:
    """Tell whether a description was given to the field itself."""
    return any(
        field.description is not None for known, field in model.__pydantic_fields__.items() if name in (known, field.alias)
    )


def _text(model: type, name: str) -> tuple[str | None, Any]:
    """Return what is said of a field by the modules of the classes that have it, the model's own first."""
    for base in model.__mro__:
        fields = base.__dict__.get("__pydantic_fields__", {}) if issubclass(base, BaseModel) else {}
        if any(name in (known, info.alias) for known, info in fields.items()):
            for texts in _of_module(base.__module__):
                found = texts.get(f"{_subject(base.__name__)}.{name}") or texts.get(name)
                if found:
                    return found
    return None, None


def _of_module(name: str) -> list[Texts]:
    parts = name.split(".")
    above = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return [_TEXTS[module] for module in above if module in _TEXTS]


def _subject(name: str) -> str:
    """Return what a model is of: a table, or a shape."""
    return next((name.removesuffix(face) for face in _FACES if name.endswith(face)), name)
