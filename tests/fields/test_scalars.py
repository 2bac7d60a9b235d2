"""The annotated types alone: what comes out of each, and that what goes in twice comes out the same."""

import string
from datetime import UTC, datetime, timedelta, timezone
from decimal import Context, Decimal, Inexact, localcontext
from pathlib import Path
from uuid import UUID, uuid5

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from derwin_db.fields import scalars
from derwin_db.fields.json import JSON_BYTES, JSON_DEPTH, JsonObject
from derwin_db.fields.money import Cost, Money
from derwin_db.fields.scalars import (
    DERWIN_NAMESPACE,
    AnyUri,
    ByteSize,
    Classification,
    Count,
    Fingerprint,
    Id,
    LongText,
    Score,
    ShortText,
    Timestamp,
    WebUrl,
    Window,
    is_slug,
    new_id,
    project_id_of,
)
from derwin_db.fields.vector import VECTOR_SIZE, Embedding
from tests.contract.good_values import MONEY


def take(alias, value):
    return TypeAdapter(alias).validate_python(value)


def refuses(alias, value) -> bool:
    try:
        take(alias, value)
    except ValidationError:
        return True
    return False


class TestUpperBounds:
    """The last value that is taken, and the first one that is not."""

    @pytest.mark.parametrize(
        ("alias", "most", "more"),
        [
            (Window, timedelta(days=36_525), timedelta(days=36_525, microseconds=1)),
            (LongText, "x" * 1_000_000, "x" * 1_000_001),
            (ShortText, "x" * 500, "x" * 501),
            (Money, "1" + "0" * 7 + "." + "0" * 55, "1" + "0" * 7 + "." + "0" * 56),  # 64 characters
            (Money, "99999999.999999", "100000000"),
            (Fingerprint, "x" * 128, "x" * 129),
            (Classification, "x" * 64, "x" * 65),
            (Count, 2**31 - 1, 2**31),
            (ByteSize, 2**63 - 1, 2**63),
            (Score, 1.0, 1.0000000000000002),
        ],
    )
    def test_are_exact(self, alias, most, more):
        take(alias, most)
        assert refuses(alias, more)


class TestNewId:
    def test_sorts_by_its_time(self):
        made = [new_id() for _ in range(1000)]
        assert made == sorted(made)
        assert len(set(made)) == 1000
        assert {one.version for one in made} == {7}
        assert type(made[0]) is UUID


class TestProjectId:
    def test_is_the_same_on_every_machine(self):
        assert project_id_of("acme") == uuid5(DERWIN_NAMESPACE, "acme")
        assert str(project_id_of("lifeline")) == str(uuid5(DERWIN_NAMESPACE, "lifeline"))

    @given(st.text(string.ascii_lowercase + string.digits + "-", max_size=70))
    def test_a_slug_is_what_the_database_takes_and_no_id(self, text):
        groups = text.split("-")
        wanted = len(text) <= 63 and all(group.isalnum() for group in groups) and text.isascii()
        if is_slug(text):
            assert wanted
        elif wanted:
            assert UUID(text)

    @pytest.mark.parametrize("text", ["01a207e6-f19a-72a7-a9d4-51d6daed7b71", "01a207e6f19a72a7a9d451d707a62f42", "0" * 32])
    def test_what_reads_as_an_id_is_none(self, text):
        assert not is_slug(text)


class TestId:
    def test_is_given_back_itself(self):
        id = new_id()
        assert take(Id, id) is id
        assert take(Id, str(id)) == id


class TestShortText:
    @pytest.mark.parametrize(
        "text", ["x", "\t", "\x01", "\u00e4", "e\u0301", "\U0001f600" * 500, "\ufffe", "\u202e", "x" * 500]
    )
    def test_takes_what_postgresql_stores(self, text):
        assert take(ShortText, text) == text

    @given(st.text())
    def test_is_refused_exactly_where_it_must_be(self, text):
        is_bad = not 1 <= len(text) <= 500 or "\0" in text or any("\ud800" <= one <= "\udfff" for one in text)
        assert refuses(ShortText, text) is is_bad


class TestMoney:
    @given(MONEY)
    def test_what_fits_is_kept(self, amount):
        kept = take(Money, amount)
        assert kept == amount == take(Money, str(amount))
        assert kept.as_tuple().exponent == -6

    @given(st.decimals(allow_nan=True, allow_infinity=True) | st.decimals(places=8, allow_nan=False, allow_infinity=False))
    def test_nothing_else_is_rounded(self, amount):
        if refuses(Money, amount):
            assert not amount.is_finite() or abs(amount) >= 10**8 or amount != round(amount, 6)
        else:
            assert take(Money, amount) == amount

    @pytest.mark.parametrize(
        ("text", "amount"),
        [("1e2", "100"), ("+1.5", "1.5"), ("0.10", "0.1"), ("1E-6", "0.000001"), ("000001.500000000", "1.5")],
    )
    def test_forms_of_text(self, text, amount):
        assert take(Money, text) == Decimal(amount)

    @pytest.mark.parametrize("context", [Context(prec=3), Context(traps=[Inexact])], ids=["few digits", "traps"])
    def test_whatever_the_process_has_set_for_its_own_numbers(self, context):
        with localcontext(context):
            assert take(Money, "12345678.123456") == Decimal("12345678.123456")
            assert refuses(Money, "0.1234567")

    def test_a_cost_may_be_nothing(self):
        assert take(Cost, "0") == 0


