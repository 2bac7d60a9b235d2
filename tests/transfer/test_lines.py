"""The file of an export alone: what is read of it before a row is looked at."""

import io

import pytest
import zstandard

from derwin_db.errors import InvalidInput
from derwin_db.transfer import lines
from derwin_db.transfer.lines import Lines


def packed(data: bytes) -> io.BytesIO:
    return io.BytesIO(zstandard.ZstdCompressor().compress(data))


class TestMemory:
    def test_a_line_without_end_is_refused_before_it_is_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A few bytes may unpack to more than a machine holds: the line is given up at its limit, not at the file's end."""
        monkeypatch.setattr(lines, "_LONGEST_LINE", 1 << 20)
        source = packed(b"x" * (8 << 20))
        with pytest.raises(InvalidInput, match="a line that no export writes"):
            Lines(source).header()

    def test_a_line_at_the_limit_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lines, "_LONGEST_LINE", 100)
        with pytest.raises(InvalidInput, match="truncated"):
            Lines(packed(b"x" * 100)).header()
