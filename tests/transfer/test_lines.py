"""The file of an export alone: what is read of it before a row is looked at."""

import io

import pytest
import zstandard

from derwin_db.errors import InvalidInput, TooLarge
from derwin_db.transfer.lines import Limits, Lines

LIMITS = Limits(16)


def packed(data: bytes) -> io.BytesIO:
    return io.BytesIO(zstandard.ZstdCompressor().compress(data))


class TestMemory:
    def test_a_line_without_end_is_given_up_at_its_limit(self) -> None:
        """A few bytes may unpack to more than a machine holds: it is not read to the file's end."""
        with pytest.raises(TooLarge):
            Lines(packed(b"x" * (8 * LIMITS.line_bytes)), LIMITS).header()

    def test_a_line_at_the_limit_is_read(self) -> None:
        with pytest.raises(InvalidInput, match="truncated"):
            Lines(packed(b"x" * LIMITS.line_bytes), LIMITS).header()

    @pytest.mark.parametrize("more", [1, 1000])
    def test_a_line_that_ends_just_behind_it_is_not(self, more: int) -> None:
        with pytest.raises(TooLarge):
            Lines(packed(b"x" * (LIMITS.line_bytes + more) + b"\n"), LIMITS).header()

    def test_the_beginning_of_another_line_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match="truncated"):
            list(Lines(packed(b"{"), LIMITS)._lines)
