"""qa_tickets: writing, changing, finding and deleting bug tickets. Their state machine: test_qa_ticket_states.py."""

from typing import Any

import pytest
from pydantic import ValidationError

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import InvalidInput, InvalidReference, NotFound, RetentionLocked, StaleWrite
from derwin_db.fields.scalars import new_id
from derwin_db.models import (
    Bucket,
    Project,
    QATicket,
    QATicketCreate,
    QATicketUpdate,
    Severity,
    TicketStatus,
)
from tests.repos.rows import a_run, a_ticket, an_artifact, signals

NEW_VALUES: dict[str, Any] = {
    "title": "New",
    "description": "",
    "steps_to_reproduce": [],
    "expected": "1.00",
    "actual": "0.99",
    "severity": Severity.LOW,
    "classification": "data_integrity",
    "confidence": 1.0,
    "risk_score": 0.0,
    "fingerprint": "f",
    "external_ref": "JIRA-1",
}
NULLABLE = ("run_id", "expected", "actual", "fingerprint", "external_ref")


@pytest.fixture
async def ticket(session: ProjectSession) -> QATicket:
    return await repos.qa_tickets.create(session, a_ticket())


class TestCreate:
    async def test_writes_an_open_ticket(self, session: ProjectSession) -> None:
        run = await repos.qa_runs.enqueue(session, a_run())
        data = a_ticket(run_id=run.id, expected="1", actual="2", fingerprint="f", external_ref="JIRA-1")
        row = await repos.qa_tickets.create(session, data)
        assert row.model_dump(include=set(QATicketCreate.model_fields)) == data.model_dump()
        assert (row.status, row.version) == (TicketStatus.OPEN, 1)
        assert {row.initial_bucket, row.final_bucket, row.duplicate_of_id, row.resolved_at} == {None}

    async def test_an_unknown_or_foreign_run_is_an_invalid_reference(
        self, db: Database, session: ProjectSession, other_project: Project
    ) -> None:
        async with db.project(other_project.id) as other:
            foreign = await repos.qa_runs.enqueue(other, a_run())
        texts = set()
        for run_id in (new_id(), foreign.id):
            with pytest.raises(InvalidReference) as refused:
                async with session.savepoint():
                    await repos.qa_tickets.create(session, a_ticket(run_id=run_id))
            texts.add(str(refused.value))
        assert len(texts) == 1

    @pytest.mark.parametrize(
        "field",
        [
            "status",
            "version",
            "id",
            "project_id",
            "created_at",
            "initial_bucket",
            "final_bucket",
            "duplicate_of_id",
            "resolved_at",
        ],
    )
    def test_what_the_repository_sets_is_refused(self, field: str) -> None:
        for model in (QATicketCreate, QATicketUpdate):
            with pytest.raises(ValidationError):
                model(**{**a_ticket().model_dump(), field: None})

    async def test_other_input_is_refused(self, session: ProjectSession, ticket: QATicket) -> None:
        for data in (QATicketUpdate(title="x"), ticket, a_ticket().model_dump(), None):
            with pytest.raises(InvalidInput):
                await repos.qa_tickets.create(session, data)  # type: ignore[arg-type]


class TestCreateMany:
    async def test_writes_all(self, session: ProjectSession) -> None:
        rows = [a_ticket(title=f"{n}", steps_to_reproduce=["a"] * (n % 3), expected=None if n % 2 else "e") for n in range(7)]
        assert await repos.qa_tickets.create_many(session, rows) == 7
        stored = [row async for row in repos.qa_tickets.stream(session)]
        names = set(QATicketCreate.model_fields)
        assert [row.model_dump(include=names) for row in reversed(stored)] == [row.model_dump() for row in rows]
        assert {(row.status, row.version) for row in stored} == {(TicketStatus.OPEN, 1)}

    async def test_a_generator_in_batches(self, session: ProjectSession) -> None:
        assert await repos.qa_tickets.create_many(session, (a_ticket() for _ in range(5001))) == 5001
        assert await repos.qa_tickets.count(session) == 5001

    async def test_nothing_is_nothing(self, session: ProjectSession) -> None:
        assert await repos.qa_tickets.create_many(session, []) == 0

    async def test_one_unknown_run_and_none_is_written(self, session: ProjectSession) -> None:
        with pytest.raises(InvalidReference):
            async with session.savepoint():
                await repos.qa_tickets.create_many(session, [a_ticket(), a_ticket(run_id=new_id())])
        assert await repos.qa_tickets.count(session) == 0

    @pytest.mark.parametrize("rows", [None, "ab", 7, [None], [QATicketUpdate(title="x")]])
    async def test_other_input_is_refused(self, session: ProjectSession, rows: Any) -> None:
        with pytest.raises(InvalidInput):
            await repos.qa_tickets.create_many(session, rows)


