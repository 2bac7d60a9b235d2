"""raw_signals: bulk ingestion, each finding once a run, and triage of all or none."""

import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import InvalidInput, InvalidReference, NotFound, TooLarge
from derwin_db.fields.scalars import new_id
from derwin_db.models import IngestResult, Project, QARun, QATicket, RawSignal, RawSignalCreate, SignalStatus
from tests.repos.rows import a_run, a_signal, a_ticket, signals


@pytest.fixture
async def run(session: ProjectSession) -> QARun:
    return await repos.qa_runs.enqueue(session, a_run())


@pytest.fixture
async def ticket(session: ProjectSession) -> QATicket:
    return await repos.qa_tickets.create(session, a_ticket())


@pytest.fixture
async def three(session: ProjectSession, run: QARun) -> list[RawSignal]:
    await repos.raw_signals.ingest(session, run.id, signals("a", "b", "c"))
    return list(await repos.raw_signals.pending(session, run.id))


class TestOfTickets:
    async def test_are_twenty_of_each_unless_more_are_wanted(
        self, session: ProjectSession, run: QARun, ticket: QATicket
    ) -> None:
        await repos.raw_signals.ingest(session, run.id, signals(*map(str, range(21))))
        await repos.raw_signals.attach(session, [row.id for row in await repos.raw_signals.pending(session, run.id)], ticket.id)
        assert len((await repos.raw_signals.of_tickets(session, [ticket.id]))[ticket.id]) == 20
        assert len((await repos.raw_signals.of_tickets(session, [ticket.id], limit_each=100))[ticket.id]) == 21


