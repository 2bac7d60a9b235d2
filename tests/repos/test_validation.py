"""Pydantic's errors become one of this package: every field and rule is named, no value, and too large stays too large."""

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from derwin_db.errors import InvalidInput, TooLarge
from derwin_db.repos.validation import check_version, invalid

LARGE = {"type": PydanticCustomError("too_large", "Too large"), "loc": ("a",), "input": "canary"}
OTHER = {"type": "missing", "loc": ("b",), "input": "canary"}


def error(*details: dict[str, object]) -> ValidationError:
    return ValidationError.from_exception_data("x", list(details))


class TestInvalid:
    @pytest.mark.parametrize(
        ("details", "kind"),
        [((LARGE,), TooLarge), ((OTHER,), InvalidInput), ((LARGE, OTHER), TooLarge), ((OTHER, LARGE), TooLarge)],
    )
    def test_is_too_large_where_one_of_several_is(self, details: tuple[dict[str, object], ...], kind: type) -> None:
        assert type(invalid(error(*details))) is kind

    def test_names_fields_and_rules(self) -> None:
        assert invalid(error(LARGE, OTHER), "data").message == "data.a: Too large; data.b: Field required"

    def test_names_no_value(self) -> None:
        class Shape(BaseModel):
            number: int

        with pytest.raises(ValidationError) as caught:
            Shape(number="canary")  # type: ignore[arg-type]
        assert "canary" not in str(invalid(caught.value))


class TestVersion:
    @pytest.mark.parametrize("version", [1, 1000, 2**31 - 1])
    def test_is_any_that_a_column_holds(self, version: int) -> None:
        assert check_version(version) == version

    @pytest.mark.parametrize("version", [0, -1, 2**31, True, 1.0, "1"])
    def test_is_nothing_else(self, version: object) -> None:
        with pytest.raises(InvalidInput, match=r"^expected_version: an integer of at least 1"):
            check_version(version)