class TestUpdate:
    @pytest.mark.parametrize("field", NEW_VALUES)
    async def test_changes_what_is_set_and_nothing_else(self, session: ProjectSession, ticket: QATicket, field: str) -> None:
        row = await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(**{field: NEW_VALUES[field]}))
        assert row == ticket.model_copy(update={field: NEW_VALUES[field], "version": 2, "updated_at": row.updated_at})
        assert await repos.qa_tickets.get(session, ticket.id) == row

    async def test_changes_all_at_once(self, session: ProjectSession, ticket: QATicket) -> None:
        row = await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(**NEW_VALUES), expected_version=1)
        assert {name: getattr(row, name) for name in NEW_VALUES} == NEW_VALUES

    @pytest.mark.parametrize("field", NULLABLE)
    async def test_none_clears_what_may_be_null(self, session: ProjectSession, field: str) -> None:
        run = await repos.qa_runs.enqueue(session, a_run())
        values = {"run_id": run.id, "expected": "e", "actual": "a", "fingerprint": "f", "external_ref": "x"}
        ticket = await repos.qa_tickets.create(session, a_ticket(**values))
        row = await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(**{field: None}))
        assert {name: getattr(row, name) for name in values} == {**values, field: None}

    @pytest.mark.parametrize("field", sorted(set(NEW_VALUES) - set(NULLABLE)))
    def test_none_is_refused_elsewhere(self, field: str) -> None:
        with pytest.raises(ValidationError):
            QATicketUpdate(**{field: None})

    async def test_nothing_set_changes_nothing(self, session: ProjectSession, ticket: QATicket) -> None:
        assert await repos.qa_tickets.update(session, ticket.id, QATicketUpdate()) == ticket
        assert await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(), expected_version=1) == ticket

    @pytest.mark.parametrize("data", [QATicketUpdate(), QATicketUpdate(title="x"), QATicketUpdate(classification="x")])
    async def test_errors(self, session: ProjectSession, ticket: QATicket, data: QATicketUpdate) -> None:
        with pytest.raises(NotFound):
            await repos.qa_tickets.update(session, new_id(), data)
        with pytest.raises(NotFound):
            await repos.qa_tickets.update(session, new_id(), data, expected_version=1)
        with pytest.raises(StaleWrite):
            await repos.qa_tickets.update(session, ticket.id, data, expected_version=2)
        assert await repos.qa_tickets.get(session, ticket.id) == ticket

    async def test_an_unknown_run_is_an_invalid_reference(self, session: ProjectSession, ticket: QATicket) -> None:
        with pytest.raises(InvalidReference):
            await repos.qa_tickets.update(session, ticket.id, QATicketUpdate(run_id=new_id()))

    @pytest.mark.parametrize("version", [0, -1, True, "1", 1.0, 2**31])
    async def test_what_is_no_version_is_refused(self, session: ProjectSession, ticket: QATicket, version: Any) -> None:
        for data in (QATicketUpdate(), QATicketUpdate(title="x"), QATicketUpdate(classification="x")):
            with pytest.raises(InvalidInput, match="expected_version"):
                await repos.qa_tickets.update(session, ticket.id, data, expected_version=version)

    async def test_other_input_is_refused(self, session: ProjectSession, ticket: QATicket) -> None:
        for data in (a_ticket(), {"title": "x"}, None):
            with pytest.raises(InvalidInput):
                await repos.qa_tickets.update(session, ticket.id, data)  # type: ignore[arg-type]


