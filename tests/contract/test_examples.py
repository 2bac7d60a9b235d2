"""The examples, run as their docstrings say, against a database as a service has it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from derwin_db import Database, repos
from derwin_db.models import FixOutcome, RunStatus, SignalStatus, TicketStatus
from derwin_db.testing import TestDatabase
from tests.forking import program

FINDINGS = Path(__file__).parents[2] / "examples" / "findings.py"


def run(database: TestDatabase, *arguments: str, is_forked: bool = True) -> str:
    """Run it, by default in a fork: that it runs as a file is shown once."""
    urls = {f"{name.removesuffix('_url').replace('url', 'database')}_url".upper(): url for name, url in database.urls.items()}
    environment = {**os.environ, **urls, "PYTHONPATH": str(FINDINGS.parents[1]), "COLUMNS": "200", "NO_COLOR": "1"}
    if is_forked:
        done = program("from examples.findings import main; main()", *arguments, environment=environment, warnings="error")
    else:
        command = [sys.executable, "-W", "error", str(FINDINGS), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(report: str, text: str) -> int:
    found = re.search(rf"(\d+) {text}", report)
    assert found is not None, report
    return int(found.group(1))


@pytest.fixture(scope="module")
def reports(migrated: TestDatabase) -> tuple[str, str]:
    """What two runs over the installed package sqlalchemy print."""
    arguments = ("--project", "findings-of-sqlalchemy", "--select", "E,F,PLR")
    return run(migrated, *arguments, is_forked=False), run(migrated, *arguments)


class TestFindings:
    def test_a_thousand_are_ingested_once(self, reports: tuple[str, str]) -> None:
        for report in reports:
            (first, again) = re.findall(r"(\d+) new, (\d+) known", report)
            assert int(first[0]) > 1000
            assert first[1] == "0"
            assert again == ("0", first[0])

    def test_tickets_are_written_once(self, reports: tuple[str, str]) -> None:
        first, second = reports
        assert number(first, "written") > 100
        assert (number(first, "found again"), number(second, "written")) == (0, 0)
        assert number(second, "found again") == number(first, "written")

    async def test_all_of_it_is_stored(self, db: Database, reports: tuple[str, str]) -> None:
        tickets = number(reports[0], "written")
        async with db.project("findings-of-sqlalchemy") as session:
            runs = (await repos.qa_runs.list(session)).items
            assert [run.status for run in runs] == [RunStatus.COMPLETED] * 2
            assert runs[1].stats.tickets == await repos.qa_tickets.count(session) == tickets
            signals = await repos.raw_signals.count(session, status=SignalStatus.TRIAGED)
            assert signals == await repos.raw_signals.count(session) == sum(run.stats.signals for run in runs)
            attempts = (await repos.qa_fix_attempts.list(session)).items
            assert [row.outcome for row in attempts] == [FixOutcome.MERGED] * 2
            assert all(row.diff_stat is not None and row.diff_stat.deletions for row in attempts)
            assert await repos.audit_artifacts.count(session) == 4
            assert await repos.spend_ledger.total(session) == sum(row.cost_usd for row in attempts)
            ticket = await repos.qa_tickets.get(session, attempts[0].ticket_id)
            assert ticket.status is TicketStatus.RESOLVED
            trust = await repos.classification_trust.for_classification(session, ticket.classification)
            assert (trust.attempts, trust.successes) == (2, 2)
            assert f"{trust.score:.3f}" in reports[1]

    def test_says_what_it_lacks(self, migrated: TestDatabase) -> None:
        with pytest.raises(AssertionError, match="no-such-folder does not exist"):
            run(migrated, "no-such-folder")

    def test_looks_at_what_git_is_told_to_ignore(self, migrated: TestDatabase, tmp_path: Path) -> None:
        (tmp_path / ".gitignore").write_text("*\n")
        (tmp_path / "module.py").write_text("import os\n")
        report = run(migrated, str(tmp_path), "--project", "ignored-by-git", "--select", "F")
        assert number(report, "written") == 1

    def test_says_why_it_finds_nothing(self, migrated: TestDatabase, tmp_path: Path) -> None:
        (tmp_path / "module.py").write_text("")
        with pytest.raises(AssertionError, match=r"looked at 1 files in .* found nothing by the rules F"):
            run(migrated, str(tmp_path), "--select", "F")
