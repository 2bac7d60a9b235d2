"""Bulk writes: an answer for each row where it is asked for, and changes of all rows that filters select."""

import sys
from typing import Any

import pytest

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import InvalidInput, InvalidReference, NotFound
from derwin_db.fields.scalars import new_id
from derwin_db.filters import IS_NULL
from derwin_db.models import (
    BatchReport,
    FixOutcome,
    IngestedDocUpdate,
    Project,
    QATicketCreate,
    QATicketUpdate,
    RAGCorpusCreate,
    RAGCorpusUpdate,
    RawSignalCreate,
    RowFailure,
    Severity,
    SpendLedgerCreate,
)
from derwin_db.repos import base
from tests.contract.good_values import good_input
from tests.repos.conftest import AtOnce, Later, Locks, kinds
from tests.repos.rows import a_charge, a_doc, a_fix, a_run, a_signal, a_ticket
from tests.repos.rules.test_trust import concluded

NO_RUN = "run_id: no such row in this project."


class TestReport:
    async def test_writes_the_others_and_says_which_row_and_which_rule(self, session: ProjectSession) -> None:
        run = await repos.qa_runs.enqueue(session, a_run())
        rows: list[Any] = [
            a_ticket(title="0", run_id=run.id),
            a_ticket(title="1", run_id=new_id()),
            {**good_input(QATicketCreate), "run_id": None, "title": "2"},
            {**good_input(QATicketCreate), "run_id": None, "risk_score": 7.5},
            7,
            {**good_input(QATicketCreate), "run_id": str(new_id())},
            {**good_input(QATicketCreate), "run_id": None, "status": "RESOLVED"},
        ]
        report = await repos.qa_tickets.create_many(session, rows, on_error="report")
        assert report.inserted == 2
        assert [(failure.row, failure.code) for failure in report.failures] == [
            (1, "invalid_reference"),
            (3, "invalid_input"),
            (4, "invalid_input"),
            (5, "invalid_reference"),
            (6, "invalid_input"),
        ]
        assert report.failures[0] == RowFailure(1, "invalid_reference", NO_RUN)
        assert [failure.message.partition(":")[0] for failure in report.failures] == [
            "run_id", "risk_score", "row", "run_id", "status"
        ]  # fmt: skip
        assert {row.title for row in (await repos.qa_tickets.list(session)).items} == {"0", "2"}

    async def test_never_repeats_a_value(self, session: ProjectSession) -> None:
        row = {**good_input(QATicketCreate), "run_id": None, "title": "canary" * 200}
        report = await repos.qa_tickets.create_many(session, [row], on_error="report")
        assert "canary" not in repr(report)

    async def test_numbers_rows_across_statements(self, session: ProjectSession, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(base, "BATCH", 3)
        rows = [a_ticket(run_id=new_id() if number % 4 == 3 else None) for number in range(10)]
        report = await repos.qa_tickets.create_many(session, rows, on_error="report")
        assert report == BatchReport(
            8, (RowFailure(3, "invalid_reference", NO_RUN), RowFailure(7, "invalid_reference", NO_RUN))
        )

    async def test_a_run_of_another_project_is_as_one_that_is_not_there(
        self, db: Database, session: ProjectSession, other_project: Project
    ) -> None:
        async with db.project(other_project.id) as other:
            foreign = await repos.qa_runs.enqueue(other, a_run())
        rows = [a_ticket(run_id=foreign.id), a_ticket(run_id=new_id())]
        first, second = (await repos.qa_tickets.create_many(session, rows, on_error="report")).failures
        assert (first.code, first.message) == (second.code, second.message)

    async def test_of_nothing_is_empty(self, session: ProjectSession) -> None:
        assert await repos.qa_tickets.create_many(session, [], on_error="report") == BatchReport(0)

    async def test_of_rows_that_are_all_wrong_writes_none(self, session: ProjectSession) -> None:
        report = await repos.qa_tickets.create_many(session, [{}, a_ticket(run_id=new_id())], on_error="report")
        assert (report.inserted, report.duplicates, len(report.failures)) == (0, 0, 2)

    async def test_all_or_none_stays_the_way_unless_said(self, db: Database, project: Project) -> None:
        with pytest.raises(InvalidReference):
            async with db.project(project.id) as unit:
                await repos.qa_tickets.create_many(unit, [a_ticket(), a_ticket(run_id=new_id())])
        with pytest.raises(InvalidInput, match=r"^rows"):
            async with db.project(project.id) as unit:
                wrong: Any = [good_input(QATicketCreate)]
                await repos.qa_tickets.create_many(unit, wrong)
        async with db.project(project.id) as unit:
            assert await repos.qa_tickets.count(unit) == 0

    async def test_a_run_that_is_referred_to_does_not_go_before_the_end(
        self, db: Database, project: Project, later: Later, locks: Locks
    ) -> None:
        async with db.project(project.id) as unit:
            run = await repos.qa_runs.enqueue(unit, a_run())
        async with db.project(project.id) as unit:
            report = await repos.qa_tickets.create_many(unit, [a_ticket(run_id=run.id)], on_error="report")
            deletion = later(repos.qa_runs.delete, run.id)
            await locks.until_waiting(deletion)
        await deletion
        assert report == BatchReport(1)


class TestReportOfOtherTables:
    async def test_signals(self, session: ProjectSession) -> None:
        run = await repos.qa_runs.enqueue(session, a_run())
        await repos.raw_signals.ingest(session, run.id, [a_signal("there")])
        rows: list[Any] = [
            a_signal("z"),
            {**good_input(RawSignalCreate), "fingerprint": "a"},
            a_signal("there"),
            {**good_input(RawSignalCreate), "confidence": 7},
            "a row",
            a_signal("z"),
        ]
        report = await repos.raw_signals.ingest(session, run.id, rows, on_error="report")
        assert (report.inserted, report.duplicates) == (2, 2)
        assert [(failure.row, failure.message.partition(":")[0]) for failure in report.failures] == [
            (3, "confidence"),
            (4, "row"),
        ]
        found = (await repos.raw_signals.list(session, run_id=run.id)).items
        assert {row.fingerprint for row in found} == {"there", "a", "z"}

    async def test_signals_of_a_run_that_is_not_there(self, session: ProjectSession) -> None:
        with pytest.raises(NotFound, match="run"):
            await repos.raw_signals.ingest(session, new_id(), [a_signal("a"), {}], on_error="report")

    async def test_a_signal_that_was_changed_past_its_checks(self, session: ProjectSession) -> None:
        """The database finds it, and the others are written."""
        run = await repos.qa_runs.enqueue(session, a_run())
        wrong = a_signal("wrong")
        wrong.payload["x"] = "\0"
        report = await repos.raw_signals.ingest(session, run.id, [a_signal("a"), wrong, a_signal("b")], on_error="report")
        assert (report.inserted, [failure.row for failure in report.failures]) == (2, [1])

    async def test_past_fixes(self, session: ProjectSession, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys.modules["derwin_db.repos.rag_corpus"], "_BATCH", 2)
        rows: list[Any] = [a_fix(problem="0"), {**good_input(RAGCorpusCreate), "embedding": [1.0]}, a_fix(problem="2"), a_fix()]
        report = await repos.rag_corpus.add_many(session, rows, on_error="report")
        assert report.inserted == 3
        assert [(failure.row, failure.code) for failure in report.failures] == [(1, "invalid_input")]
        assert "1536 dimensions" in report.failures[0].message
        assert await repos.rag_corpus.count(session) == 3

    async def test_entries_of_the_ledger(self, session: ProjectSession) -> None:
        await repos.spend_ledger.append(session, a_charge("there", "1"))
        rows: list[Any] = [
            a_charge("new", "1"),
            a_charge("there", "1"),  # as it is on the books
            a_charge("there", "2"),  # not as it is
            a_charge("new", "3"),  # not as the first row says
            {**good_input(SpendLedgerCreate), "amount_usd": "-1", "kind": "CHARGE"},
            a_charge("more", "1"),
        ]
        report = await repos.spend_ledger.append_many(session, rows, on_error="report")
        assert (report.inserted, report.duplicates) == (2, 1)
        assert [(failure.row, failure.code) for failure in report.failures] == [
            (2, "conflict"),
            (3, "conflict"),
            (4, "invalid_input"),
        ]
        assert await repos.spend_ledger.total(session) == 3

    @pytest.mark.parametrize(
        "call",
        [
            lambda unit: repos.raw_signals.ingest(unit, new_id(), [], on_error="skip"),  # type: ignore[call-overload]
            lambda unit: repos.rag_corpus.add_many(unit, [], on_error=None),  # type: ignore[call-overload]
            lambda unit: repos.spend_ledger.append_many(unit, 5, on_error="report"),  # type: ignore[call-overload]
        ],
    )
    async def test_bad_arguments_take_no_connection(self, db: Database, project: Project, call: Any) -> None:
        async with db.project(project.id) as unit:
            with pytest.raises(InvalidInput, match=r"^(on_error|rows)"):
                await call(unit)
            assert unit._connection is None


class TestUpdateMany:
    async def test_changes_what_the_filters_select_and_nothing_else(self, session: ProjectSession) -> None:
        for severity in (Severity.LOW, Severity.HIGH, Severity.LOW):
            await repos.qa_tickets.create(session, a_ticket(severity=severity, title="before"))
        assert await repos.qa_tickets.update_many(session, QATicketUpdate(title="after"), severity=Severity.LOW) == 2
        rows = (await repos.qa_tickets.list(session)).items
        assert {(row.severity, row.title, row.version) for row in rows} == {("LOW", "after", 2), ("HIGH", "before", 1)}

    async def test_may_change_the_very_column_that_it_selects_by(self, session: ProjectSession) -> None:
        await repos.qa_tickets.create(session, a_ticket(severity=Severity.LOW))
        change = QATicketUpdate(severity=Severity.HIGH)
        assert await repos.qa_tickets.update_many(session, change, severity=Severity.LOW, final_bucket=IS_NULL) == 1
        assert (await repos.qa_tickets.list(session)).items[0].severity == Severity.HIGH

    async def test_leaves_other_projects_alone(self, db: Database, session: ProjectSession, other_project: Project) -> None:
        async with db.project(other_project.id) as other:
            await repos.qa_tickets.create(other, a_ticket(title="before"))
        assert await repos.qa_tickets.update_many(session, QATicketUpdate(title="after"), since="2000-01-01T00:00:00Z") == 0
        async with db.project(other_project.id) as other:
            assert (await repos.qa_tickets.list(other)).items[0].title == "before"

    async def test_a_new_classification_moves_the_scores(self, session: ProjectSession) -> None:
        attempt = await concluded(session, FixOutcome.MERGED)
        before = (await repos.qa_tickets.get(session, attempt.ticket_id)).classification
        assert (await repos.classification_trust.for_classification(session, before)).successes == 1
        change = QATicketUpdate(classification="moved")
        assert await repos.qa_tickets.update_many(session, change, classification=before) == 1
        assert (await repos.classification_trust.for_classification(session, before)).successes == 0
        assert (await repos.classification_trust.for_classification(session, "moved")).successes == 1

    async def test_a_new_classification_waits_for_a_conclusion(
        self, db: Database, project: Project, later: Later, locks: Locks
    ) -> None:
        async with db.project(project.id) as unit:
            ticket = await repos.qa_tickets.create(unit, a_ticket(classification="old"))
            attempt = await repos.qa_fix_attempts.dispatch(unit, ticket.id, model="m")
            await repos.qa_fix_attempts.start(unit, attempt.id)
        async with db.project(project.id) as unit:
            await repos.qa_fix_attempts.conclude(unit, attempt.id, FixOutcome.MERGED)
            change = later(repos.qa_tickets.update_many, QATicketUpdate(classification="new"), classification="old")
            await locks.until_waiting(change)
        assert await change == 1
        async with db.project(project.id) as unit:
            assert (await repos.classification_trust.for_classification(unit, "old")).successes == 0
            assert (await repos.classification_trust.for_classification(unit, "new")).successes == 1

    async def test_documents(self, session: ProjectSession) -> None:
        doc = await repos.ingested_docs.ingest(session, a_doc())
        await repos.ingested_docs.ingest(session, a_doc("other"))
        assert await repos.ingested_docs.update_many(session, IngestedDocUpdate(title="x"), until=doc.created_at) == 0
        assert await repos.ingested_docs.update_many(session, IngestedDocUpdate(title="x"), since=doc.created_at) == 2

    async def test_past_fixes(self, session: ProjectSession) -> None:
        await repos.rag_corpus.add_many(session, [a_fix(classification=name) for name in ("ui_bug", "ui_text", "other")])
        change = RAGCorpusUpdate(classification="ui", problem="the word marker")
        assert await repos.rag_corpus.update_many(session, change, classification_prefix="ui_") == 2
        assert await repos.rag_corpus.count(session, classification="ui") == 2
        assert len(await repos.rag_corpus.search(session, text="marker")) == 2  # what search compares is derived again

    async def test_without_a_set_field_nothing_changes(self, session: ProjectSession) -> None:
        await repos.qa_tickets.create(session, a_ticket())
        assert await repos.qa_tickets.update_many(session, QATicketUpdate(), since="2000-01-01T00:00:00Z") == 0

    async def test_every_row_is_not_meant_by_accident(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as unit:
            for filters in ({}, {"severity": None}):
                with pytest.raises(InvalidInput, match=r"^filters: at least one of since"):
                    await repos.qa_tickets.update_many(unit, QATicketUpdate(title="x"), **filters)
            with pytest.raises(InvalidInput, match=r"^nonsense: no such filter"):
                await repos.qa_tickets.update_many(unit, QATicketUpdate(title="x"), nonsense=1)  # type: ignore[call-arg]
            wrong: Any = {"title": "x"}
            with pytest.raises(InvalidInput, match=r"^data"):
                await repos.qa_tickets.update_many(unit, wrong, severity=Severity.LOW)
            assert unit._connection is None

    async def test_two_at_once_never_deadlock(self, db: Database, project: Project, at_once: AtOnce) -> None:
        async with db.project(project.id) as unit:
            await repos.qa_tickets.create_many(unit, [a_ticket(severity=Severity.LOW) for _ in range(200)])
        calls = [(QATicketUpdate(title=f"{number}"),) for number in range(8)]

        async def change(unit: ProjectSession, data: QATicketUpdate) -> int:
            return await repos.qa_tickets.update_many(unit, data, severity=Severity.LOW)

        assert kinds(await at_once(change, *calls)) == {"int": 8}
