"""What is read of the address of a list, without a database: what is wrong, what stands for what, and where its chips lead."""

import re
from collections.abc import Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import INET
from starlette.datastructures import QueryParams
from starlette.requests import Request

from derwin_db.errors import InvalidInput
from derwin_db.fields.money import MONEY
from derwin_db.fields.vector import Vector
from derwin_db.filters import Filter
from derwin_db.repos.conditions import FilterType
from derwin_db.repos.own import repositories
from derwin_db.studio import request_params
from derwin_db.studio.listing import Listing
from derwin_db.studio.rendering import Renderer, digits_of
from derwin_db.studio.views import VIEWS, View, Views

TICKETS = VIEWS["qa_tickets"]


def asked(query: str, view: View = TICKETS) -> Listing:
    return Listing.of(view, QueryParams(query))


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> View:
    """A table of a service, two of whose columns are of no type that Python knows: SQLAlchemy calls it `object`."""
    columns = (
        ("is_open", sa.Boolean()),
        ("version", sa.Integer()),
        ("address", INET()),
        ("embedding", Vector(3)),
        ("share", sa.Numeric(10, 4)),
        ("price", MONEY),
    )
    filters = {"is_open": Filter[bool], "version": Filter[int], "address": Filter[str]}
    repository: Any = SimpleNamespace(
        table=sa.Table("peers", sa.MetaData(), *(sa.Column(name, kind) for name, kind in columns)),
        filter_types={name: FilterType(hint) for name, hint in filters.items()},
        allowed_orders=("-created_at",),
        search=None,
    )
    monkeypatch.setitem(repositories, "peers", repository)
    return View("peers", "Peers", ("address",), "", is_own=True)


class TestWhatIsWrong:
    def test_is_said_of_all_that_belongs_to_no_filter(self) -> None:
        wrong = asked("colour=red&size=&is-none=title&is-not=shape&order=sideways&limit=0&with-column=width&cursor=a&cursor=b")
        said = wrong.errors[""]
        for about in ("colour: no", "size: no", "is-none: title", "is-not: shape", "order: one of", "limit: a whole"):
            assert said.count(about) == 1, about
        assert ("with-column: width" in said, "cursor: can be given once." in said) == (True, True)

    def test_is_named_by_64_letters_at_the_most(self) -> None:
        asks = Request({"type": "http", "headers": [], "query_string": b"a" * 65 + b"=1"})
        with pytest.raises(InvalidInput, match=rf"^{'a' * 64}: no such filter"):
            request_params.query(asks, "days")
        for value in ("1", ""):
            assert asked(f"{'a' * 65}={value}").errors[""].startswith(f"{'a' * 64}: no such filter.")

    def test_is_anything_where_nothing_can_be_asked(self) -> None:
        asks = Request({"type": "http", "headers": [], "query_string": b"a=1"})
        with pytest.raises(InvalidInput, match=r"^a: no such filter. There are: none\.\n"):
            request_params.query(asks)

    def test_is_said_beside_its_filter(self) -> None:
        wrong = asked("min_risk_score=2&min_risk_score=3&since=soon&status=OPEN")
        assert set(wrong.errors) == {"min_risk_score", "since"}
        assert not wrong.errors["since"].startswith("since")

    @pytest.mark.parametrize(
        ("said", "errors"),
        [
            ("status: not now", {"status": "not now"}),
            ("text: too long", {"": "too long"}),
            ("Not now", {"": "Not now"}),
        ],
    )
    def test_is_what_a_repository_says_of_it_too(self, said: str, errors: dict[str, str]) -> None:
        listing = asked("status=OPEN")
        listing.note(InvalidInput(said))
        assert listing.errors == errors

    def test_is_a_filter_beside_words_that_a_search_of_past_fixes_does_not_take(self) -> None:
        fixes = VIEWS["rag_corpus"]
        assert asked("with-words=a&classification=ui_bug", fixes).errors == {}
        for query, name in (
            ("classification=ui_bug&classification=security", "classification"),
            ("classification=ui_bug&is-not=classification", "classification"),
            ("since=2026-11-01", "since"),
        ):
            errors = asked(f"with-words=a&{query}", fixes).errors
            assert (set(errors), "of one classification" in errors[name]) == ({name}, True)
            assert asked(query, fixes).errors == {}

    def test_is_what_is_given_twice(self) -> None:
        assert asked("since=2026-01-01&since=2026-01-02").errors == {"since": "can be given once."}
        for name, value in (("with-words", "a"), ("order", "risk_score"), ("limit", "5"), ("cursor", "x")):
            assert asked(f"{name}={value}&{name}={value}").errors == {"": f"{name}: can be given once."}

    def test_is_nothing_in_what_is_right(self) -> None:
        right = asked("status=OPEN&is-not=status&with-words=a&order=risk_score&limit=10&with-column=title&cursor=x&severity=")
        assert right.errors == {}