class TestTimestamp:
    @given(
        st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)),  # noqa: DTZ001
        st.integers(-14 * 60, 14 * 60),
    )
    def test_is_the_same_moment_in_utc(self, moment, minutes):
        given_moment = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
        for form in (given_moment, given_moment.isoformat()):
            taken = take(Timestamp, form)
            assert taken == given_moment
            assert taken.utcoffset() == timedelta(0)

    @pytest.mark.parametrize("step", [timedelta(0), timedelta(microseconds=1)])
    def test_the_edges(self, step):
        for edge in (datetime.min.replace(tzinfo=UTC) + step, datetime.max.replace(tzinfo=UTC) - step):
            assert refuses(Timestamp, edge) is (step == timedelta(0))


class TestScore:
    @pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, 5e-324, 0.1 + 0.2, np.float64(0.5)])
    def test_takes_numbers(self, value):
        assert take(Score, value) == value
        assert isinstance(take(Score, value), float)


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "https://example.org",
            "http://example.org:8080/a/b?c=d&e=%20f#g",
            "HTTPS://EXAMPLE.ORG/",
            "https://xn--exmple-cua.org/",
            "https://[2001:db8::1]:443/",
            "https://example.org/" + "x" * 480,
        ],
    )
    def test_of_the_web(self, url):
        assert take(WebUrl, url) == url
        assert take(AnyUri, url) == url

    @pytest.mark.parametrize("uri", ["s3://bucket/key", "gs://b/k", "upload:42", "git+ssh://example.org/x.git", "urn:isbn:1"])
    def test_of_other_places(self, uri):
        assert take(AnyUri, uri) == uri
        assert refuses(WebUrl, uri)

    @given(st.text(max_size=40))
    def test_no_text_raises_anything_else(self, text):
        for alias in (WebUrl, AnyUri):
            for form in (text, f"https://{text}", f"https://example.org/{text}"):
                if not refuses(alias, form):
                    assert "@" not in form.split("://")[-1].split("/")[0]


class TestJsonObject:
    def test_is_taken_as_it_is(self):
        value = {"a": [1, 0.5, "x", None, True, {"b": []}]}
        assert take(JsonObject, value) == value

    @pytest.mark.parametrize("around", [lambda value: {"a": value}, lambda value: [value]], ids=["objects", "lists"])
    def test_its_depth(self, around):
        def nested(levels: int) -> dict:
            value: object = 1
            for _ in range(levels - 2):
                value = around(value)
            return {"a": value}

        assert take(JsonObject, nested(JSON_DEPTH))
        assert refuses(JsonObject, nested(JSON_DEPTH + 1))

    def test_its_size(self):
        fixed = len('{"a": ""}')
        assert take(JsonObject, {"a": "x" * (JSON_BYTES - fixed)})
        assert refuses(JsonObject, {"a": "x" * (JSON_BYTES - fixed + 1)})
        assert refuses(JsonObject, {"a": "\u00e4" * (JSON_BYTES // 2)})
        assert take(JsonObject, {"a": "\u00e4" * (JSON_BYTES // 2 - fixed)})

    def test_what_is_far_too_large_is_not_looked_at_to_its_end(self):
        """A kilobyte that is referred to a billion times: looking at all of it would take hours."""
        many = ["x" * 1000] * 1000
        assert refuses(JsonObject, {"a": [[many] * 1000] * 1000})

    @pytest.mark.parametrize("number", [2**53, -(2**53), 0, 2.0**53, -0.0, 5e-324])
    def test_numbers_that_stay_what_they_are(self, number):
        assert take(JsonObject, {"a": number}) == {"a": number}


class TestEmbedding:
    def test_is_kept_as_32_bit_floats(self):
        taken = take(Embedding, [0.1] * VECTOR_SIZE)
        assert taken == [float(np.float32(0.1))] * VECTOR_SIZE
        assert take(Embedding, taken) == taken

    @pytest.mark.parametrize("make", [tuple, list, lambda numbers: np.array(numbers, dtype="float32"), np.array])
    def test_of_every_sequence(self, make):
        assert len(take(Embedding, make([0.5] * VECTOR_SIZE))) == VECTOR_SIZE

    def test_says_both_sizes(self):
        with pytest.raises(ValidationError, match="1536 dimensions, not 3"):
            take(Embedding, [1.0, 2.0, 3.0])

    def test_a_small_one_has_a_direction(self):
        assert take(Embedding, [1e-10] + [0.0] * (VECTOR_SIZE - 1))


class TestMessages:
    def test_none_of_them_holds_a_value(self):
        assert "{value" not in Path(scalars.__file__).read_text()
