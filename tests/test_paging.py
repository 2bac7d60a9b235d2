"""Cursors and limits alone."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derwin_db.errors import InvalidCursor, InvalidInput
from derwin_db.fields.scalars import new_id
from derwin_db.models import QATicket
from derwin_db.paging import check_limit, decode_cursor, encode_cursor, make_page, query_digest
from derwin_db.repos.conditions import KEYS

DIGEST = query_digest("project", "table", [("status", "OPEN")])
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001

MOMENT = datetime(2026, 5, 4, 9, 30, 0, 1, tzinfo=UTC)
VALUES = (MOMENT, 7, True, False, 0.25, Decimal("0.10"), date(2026, 5, 4), UUID(int=8), "a word")
OF_BEFORE = {
    "AAZQ-pMV9gEAAAAAAAAAAAAAAAAAAAAHJWLIG0mDFbgV6cco": MOMENT,
    "AAAAAAAAAAcAAAAAAAAAAAAAAAAAAAAHE33d2_DyUmoOtq2C": 7,
    "P9AAAAAAAAAAAAAAAAAAAAAAAAAAAAAHIPgSW5QXno4fPX7S": 0.25,
    "MC4xMAAAAAAAAAAAAAAAAAAAAAfdcGeVsxP8KaP_f1A": Decimal("0.10"),
    "YSB3b3JkAAAAAAAAAAAAAAAAAAAAB9sPuB1QCUu5fHhdaw": "a word",
}
"""Cursors that clients hold while the service is deployed anew."""


class TestCursor:
    @given(MOMENTS, st.uuids())
    def test_comes_back_as_it_went(self, moment, id):
        assert decode_cursor(encode_cursor(DIGEST, moment, id), DIGEST) == (moment, id)

    @pytest.mark.parametrize("value", VALUES, ids=repr)
    def test_holds_a_value_of_each_type_that_lists_are_ordered_by(self, value):
        found, id = decode_cursor(encode_cursor(DIGEST, value, UUID(int=7)), DIGEST, type(value))
        assert (found, type(found), id) == (value, type(value), UUID(int=7))
        assert {type(one) for one in VALUES} == KEYS

    @pytest.mark.parametrize("cursor", OF_BEFORE)
    def test_of_the_release_before_is_taken(self, cursor):
        assert decode_cursor(cursor, DIGEST, type(OF_BEFORE[cursor])) == (OF_BEFORE[cursor], UUID(int=7))

    @given(MOMENTS, st.uuids(), st.binary(min_size=12, max_size=12))
    def test_of_another_query_is_refused(self, moment, id, other):
        if other != DIGEST:
            with pytest.raises(InvalidCursor):
                decode_cursor(encode_cursor(DIGEST, moment, id), other)

    @given(st.text() | st.binary() | st.integers() | st.none())
    def test_anything_else_is_refused(self, cursor):
        with pytest.raises(InvalidCursor):
            decode_cursor(cursor, DIGEST)

    @given(st.integers(0, 47), st.characters(codec="ascii"))
    def test_every_change_of_it_is_refused(self, position, letter):
        cursor = encode_cursor(DIGEST, datetime(2026, 1, 1, tzinfo=UTC), UUID(int=7))
        changed = cursor[:position] + letter + cursor[position + 1 :]
        if changed != cursor:
            with pytest.raises(InvalidCursor):
                decode_cursor(changed, DIGEST)

    @pytest.mark.parametrize(
        ("key", "kind"),
        [
            ("a word", int),
            (1.5, Decimal),
            (-1.5, str),
            (2**62, datetime),
            ("a word", datetime),
            ("a word", date),
            ("a word", UUID),
        ],
        ids=lambda value: getattr(value, "__name__", str(value)),
    )
    def test_of_a_column_that_had_another_type_is_refused(self, key, kind):
        """A revision of the service changed the column, and somebody comes back with the cursor of before."""
        cursor = encode_cursor(DIGEST, key, UUID(int=7))
        with pytest.raises(InvalidCursor):
            decode_cursor(cursor, DIGEST, kind)

    def test_is_never_longer_than_those_that_are_taken_back(self):
        longest = 4096 * 3 // 4 - 16 - 12
        cursor = encode_cursor(DIGEST, "\u00e9" * (longest // 2), UUID(int=7))
        assert decode_cursor(cursor, DIGEST, str) == ("\u00e9" * (longest // 2), UUID(int=7))
        with pytest.raises(InvalidInput, match=r"^order: a text of this column is too long"):
            encode_cursor(DIGEST, "a" * (longest + 1), UUID(int=7))

    def test_its_text_fits_into_a_url(self):
        cursor = encode_cursor(DIGEST, datetime(2026, 1, 1, tzinfo=UTC), new_id())
        assert all(letter.isalnum() or letter in "-_" for letter in cursor)


class TestDigest:
    def test_follows_project_query_and_values(self):
        seen = {query_digest(*parts) for parts in (("a", "t", []), ("b", "t", []), ("a", "u", []), ("a", "t", [("s", 1)]))}
        assert len(seen) == 4
        assert query_digest("a", "t", [("s", "\ud800")])


class TestLimit:
    @pytest.mark.parametrize("limit", [1, 50, 500])
    def test_taken(self, limit):
        assert check_limit(limit) == limit

    @pytest.mark.parametrize("limit", [0, -1, 501, True, 1.0, "5", None, 10**30])
    def test_refused(self, limit):
        with pytest.raises(InvalidInput, match="limit"):
            check_limit(limit)


class TestPage:
    def test_one_row_more_makes_a_cursor(self):
        start = datetime(2026, 1, 1, tzinfo=UTC)
        rows = [QATicket(id=new_id(), created_at=start - timedelta(seconds=number)) for number in range(3)]
        assert make_page(QATicket, rows, 3, DIGEST).next_cursor is None
        page = make_page(QATicket, rows, 2, DIGEST)
        assert page.items == rows[:2]
        assert decode_cursor(page.next_cursor, DIGEST) == (rows[1].created_at, rows[1].id)