class TestValues:
    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01 08:30", "2026-11-01T08:30Z"),
            ("2026-11-01T08:30:59", "2026-11-01T08:30:59Z"),
            ("2026-11-01T08:30:59+02:00", "2026-11-01T08:30:59+02:00"),
            ("2026-11-01T08:30:59Z", "2026-11-01T08:30:59Z"),
            ("2026-11-01 08:30:59.25", "2026-11-01T08:30:59.25Z"),
        ],
    )
    def test_days_begin_at_midnight_and_times_are_in_utc(self, text: str, moment: str) -> None:
        listing = asked(str(QueryParams(since=text, until=text)))
        assert (listing.errors, listing.keywords) == ({}, {"since": moment, "until": moment})

    @pytest.mark.parametrize(
        "text", ["2026-11", "2026-13-01", "2026-02-30", "20261101", "1", "now", "2026-11-01 25:00", "\u0662026-11-01"]
    )
    def test_what_is_no_time_is_refused(self, text: str) -> None:
        assert set(asked(str(QueryParams(since=text))).errors) == {"since"}

    def test_numbers_are_what_they_say(self) -> None:
        assert asked("min_risk_score=.5").keywords == {"min_risk_score": 0.5}
        for text in ("a%20half", "1e400", "nan", "1,5", "-1"):
            assert set(asked(f"min_risk_score={text}").errors) == {"min_risk_score"}, text

    def test_of_a_service_s_own_columns_are_by_their_types(self, own: View) -> None:
        listing = asked("is_open=true&version=2&version=-3&address=10.0.0.1", own)
        assert listing.keywords == {"is_open": True, "version": [2, -3], "address": "10.0.0.1"}
        assert listing.errors == {}
        assert asked("is_open=false", own).keywords == {"is_open": False}
        assert set(asked("is_open=maybe&version=two", own).errors) == {"is_open", "version"}

    def test_of_a_truth_are_offered(self, own: View) -> None:
        assert {choice.column: choice.values for choice in own.choices} == {
            "is_open": ("true", "false"), "version": None, "address": None
        }  # fmt: skip

    def test_of_a_type_that_python_has_none_for_are_no_numbers(self, own: View) -> None:
        assert [own.is_numeric(name) for name in ("address", "embedding", "is_open", "version")] == [False, False, False, True]

    def test_are_dollars_where_the_column_is_of_money(self, own: View) -> None:
        rows = [
            SimpleNamespace(id=1, address="10.0.0.1", share=Decimal(share), price=price)
            for share, price in (("0.5000", Decimal("1.5")), ("1000.25", None))
        ]
        assert digits_of(own, ("share", "price", "address"), rows) == {"share": 2, "price": 2}
        for columns, shown in (
            (("address", "share", "price"), [["0.50", "$1.50"], ["1,000.25", "\N{EN DASH}"]]),
            (("price", "share"), [["$1.50", "0.50"], ["(empty)", "1,000.25"]]),
        ):
            assert [[text for text in line if "10." not in text] for line in table(own, columns, rows)] == shown
        assert [own.is_money(name) for name in ("share", "price")] == [False, True]

    def test_are_searched_by_words_where_the_repository_is_ours(self, own: View) -> None:
        """A method of that name takes what the service wants."""
        assert (own.takes_text, TICKETS.takes_text) == (False, True)


