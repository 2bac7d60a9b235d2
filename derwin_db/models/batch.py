"""What a bulk write answers where it was asked to answer for each row."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True, slots=True)
class RowFailure:
    """A row that was not written: its place in what was given, from 0, and the rule that it breaks."""

    row: Annotated[int, Field(description="The row's place in what was given, from 0.", examples=[3])]
    code: Annotated[str, Field(description="The code of the error.", examples=["invalid_reference"])]
    """The code of the error: `invalid_input`, `invalid_reference`, `conflict`, ..."""
    message: Annotated[str, Field(description="The field and the rule.", examples=["run_id: no such row in this project."])]
    """The field and the rule, without values."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """How many rows were written, and why the others were not, in the order in which they were given."""

    inserted: Annotated[int, Field(description="Rows that were written.", examples=[97])]
    failures: Annotated[Sequence[RowFailure], Field(description="The rows that were not, and why.")] = field(default=())
    duplicates: Annotated[int, Field(description="Rows that were there already.", examples=[2])] = 0
    """How many were there already: signals by their fingerprint, entries of the ledger by their key. Else 0."""
