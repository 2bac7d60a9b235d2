"""What a bulk write answers where it was asked to answer for each row."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RowFailure:
    """A row that was not written: its place in what was given, from 0, and the rule that it breaks."""

    row: int
    code: str
    """The code of the error: `invalid_input`, `invalid_reference`, `conflict`, ..."""
    message: str
    """The field and the rule, without values."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """How many rows were written, and why the others were not, in the order in which they were given."""

    inserted: int
    failures: Sequence[RowFailure] = field(default=())
    duplicates: int = 0
    """How many were there already: signals by their fingerprint, entries of the ledger by their key. Else 0."""