def table(view: View, columns: Sequence[str], rows: Sequence[Any]) -> list[list[str]]:
    """The cells of a table, as a page shows them."""
    source = "{% import 'parts.html' as parts with context %}{{ parts.table(project, view, columns, rows, {}, 'Label') }}"
    template = Renderer("/t", Views())._templates.from_string(source)
    html = template.render(project=SimpleNamespace(slug="p"), view=view, columns=columns, rows=rows)
    lines = re.findall(r"<tr>(.*?)</tr>", html.partition("<tbody>")[2], re.DOTALL)
    return [[re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", line)] for line in lines]


class TestChips:
    def test_of_a_filter_that_is_turned_round_takes_that_away_too(self) -> None:
        """`is-not` of a filter without values would turn round the next value that is chosen."""
        (only,) = asked("status=OPEN&is-not=status").chips
        (none,) = asked("is-none=duplicate_of_id&is-not=duplicate_of_id").chips
        assert (only.label, only.without, none.text, none.without) == ("Status is not", [], "none", [])
        first, _ = asked("status=OPEN&status=TRIAGED&is-not=status").chips
        assert first.without == [("status", "TRIAGED"), ("is-not", "status")]

    def test_keep_what_is_turned_round_and_none(self) -> None:
        value, none = asked("final_bucket=AUTO_FIX&is-none=final_bucket&is-not=final_bucket").chips
        assert value.without == [("is-none", "final_bucket"), ("is-not", "final_bucket")]
        assert none.without == [("final_bucket", "AUTO_FIX"), ("is-not", "final_bucket")]

    def test_without_anything_there_is_nothing_to_turn_round(self) -> None:
        assert (asked("is-not=status").query(), asked("is-not=status").chips) == ([], [])

    def test_of_words_takes_them_away(self) -> None:
        words, status = asked("with-words=a&status=OPEN").chips
        assert (words.label, words.text, words.without) == ("Words", "a", [("status", "OPEN")])
        assert status.without == [("with-words", "a")]

    def test_are_what_narrows(self) -> None:
        for query in ("", "order=risk_score", "is-not=status", "with-words=a", "is-none=duplicate_of_id", "status=OPEN"):
            listing = asked(query)
            assert listing.is_narrowed == bool(listing.chips), query


class TestHeadings:
    @pytest.mark.parametrize(
        ("query", "column", "order"),
        [
            ("", "created_at", "created_at"),
            ("", "risk_score", "-risk_score"),
            ("order=-risk_score", "risk_score", "risk_score"),
            ("order=risk_score", "risk_score", "-risk_score"),
            ("order=risk_score", "created_at", "-created_at"),
            ("", "title", None),
            ("with-words=a", "risk_score", None),
        ],
    )
    def test_lead_to_the_greatest_first_and_back(self, query: str, column: str, order: str | None) -> None:
        assert asked(query).sorted_by(column) == order


class TestAddresses:
    def test_hold_what_was_asked_once_and_no_place(self) -> None:
        filters = "with-words=a&status=OPEN&status=TRIAGED&is-none=final_bucket&is-not=status"
        query = f"{filters}&order=risk_score&limit=10&with-column=title"
        listing = asked(f"{query}&status=OPEN&cursor=x&severity=+")
        assert listing.query() == QueryParams(query).multi_items()
        assert listing.next("y") == [*QueryParams(query).multi_items(), ("cursor", "y")]

    def test_leave_out_what_is_so_anyway(self) -> None:
        shown = "&".join(f"with-column={name}" for name in TICKETS.columns)
        assert asked(f"order=-created_at&limit=50&{shown}").query() == []

    @pytest.mark.parametrize(("limit", "is_taken"), [(0, False), (1, True), (500, True), (501, False)])
    def test_take_pages_of_1_to_500(self, limit: int, is_taken: bool) -> None:
        listing = asked(f"limit={limit}")
        assert (not listing.errors, listing.limit == limit) == (is_taken, is_taken)

    def test_name_columns_in_the_order_that_they_are_shown_in(self) -> None:
        listing = asked("with-column=external_ref&with-column=classification&with-column=status")
        assert listing.columns == ("status", "classification", "external_ref")

    def test_take_what_is_typed_without_its_blanks(self) -> None:
        assert asked("with-words=+a+&status=+OPEN+&limit=+5").query() == [
            ("with-words", "a"),
            ("status", "OPEN"),
            ("limit", "5"),
        ]