class TestIngest:
    @pytest.mark.parametrize("how", [list, iter])
    async def test_names_the_row_that_can_not_be(self, db: Database, project: Project, how: Any) -> None:
        """Inputs are checked when they are made; these were changed past that."""
        good = signals(*map(str, range(40)))
        bad = {
            "signals[30]: a RawSignalCreate": "canary",
            "signals[30].title": good[30].model_copy(update={"title": "canary" * 100}),
            "signals[30].payload": good[30].model_copy(update={"payload": {"canary": "\0"}}),
        }
        for said, row in bad.items():
            with pytest.raises(InvalidInput, match=re.escape(said)) as caught:
                async with db.project(project.id) as unit:
                    run = await repos.qa_runs.enqueue(unit, a_run())
                    await repos.raw_signals.ingest(unit, run.id, how([*good[:30], row, *good[31:]]))
            assert "canary" not in str(caught.value)

    async def test_writes_the_rows(self, session: ProjectSession, run: QARun) -> None:
        data = a_signal(payload={"deep": [{"a": None}, 1.5, True]}, severity_hint="LOW", confidence=1)
        assert await repos.raw_signals.ingest(session, run.id, [data]) == IngestResult(1, 0)
        (row,) = await repos.raw_signals.pending(session, run.id)
        assert row.model_dump(include=set(RawSignalCreate.model_fields)) == data.model_dump()
        assert (row.run_id, row.status, row.ticket_id) == (run.id, SignalStatus.NEW, None)

    async def test_each_fingerprint_once_a_run(self, session: ProjectSession, run: QARun) -> None:
        ingest = repos.raw_signals.ingest
        assert await ingest(session, run.id, signals("a", "b", "a")) == IngestResult(2, 1)
        assert await ingest(session, run.id, signals("b", "c")) == IngestResult(1, 1)
        assert await ingest(session, run.id, signals("c", "c")) == IngestResult(0, 2)
        other = await repos.qa_runs.enqueue(session, a_run())
        assert await ingest(session, other.id, signals("a", "b")) == IngestResult(2, 0)

    async def test_a_known_signal_is_left_as_it_is(self, session: ProjectSession, three: list[RawSignal]) -> None:
        again = a_signal("a", title="Another", payload={})
        await repos.raw_signals.ingest(session, three[0].run_id, [again])
        before = next(row for row in three if row.fingerprint == "a")
        assert await repos.raw_signals.get(session, before.id) == before

    async def test_thousands_in_one_call(self, session: ProjectSession, run: QARun) -> None:
        rows = [a_signal(f"{n % 9000}") for n in range(10_000)]
        assert await repos.raw_signals.ingest(session, run.id, rows) == IngestResult(9000, 1000)
        assert await repos.raw_signals.ingest(session, run.id, rows) == IngestResult(0, 10_000)
        assert await repos.raw_signals.count(session, run_id=run.id) == 9000

    async def test_a_generator_is_taken_in_batches(self, session: ProjectSession, run: QARun) -> None:
        taken = 0

        def found() -> Iterator[RawSignalCreate]:
            nonlocal taken
            for n in range(12_000):
                taken += 1
                yield a_signal(f"{n}")

        assert await repos.raw_signals.ingest(session, run.id, found()) == IngestResult(12_000, 0)
        assert taken == 12_000

    @pytest.mark.parametrize("on_error", ["raise", "report"])
    @pytest.mark.parametrize(("how", "order"), [(list, "abcd"), (iter, "dcba")])
    async def test_a_long_list_is_written_in_order_and_a_generator_as_it_comes(
        self, session: ProjectSession, run: QARun, monkeypatch: pytest.MonkeyPatch, how: Any, order: str, on_error: Any
    ) -> None:
        for name, size in (("_ONCE", 3), ("_BATCH", 1)):
            monkeypatch.setattr(sys.modules["derwin_db.repos.raw_signals"], name, size)
        await repos.raw_signals.ingest(session, run.id, how(signals(*"dcba")), on_error=on_error)
        rows = [row async for row in repos.raw_signals.stream(session)]
        assert "".join(row.fingerprint for row in sorted(rows, key=lambda row: row.id)) == order

    @pytest.mark.parametrize("text", ["a", "é", "\U0001f41e" * 128, " ", "{}", '"', "\\", ",", "NULL"])
    async def test_a_fingerprint_comes_back_as_it_went(self, session: ProjectSession, run: QARun, text: str) -> None:
        await repos.raw_signals.ingest(session, run.id, [a_signal(text, title=text)])
        (row,) = (await repos.raw_signals.list(session, fingerprint=text)).items
        assert (row.fingerprint, row.title) == (text, text)

    async def test_nothing_is_nothing(self, session: ProjectSession, run: QARun) -> None:
        assert await repos.raw_signals.ingest(session, run.id, []) == IngestResult(0, 0)

    @pytest.mark.parametrize("rows", [[], signals("a")])
    async def test_an_unknown_run_is_not_found(self, session: ProjectSession, rows: list[RawSignalCreate]) -> None:
        with pytest.raises(NotFound):
            await repos.raw_signals.ingest(session, new_id(), rows)

    async def test_a_run_of_another_project_is_not_found(
        self, db: Database, session: ProjectSession, other_project: Project
    ) -> None:
        async with db.project(other_project.id) as other:
            foreign = await repos.qa_runs.enqueue(other, a_run())
        with pytest.raises(NotFound):
            await repos.raw_signals.ingest(session, foreign.id, signals("a"))

    @pytest.mark.parametrize("rows", [None, 7, "ab", {"a": 1}, [None], [a_ticket()], iter([a_ticket()]), [{"title": "x"}]])
    async def test_other_input_is_refused(self, session: ProjectSession, run: QARun, rows: Any) -> None:
        with pytest.raises(InvalidInput):
            await repos.raw_signals.ingest(session, run.id, rows)
        assert await repos.raw_signals.count(session) == 0


class TestPending:
    async def test_oldest_first_and_new_alone(self, db: Database, project: Project) -> None:
        async with db.project(project.id) as session:
            run = await repos.qa_runs.enqueue(session, a_run())
        for fingerprint in ("b", "a", "c", "d"):
            async with db.project(project.id) as session:
                await repos.raw_signals.ingest(session, run.id, signals(fingerprint))
        async with db.project(project.id) as session:
            rows = await repos.raw_signals.pending(session, run.id)
            assert [row.fingerprint for row in rows] == ["b", "a", "c", "d"]
            assert await repos.raw_signals.pending(session, run.id, limit=2) == rows[:2]
            await repos.raw_signals.discard(session, [rows[0].id])
            assert await repos.raw_signals.pending(session, run.id) == rows[1:]

    async def test_of_this_run_alone(self, session: ProjectSession, three: list[RawSignal]) -> None:
        other = await repos.qa_runs.enqueue(session, a_run())
        assert await repos.raw_signals.pending(session, other.id) == []

    @pytest.mark.parametrize("limit", [0, 501, True, "1", None])
    async def test_a_bad_limit_is_refused(self, session: ProjectSession, limit: Any) -> None:
        with pytest.raises(InvalidInput, match="limit"):
            await repos.raw_signals.pending(session, new_id(), limit=limit)


