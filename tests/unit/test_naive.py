"""Arguments of statements by hand that are times without an offset."""

from datetime import UTC, date, datetime

import pytest

from derwin_db.errors import InvalidInput
from derwin_db.unit.naive import check_zones

WITH_OFFSET = datetime(2026, 1, 2, tzinfo=UTC)
NAIVE = WITH_OFFSET.replace(tzinfo=None)


class TestCheckZones:
    @pytest.mark.parametrize("value", [NAIVE, date(2026, 1, 2), [WITH_OFFSET, NAIVE]])
    def test_names_the_place_of_the_first(self, value: object) -> None:
        with pytest.raises(InvalidInput, match=r"^Argument 2 is a date"):
            check_zones([WITH_OFFSET, value, value], frozenset({0, 1, 2}))

    def test_takes_what_has_an_offset_and_what_is_stored_without_one(self) -> None:
        check_zones([WITH_OFFSET, date(2026, 1, 2)], frozenset({0, 5}))
