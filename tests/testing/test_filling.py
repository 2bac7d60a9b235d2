"""Filled projects: a row in every table, in every state that their rows can be in."""

from datetime import UTC, datetime

import pytest

from derwin_db import Database
from derwin_db.models import DocStatus, FixStatus, RunStatus, SignalStatus, TicketStatus
from derwin_db.testing import Filled, create_filled
from derwin_db.testing.filling import models_by_table

STATES = {
    "qa_runs.status": RunStatus,
    # no verb makes one a DUPLICATE
    "raw_signals.status": {SignalStatus.NEW, SignalStatus.TRIAGED, SignalStatus.DISCARDED},
    "qa_tickets.status": TicketStatus,
    "qa_fix_attempts.status": FixStatus,
    "ingested_docs.status": DocStatus,
}


@pytest.fixture(scope="module")
async def filled(db: Database) -> Filled:
    return await create_filled(db)


class TestFilled:
    def test_has_rows_in_every_table(self, filled: Filled) -> None:
        assert all(filled.rows[table] for table in models_by_table())

    @pytest.mark.parametrize("place", STATES)
    def test_has_rows_in_every_state(self, filled: Filled, place: str) -> None:
        table, _, column = place.partition(".")
        assert {getattr(row, column) for row in filled.rows[table]} == set(STATES[place])

    def test_has_evidence_that_is_due_and_evidence_that_is_kept(self, filled: Filled) -> None:
        due = [row.retention_until < datetime.now(UTC) for row in filled.rows["audit_artifacts"]]
        assert due.count(True) == 2
        assert False in due

    def test_has_signals_of_a_run_that_is_over_and_of_one_that_goes_on(self, filled: Filled) -> None:
        states = {run.id: run.status for run in filled.rows["qa_runs"]}
        found = {states[signal.run_id] for signal in filled.rows["raw_signals"]}
        assert found == {RunStatus.COMPLETED, RunStatus.RUNNING}