class TestAttach:
    async def test_makes_them_part_of_the_ticket(
        self, session: ProjectSession, three: list[RawSignal], ticket: QATicket
    ) -> None:
        assert await repos.raw_signals.attach(session, [three[0].id, three[1].id, three[0].id], ticket.id) == 2
        row = await repos.raw_signals.get(session, three[0].id)
        changed = {"status": SignalStatus.TRIAGED, "ticket_id": ticket.id, "updated_at": row.updated_at}
        assert row == three[0].model_copy(update=changed)
        assert await repos.raw_signals.get(session, three[2].id) == three[2]

    async def test_to_another_ticket_afterwards(
        self, session: ProjectSession, three: list[RawSignal], ticket: QATicket
    ) -> None:
        second = await repos.qa_tickets.create(session, a_ticket())
        await repos.raw_signals.discard(session, [three[0].id])
        for each in (ticket, second):
            await repos.raw_signals.attach(session, [three[0].id], each.id)
        assert (await repos.raw_signals.get(session, three[0].id)).ticket_id == second.id

    async def test_nothing_is_nothing(self, session: ProjectSession, ticket: QATicket) -> None:
        assert await repos.raw_signals.attach(session, [], ticket.id) == 0

    async def test_one_unknown_signal_and_none_is_attached(
        self, session: ProjectSession, three: list[RawSignal], ticket: QATicket
    ) -> None:
        with pytest.raises(NotFound):
            await repos.raw_signals.attach(session, [three[0].id, new_id()], ticket.id)
        assert list(await repos.raw_signals.pending(session, three[0].run_id)) == three

    async def test_an_unknown_ticket_is_an_invalid_reference(self, session: ProjectSession, three: list[RawSignal]) -> None:
        for ids in ([three[0].id], [three[0].id, new_id()]):
            with pytest.raises(InvalidReference):
                await repos.raw_signals.attach(session, ids, new_id())
        assert list(await repos.raw_signals.pending(session, three[0].run_id)) == three

    async def test_a_thousand_and_no_more(self, session: ProjectSession, run: QARun, ticket: QATicket) -> None:
        await repos.raw_signals.ingest(session, run.id, [a_signal(f"{n}") for n in range(1000)])
        ids = [row.id async for row in repos.raw_signals.stream(session)]
        with pytest.raises(TooLarge):
            await repos.raw_signals.attach(session, [*ids, new_id()], ticket.id)
        assert await repos.raw_signals.attach(session, ids, ticket.id) == 1000

    @pytest.mark.parametrize("ids", [None, 7, "ab", [None], ["x"]])
    async def test_bad_ids_are_refused(self, session: ProjectSession, ids: Any) -> None:
        with pytest.raises(InvalidInput, match=r"id"):
            await repos.raw_signals.attach(session, ids, new_id())


class TestDiscard:
    async def test_puts_them_aside(self, session: ProjectSession, three: list[RawSignal], ticket: QATicket) -> None:
        await repos.raw_signals.attach(session, [three[0].id], ticket.id)
        assert await repos.raw_signals.discard(session, [row.id for row in three[:2]]) == 2
        row = await repos.raw_signals.get(session, three[0].id)
        assert row == three[0].model_copy(update={"status": SignalStatus.DISCARDED, "updated_at": row.updated_at})

    async def test_one_unknown_signal_and_none_is_discarded(self, session: ProjectSession, three: list[RawSignal]) -> None:
        with pytest.raises(NotFound):
            await repos.raw_signals.discard(session, [three[0].id, new_id()])
        assert list(await repos.raw_signals.pending(session, three[0].run_id)) == three

    async def test_too_many_are_refused(self, session: ProjectSession) -> None:
        with pytest.raises(TooLarge):
            await repos.raw_signals.discard(session, [new_id() for _ in range(1001)])

    async def test_nothing_is_nothing(self, session: ProjectSession) -> None:
        assert await repos.raw_signals.discard(session, []) == 0


class TestDelete:
    async def test_removes_the_row(self, session: ProjectSession, three: list[RawSignal]) -> None:
        await repos.raw_signals.delete(session, three[0].id)
        assert list(await repos.raw_signals.pending(session, three[0].run_id)) == three[1:]

    async def test_an_unknown_signal_is_not_found(self, session: ProjectSession) -> None:
        with pytest.raises(NotFound):
            await repos.raw_signals.delete(session, new_id())
