"""How values, names and numbers read, without a database."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from asyncpg import Range
from pydantic import BaseModel, Field
from starlette.requests import Request

from derwin_db.errors import InvalidInput
from derwin_db.models import (
    Bucket,
    DiscoveryRoute,
    DomainOntology,
    OntologyRelation,
    QARun,
    RunStatus,
    Severity,
    SignalStatus,
    TicketStatus,
)
from derwin_db.studio import overview, request_params, schema
from derwin_db.studio.aggregates import Period
from derwin_db.studio.download import cell, csv_lines
from derwin_db.studio.rendering import (
    Renderer,
    aligned,
    as_json,
    counted,
    day,
    digits_of,
    is_web,
    money,
    number,
    plain,
    size,
    when,
    words,
)
from derwin_db.studio.views import VIEWS, Views, label_of


class Named(BaseModel):
    from_: int = Field(alias="from")


MOMENT = datetime(2026, 3, 4, 5, 6, 7, 8, UTC)


class TestNumbers:
    @pytest.mark.parametrize(
        ("amount", "digits", "text"),
        [
            ("0", None, "$0.00"),
            ("1.5", None, "$1.50"),
            ("-1234.5", None, "-$1,234.50"),
            ("0.000001", None, "$0.000001"),
            ("0.1250", None, "$0.125"),
            ("1234.565", 2, "$1,234.56"),
            ("12", 3, "$12.000"),
        ],
    )
    def test_amounts_are_exact_or_as_long_as_is_asked(self, amount: str, digits: int | None, text: str) -> None:
        assert money(Decimal(amount), digits) == text

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0, "0"),
            (1000, "1,000"),
            (0.5, "0.5"),
            (2.0, "2"),
            (1234.5678, "1,234.568"),
            (100.0, "100"),
            (0.0005, "0.001"),
            (0.0004, "0.0004"),
            (-1.25e-7, "-1.25e-07"),
            (0.0, "0"),
            (Decimal(100), "100"),
        ],
    )
    def test_numbers_have_no_zeros_behind_the_point(self, value: float, text: str) -> None:
        assert number(value) == text

    @pytest.mark.parametrize(
        ("length", "text"),
        [(1, "1 B"), (1024, "1 KiB"), (1100, "1.1 KiB"), (1024**2 - 1, "1,024 KiB"), (1024**2, "1 MiB"), (3 << 30, "3 GiB")],
    )
    def test_a_unit_begins_at_one_of_it(self, length: int, text: str) -> None:
        assert size(length) == text

    @pytest.mark.parametrize(
        ("count", "one", "text"),
        [
            (0, "row", "0 rows"),
            (1, "row", "1 row"),
            (2, "entry", "2 entries"),
            (1, "entry", "1 entry"),
            (1000, "fix", "1,000 fixes"),
        ],
    )
    def test_what_is_counted_has_its_plural(self, count: int, one: str, text: str) -> None:
        assert counted(count, one) == text

    def test_points_of_a_column_stand_under_each_other(self) -> None:
        rows = [
            SimpleNamespace(cost_usd=Decimal(one), attempt_no=3, model="m", score=score)
            for one, score in (("1", 0.5), ("0.125", 0.25), ("2.5", None))
        ]
        assert digits_of(VIEWS["qa_fix_attempts"], ("cost_usd", "attempt_no", "model"), rows) == {"cost_usd": 3}
        assert digits_of(VIEWS["classification_trust"], ("score",), rows) == {"score": 2}
        assert digits_of(VIEWS["classification_trust"], ("score",), rows[2:]) == {}
        assert [aligned(number, 2) for number in (1234.5, Decimal("0.5"))] == ["1,234.50", "0.50"]


class TestTexts:
    @pytest.mark.parametrize(
        ("member", "text"),
        [
            ("FIX_PROPOSED", "Fix proposed"),
            ("PR_OPENED", "PR opened"),
            ("PCI_DSS", "PCI DSS"),
            ("GDPR", "GDPR"),
            ("NEEDS_PR", "Needs PR"),
            ("gpt_4", "gpt_4"),
            ("Mixed", "Mixed"),
            ("OPEN", "Open"),
        ],
    )
    def test_members_read_as_words_and_other_texts_stay(self, member: str, text: str) -> None:
        assert words(member) == text

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (None, ""),
            (Severity.HIGH, "HIGH"),
            (True, "yes"),
            (False, "no"),
            (Decimal("1234.5000001000"), "1,234.5000001"),
            (12345, "12,345"),
            (0.25, "0.25"),
            ([DiscoveryRoute.E2E_CRAWL, DiscoveryRoute.API_CONTRACT], "E2E crawl, API contract"),
            ("a", "a"),
            ({"a": [1]}, '{"a": [1]}'),
            (["a", "\u00e9"], '["a", "\u00e9"]'),
            (UUID(int=1), str(UUID(int=1))),
        ],
    )
    def test_of_a_cell_are_by_the_kind_of_the_value(self, value: Any, shown: str) -> None:
        assert plain(value) == shown

    def test_of_members_in_a_list_are_words(self) -> None:
        assert plain([TicketStatus.OPEN, TicketStatus.FIX_PROPOSED]) == "Open, Fix proposed"

    def test_of_a_moment_are_to_the_minute_and_the_element_has_it_whole(self) -> None:
        assert when(MOMENT) == '<time datetime="2026-03-04T05:06:07.000008+00:00">2026-03-04 05:06</time>'
        assert plain(MOMENT) == when(MOMENT)
        assert day(date(2026, 3, 4)) == "4 Mar"

    def test_of_json_have_the_names_of_the_wire_and_letters_as_they_are(self) -> None:
        assert as_json(OntologyRelation(source="\u00e9", name="has", target="b"), None) == (
            '{"source": "\u00e9", "name": "has", "target": "b"}'
        )
        assert as_json([Named(**{"from": 1})], None) == '[{"from": 1}]'
        assert as_json({"a": b"\xff", "b": Range(1, 2)}, None) == '{"a": "ff", "b": "<Range [1, 2)>"}'
        assert as_json({"a": 1}) == '{\n  "a": 1\n}'
        assert plain(DomainOntology()) == '{"entities": [], "relations": [], "invariants": []}'

    def test_that_lead_elsewhere_are_of_the_web(self) -> None:
        assert [is_web(one) for one in ("http://a", "https://a", "javascript:a", "ftp://a", 1)] == [
            True,
            True,
            False,
            False,
            False,
        ]

    def test_of_an_address_leave_out_what_is_not_given(self) -> None:
        renderer = Renderer("/t", Views())
        assert renderer.url() == "/t/"
        assert renderer.url("p", [("a", "1"), ("a", "&")], b=None, c="", d=0) == "/t/p?a=1&a=%26&d=0"


class TestCells:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, ""),
            (True, "true"),
            (False, "false"),
            (-1, "-1"),
            (Decimal("-0.0000010"), "-0.0000010"),
            (Decimal("1E+3"), "1000"),
            (1e-7, "1e-07"),
            (MOMENT, "2026-03-04T05:06:07.000008+00:00"),
            (Severity.HIGH, "HIGH"),
            (UUID(int=1), str(UUID(int=1))),
            ({"a": "\u00e9"}, '{"a": "\u00e9"}'),
            ("-1", "'-1"),
        ],
    )
    def test_are_exact(self, value: Any, text: str) -> None:
        assert cell(value) == text

    def test_are_quoted_where_they_have_to_be(self) -> None:
        assert csv_lines([["a", 'b"c'], ["d,e", "f\ng"]]) == 'a,"b""c"\r\n"d,e","f\ng"\r\n'


class TestColumns:
    @pytest.mark.parametrize(
        ("name", "label"),
        [
            ("amount_usd", "Amount (USD)"),
            ("ticket_id", "Ticket"),
            ("created_at", "Created"),
            ("storage_uri", "Storage URI"),
            ("pr_url", "PR URL"),
            ("attempt_no", "Attempt number"),
            ("commit_sha", "Commit SHA"),
            ("id", "ID"),
            ("mime_type", "MIME type"),
        ],
    )
    def test_read_as_words(self, name: str, label: str) -> None:
        assert label_of(name) == label

    def test_are_asked_for_by_values_and_by_bounds_enumerations_first(self) -> None:
        choices = VIEWS["qa_tickets"].choices
        assert [choice.values is None for choice in choices] == sorted(choice.values is None for choice in choices)
        order = [(choice.values is None, not choice.takes_values) for choice in choices]
        assert (order, len(set(order))) == (sorted(order), 3)
        asked = {choice.column: choice for choice in choices}
        assert asked["status"].values == tuple(TicketStatus.__members__)
        assert (asked["status"].takes_values, asked["status"].is_optional, asked["final_bucket"].is_optional) == (
            True,
            False,
            True,
        )
        assert {bound.name: bound.label for bound in asked["created_at"].bounds} == {"since": "from", "until": "before"}
        assert {bound.label for bound in asked["risk_score"].bounds} == {"at least", "at most"}
        assert (asked["created_at"].example, asked["status"].example) == ("2026-01-31", "")
        assert (asked["risk_score"].is_number, asked["status"].is_number) == (True, False)
        assert asked["risk_score"].label == "Risk score"

    def test_hold_numbers_or_not(self) -> None:
        assert [VIEWS["spend_ledger"].is_numeric(name) for name in ("amount_usd", "input_tokens", "model")] == [
            True,
            True,
            False,
        ]
        assert VIEWS["classification_trust"].is_numeric("score")
        assert not VIEWS["audit_artifacts"].is_numeric("legal_hold")

    def test_of_a_row_leave_out_keys_and_embeddings(self) -> None:
        fields = VIEWS["rag_corpus"].fields
        assert {"id", "project_id", "embedding"} & set(fields) == set()
        assert {"problem", "embedding_model", "created_at"} < set(fields)


class TestTables:
    def test_call_their_rows_by_their_format_or_first_column(self) -> None:
        row = SimpleNamespace(created_at=MOMENT, attempt_no=3, version=4, to_version=5, title="Title")
        called = {name: VIEWS[name].name_of(row) for name in ("qa_runs", "qa_fix_attempts", "policies", "qa_tickets")}
        assert called == {
            "qa_runs": "2026-03-04 05:06", "qa_fix_attempts": "Attempt 3", "policies": "Version 4", "qa_tickets": "Title"
        }  # fmt: skip

    def test_are_led_to_by_what_names_their_rows(self) -> None:
        found = {(child.name, column) for child, column in Views().children(VIEWS["qa_tickets"])}
        assert found == {
            ("qa_tickets", "duplicate_of_id"), ("raw_signals", "ticket_id"), ("qa_fix_attempts", "ticket_id"),
            ("audit_artifacts", "ticket_id"), ("rag_corpus", "ticket_id"), ("spend_ledger", "ticket_id"),
        }  # fmt: skip

    def test_take_words_where_their_repository_searches(self) -> None:
        assert {name for name, view in VIEWS.items() if view.takes_text} == {"qa_tickets", "rag_corpus"}

    def test_are_described_as_the_models_say(self) -> None:
        described = schema._described(VIEWS["qa_tickets"])
        columns = {column.name: column for column in described.columns}
        assert columns["project_id"].target == "projects"
        assert columns["run_id"].target == "qa_runs"
        assert (columns["title"].type, columns["title"].is_optional, columns["title"].target) == ("text", False, None)
        assert (columns["status"].type, columns["status"].values) == ("enum", tuple(TicketStatus.__members__))
        assert (columns["created_at"].type, columns["risk_score"].type) == ("timestamptz", "double")
        assert (columns["resolved_at"].is_optional, columns["status"].default, columns["version"].default) == (
            True,
            "OPEN",
            "1",
        )
        assert described.says
        assert (columns["steps_to_reproduce"].type, columns["duplicate_of_id"].target) == ("jsonb", "qa_tickets")
        assert (columns["created_at"].default, columns["title"].default) == ("now()", "")
        assert not any("project_id" in index.split(", ") for index in described.indexes)

    def test_name_their_keys_and_indexes_without_the_project(self) -> None:
        described = schema._described(VIEWS["raw_signals"])
        assert described.unique == ["run_id, fingerprint"]
        assert described.indexes == [
            "created_at DESC, id DESC", "fingerprint", "run_id, status", "status, created_at DESC, id DESC", "ticket_id"
        ]  # fmt: skip
        assert schema._described(VIEWS["project_profiles"]).unique == []

    def test_say_a_default_without_its_quotes(self) -> None:
        columns = {column.name: column.default for column in schema._described(VIEWS["qa_runs"]).columns}
        assert (columns["stats"], columns["started_at"]) == ("{}", "")


class TestParameters:
    @pytest.mark.parametrize(("value", "found"), [(None, 7), ("0", 0), ("9999", 9999)])
    def test_a_whole_number(self, value: str | None, found: int) -> None:
        assert request_params.whole(value, "days", 7) == found

    @pytest.mark.parametrize("value", ["-1", "10000", "1.5", "", "\u0661"])
    def test_what_is_none_is_refused_by_its_name(self, value: str) -> None:
        with pytest.raises(InvalidInput, match=r"^days: a whole number\.\n"):
            request_params.whole(value, "days", 7)

    def test_are_stripped_and_left_out_where_they_are_empty(self) -> None:
        request = Request({"type": "http", "headers": [], "query_string": b"slug=+a+&cursor=+"})
        assert request_params.query(request, "cursor", "slug") == {"slug": "a"}


class TestPictures:
    PERIOD = Period(14, datetime(2026, 3, 15, tzinfo=UTC))

    def test_of_spending_have_every_day_and_name_some(self) -> None:
        drawn = overview.spend_picture(
            [(date(2026, 3, 1), "a", Decimal("1.005")), (date(2026, 3, 14), "b", Decimal(2))], self.PERIOD
        )
        assert [label.text for label in drawn.labels] == ["1 Mar", "4 Mar", "7 Mar", "10 Mar", "13 Mar"]
        assert [label for label, _ in drawn.rows][::13] == ["1 Mar", "14 Mar"]
        assert drawn.description == "$3.00 in 14 days, in US dollars."
        assert [(mark.series, mark.label, mark.text) for mark in drawn.marks] == [
            ("a", "1 Mar", "$1.005"),
            ("b", "14 Mar", "$2.00"),
        ]

    def test_of_trust_end_today(self) -> None:
        drawn = overview.trust_picture([("b", 0, 0.5, 9), ("a", 13, 0.25, 9), ("a", 0, 0.75, 9)], self.PERIOD)
        assert [label.text for label in drawn.labels] == ["1 Mar", "4 Mar", "7 Mar", "10 Mar", "13 Mar"]
        assert [(tone, series) for tone, series in drawn.legend] == [("tone-0", "a"), ("tone-1", "b")]
        assert [(mark.label, mark.text) for mark in drawn.marks] == [("14 Mar", "0.750"), ("14 Mar", "0.500")]
        assert [tick.text for tick in drawn.ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]

    def test_of_tickets_and_signals_leave_out_what_has_none(self) -> None:
        tickets = overview.ticket_picture([(Bucket.AUTO_FIX, "OPEN", 2), (None, "OPEN", 1), (Bucket.AUTO_FIX, "TRIAGED", 1200)])
        assert [label.text for label in tickets.labels] == ["Auto fix", "No bucket"]
        assert tickets.description == "1,203 tickets."
        assert [series for _, series in tickets.legend] == ["OPEN", "TRIAGED"]
        route = next(iter(DiscoveryRoute))
        signals = overview.signal_picture([(route, SignalStatus.NEW, 3)], self.PERIOD)
        assert (signals.description, [tick.text for tick in signals.ticks]) == ("3 signals in 14 days.", ["0", "1", "2", "3"])

    def test_of_runs_are_oldest_first_and_of_those_that_ended(self) -> None:
        runs = [run(30, 90), run(20, None), run(10, 30, RunStatus.FAILED)]
        drawn = overview.run_picture(runs, {str(runs[0].id): "there"})
        assert drawn.is_broad
        assert drawn.description == "The latest 2 that ended, in minutes."
        assert [(mark.text, mark.tone, mark.label, mark.href) for mark in drawn.marks] == [
            ("0.5 min", "run-failed", "4 Mar 05:16", None), ("1.5 min", "run-completed", "4 Mar 05:36", "there")
        ]  # fmt: skip
        assert [label.text for label in drawn.labels] == ["4 Mar", "4 Mar"]
        assert drawn.ticks[-1].text == "1.5 min"

    def test_name_as_many_labels_as_there_is_room_for(self) -> None:
        assert [overview._every(count, 6) for count in (1, 6, 7, 12, 13)] == [1, 1, 2, 2, 3]

    def test_have_eight_tones_in_turn(self) -> None:
        assert list(overview._toned("abcdefghi").values()) == [*(f"tone-{count}" for count in range(8)), "tone-0"]

    def test_of_nothing_have_no_marks(self) -> None:
        for drawn in (overview.spend_picture([], self.PERIOD), overview.ticket_picture([]), overview.run_picture([], {})):
            assert (drawn.marks, drawn.ticks) == ([], [])


def run(minute: int, seconds: int | None, status: RunStatus = RunStatus.COMPLETED) -> QARun:
    began = MOMENT + timedelta(minutes=minute)
    ended = None if seconds is None else began + timedelta(seconds=seconds)
    return QARun(
        id=uuid4(),
        project_id=uuid4(),
        trigger="MANUAL",
        routes=[],
        mode="OBSERVE",
        status=status,
        started_at=began,
        finished_at=ended,
    )


class TestPeriods:
    def test_are_whole_days_and_today_is_the_last(self) -> None:
        before = datetime.now(UTC)
        period = Period.of(14)
        assert period.until.isoformat().endswith("T00:00:00+00:00")
        assert before < period.until <= datetime.now(UTC) + timedelta(days=1)
        assert period.until - period.since == timedelta(days=14)
