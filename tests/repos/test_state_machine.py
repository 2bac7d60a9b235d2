"""Two projects at once, driven through all repositories by hypothesis, against a model of plain dicts.

Each step is a unit of work, kept or rolled back, on ids that are its own, unknown or the other project's. The model says
what must come of it, error included; after it, all 14 tables are compared and the invariants of both projects checked.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from derwin_db import Database
from derwin_db.models import FixOutcome
from derwin_db.testing import TestDatabase
from tests.repos.machine.books import DeletionRules, LedgerRules
from tests.repos.machine.knowledge import CorpusRules, DocumentRules, ProfileRules
from tests.repos.machine.tickets import AttemptRules, TicketRules
from tests.repos.machine.work import RunRules, SignalRules

FAST = settings(max_examples=6, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
LONG = settings(FAST, max_examples=120, stateful_step_count=100)


class Projects(
    RunRules, SignalRules, TicketRules, AttemptRules, DocumentRules, ProfileRules, CorpusRules, LedgerRules, DeletionRules
):
    """All rules together. Each world begins with a little of everything, so that few steps meet an empty table."""

    def begin(self) -> None:
        for which in (0, 1):
            for _ in range(3):
                self.enqueue(which, kept=True)
            self.claim(which, "ada", kept=True)
            self.ingest(which, 2, ["a", "b", "c", "d"], kept=True)
            for name in ("ui_bug", "ui_bug", "billing", "data"):
                self.create_ticket(which, 3, with_run=True, fingerprint="a", name=name, kept=True)
            for pick, outcome in enumerate((FixOutcome.MERGED, FixOutcome.ERROR, FixOutcome.PR_OPENED), start=2):
                self.run_attempt(which, pick, outcome)
            for content in "ab":
                self.ingest_doc(which, content, kept=True)
            self.create_profile(which, "one", kept=True)
            self.record(which, 2, "ticket_id", kept=True)
            for is_held in (True, False):
                self.age(which)
                self.hold_or_release(which, 3 - is_held, is_held=is_held, kept=True)
            self.attach(which, [2, 3], 5, kept=True)
            self.mark_duplicate(which, 7, 5, kept=True)
            self.remember(which, 0.5, kept=True)
            self.append(which, "a", "1.5", None, kept=True)


@pytest.fixture
def machine(migrated: TestDatabase) -> Iterator[Any]:
    """The machine on an event loop of its own, which is not the one of the other tests."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        db = Database(**migrated.urls)
        yield type("Machine", (Projects,), {"runner": runner, "db": db})
        runner.run(db.close())


class TestProjects:
    def test_agree_with_the_model(self, machine: Any) -> None:
        run_state_machine_as_test(machine, settings=FAST)

    @pytest.mark.long
    def test_agree_with_the_model_for_long(self, machine: Any) -> None:
        run_state_machine_as_test(machine, settings=LONG)