class TestAssignBucket:
    async def test_the_first_is_the_initial_one_too(self, session: ProjectSession, ticket: QATicket) -> None:
        first = await repos.qa_tickets.assign_bucket(session, ticket.id, Bucket.NEEDS_INFO)
        assert (first.initial_bucket, first.final_bucket, first.version) == (Bucket.NEEDS_INFO, Bucket.NEEDS_INFO, 2)
        second = await repos.qa_tickets.assign_bucket(session, ticket.id, Bucket.AUTO_FIX)
        assert (second.initial_bucket, second.final_bucket, second.version) == (Bucket.NEEDS_INFO, Bucket.AUTO_FIX, 3)

    async def test_errors(self, session: ProjectSession, ticket: QATicket) -> None:
        with pytest.raises(NotFound):
            await repos.qa_tickets.assign_bucket(session, new_id(), Bucket.NOISE)
        for bucket in ("noise", None, 7):
            with pytest.raises(InvalidInput, match="bucket"):
                await repos.qa_tickets.assign_bucket(session, ticket.id, bucket)  # type: ignore[arg-type]


class TestFindByFingerprint:
    async def test_returns_the_newest(self, db: Database, project: Project) -> None:
        rows = []
        for _ in range(3):
            async with db.project(project.id) as session:
                rows += [await repos.qa_tickets.create(session, a_ticket(fingerprint="f")) for _ in range(2)]
        async with db.project(project.id) as session:
            assert await repos.qa_tickets.find_by_fingerprint(session, "f") == rows[-1]

    async def test_an_unknown_one_is_none(self, session: ProjectSession, ticket: QATicket) -> None:
        assert await repos.qa_tickets.find_by_fingerprint(session, "f") is None

    @pytest.mark.parametrize("fingerprint", ["", "x" * 129, None, 7, "\0", "\ud800"])
    async def test_a_bad_one_is_refused(self, session: ProjectSession, fingerprint: Any) -> None:
        with pytest.raises(InvalidInput, match="fingerprint"):
            await repos.qa_tickets.find_by_fingerprint(session, fingerprint)


class TestCountsByStatus:
    async def test_counts_each_status_also_at_0(self, session: ProjectSession) -> None:
        assert await repos.qa_tickets.counts_by_status(session) == dict.fromkeys(TicketStatus, 0)
        tickets = [await repos.qa_tickets.create(session, a_ticket()) for _ in range(4)]
        await repos.qa_tickets.transition(session, tickets[0].id, TicketStatus.TRIAGED)
        await repos.qa_tickets.transition(session, tickets[1].id, TicketStatus.REJECTED)
        counts = await repos.qa_tickets.counts_by_status(session)
        expected = {TicketStatus.OPEN: 2, TicketStatus.TRIAGED: 1, TicketStatus.REJECTED: 1}
        assert counts == {status: expected.get(status, 0) for status in TicketStatus}


class TestDelete:
    async def test_takes_its_attempts_and_leaves_signals_and_duplicates(
        self, session: ProjectSession, ticket: QATicket
    ) -> None:
        run = await repos.qa_runs.enqueue(session, a_run())
        await repos.raw_signals.ingest(session, run.id, signals("a"))
        (signal,) = await repos.raw_signals.pending(session, run.id)
        await repos.raw_signals.attach(session, [signal.id], ticket.id)
        other = await repos.qa_tickets.create(session, a_ticket())
        await repos.qa_tickets.mark_duplicate(session, other.id, ticket.id)
        await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
        kept = await repos.qa_fix_attempts.dispatch(session, (await repos.qa_tickets.create(session, a_ticket())).id, model="m")
        await repos.qa_tickets.delete(session, ticket.id)
        assert not await repos.qa_tickets.exists(session, ticket.id)
        assert [row.id async for row in repos.qa_fix_attempts.stream(session)] == [kept.id]
        assert (await repos.raw_signals.get(session, signal.id)).ticket_id is None
        duplicate = await repos.qa_tickets.get(session, other.id)
        assert (duplicate.duplicate_of_id, duplicate.status) == (None, TicketStatus.DUPLICATE)

    @pytest.mark.parametrize("column", ["ticket_id", "fix_attempt_id"])
    async def test_evidence_locks_it(self, session: ProjectSession, ticket: QATicket, column: str) -> None:
        attempt = await repos.qa_fix_attempts.dispatch(session, ticket.id, model="m")
        target = {"ticket_id": ticket.id, "fix_attempt_id": attempt.id}
        await repos.audit_artifacts.record(session, an_artifact(**{column: target[column]}))
        with pytest.raises(RetentionLocked):
            await repos.qa_tickets.delete(session, ticket.id)
        assert await repos.qa_tickets.get(session, ticket.id) == ticket

    async def test_an_unknown_ticket_is_not_found(self, session: ProjectSession) -> None:
        with pytest.raises(NotFound):
            await repos.qa_tickets.delete(session, new_id())
