"""From a linter's findings to tickets, a fix and its trust: the whole way through the repositories, on real input.

Runs `ruff check` over a folder and takes what it finds the way a discovery worker would: a run is enqueued and claimed, its
findings are ingested (twice: the second time all of them are known), triage makes one ticket of each rule in each file, and
the ticket whose findings ruff itself can fix gets an attempt, with the diff as evidence, its cost on the books, and its
outcome in the trust of its classification. Then it prints what it did.

    python examples/findings.py                          # the installed package sqlalchemy: some thousand findings
    python examples/findings.py src --select E,F,B       # another folder, other rules
    python examples/findings.py --project my-service     # a project of that slug; it is created where it is missing

The database is that of any service: DATABASE_URL and ADMIN_URL (or DIRECT_URL), or the embedded server where none is set;
it must be migrated (`derwin-db migrate`). ruff is taken from PATH, or from beside the running Python. Running it again makes
a new run, finds the same tickets by their fingerprints, and spends once more.
"""

import argparse
import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from derwin_db import Database, ProjectSession, models, repos
from derwin_db.errors import ProjectNotFound

RULES = "E,F,B,SIM,UP,RUF,PL"
SEVERITIES = {"F": models.Severity.HIGH, "E": models.Severity.MEDIUM, "B": models.Severity.MEDIUM}
CAP = models.SpendCap(Decimal(5), timedelta(days=1))
"""What one day's fixes may cost, in US dollars."""

PRICE = Decimal("0.0125")
"""What one attempt costs here, in US dollars."""


@dataclass
class Report:
    """What was done, for the table at the end."""

    run: models.QARun
    first: models.IngestResult
    second: models.IngestResult
    tickets: int = 0
    known: int = 0
    attempt: models.QAFixAttempt | None = None
    ticket: models.QATicket | None = None
    score: float = 0.0
    spent: Decimal = Decimal(0)


# --- ruff -----------------------------------------------------------------------------------------------------------


def ruff(*arguments: str) -> str:
    """Run ruff with no configuration but these arguments, and return what it prints."""
    beside = Path(sys.executable).with_name("ruff")
    program = shutil.which("ruff") or (str(beside) if beside.exists() else None)
    if program is None:
        raise SystemExit("ruff is not installed: pip install ruff")
    command = [program, "check", "--isolated", "--no-cache", "--exit-zero", "--quiet", "--config", "exclude=[]"]
    command += ["--no-respect-gitignore", *arguments]  # a virtual environment of Python 3.13 ignores itself
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603  # arguments, no shell


def findings(folder: Path, rules: str) -> list[models.RawSignalCreate]:
    """Return what ruff finds, each finding once: the same rule at the same place is the same finding.

    Errors:
        SystemExit where there is none, which says what was looked at.
    """
    seen = datetime.now(UTC)
    results = json.loads(ruff("--select", rules, "--output-format", "json", str(folder)))
    if not results:
        files = len(ruff("--show-files", str(folder)).splitlines())
        raise SystemExit(f"Nothing to do: ruff looked at {files} files in {folder} and found nothing by the rules {rules}.")
    signals = (signal_of(result, folder, seen) for result in results)
    return list({signal.fingerprint: signal for signal in signals}.values())


def signal_of(result: dict[str, Any], folder: Path, seen: datetime) -> models.RawSignalCreate:
    rule = result["code"] or "syntax"
    place = Path(result["filename"]).resolve().relative_to(folder.resolve()).as_posix() or folder.name
    is_fixable = (result["fix"] or {}).get("applicability") == "safe"
    return models.RawSignalCreate(
        route=models.DiscoveryRoute.STATIC_ANALYSIS,
        title=f"{rule} {result['message']}"[:500],
        fingerprint=digest(rule, place, result["location"], result["message"]),
        severity_hint=SEVERITIES.get(rule[0], models.Severity.LOW),
        confidence=1.0,
        payload={"rule": rule, "file": place, **result["location"], "url": result["url"], "is_fixable": is_fixable},
        observed_at=seen,
    )


def propose(folder: Path, rule: str, file: str) -> tuple[str, models.DiffStat]:
    """Return the diff by which ruff would fix the rule in the file, and its size. Nothing is changed."""
    diff = ruff("--select", rule, "--diff", str(folder / file if folder.is_dir() else folder))
    starts = [line[:1] for line in diff.splitlines() if not line.startswith(("+++", "---"))]
    stat = models.DiffStat(files=diff.count("\n+++ "), insertions=starts.count("+"), deletions=starts.count("-"))
    return diff, stat


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# --- the work, each step a unit of its own --------------------------------------------------------------------------


async def open_project(db: Database, slug: str) -> None:
    """Make the project where it is missing: the one thing that needs the admin door."""
    try:
        async with db.project(slug, read_only=True) as session:
            await repos.projects.current(session)
    except ProjectNotFound:
        async with db.admin(reason=f"findings.py: first run for {slug}") as admin:
            data = models.ProjectCreate(slug=slug, name=slug, type=models.ProjectType.OTHER, mode=models.ProjectMode.AUTHOR)
            await repos.projects.create(admin, data)


async def discover(db: Database, slug: str, signals: Sequence[models.RawSignalCreate], worker: str) -> Report:
    """Enqueue a run, claim one, and write its findings down twice, as a worker does that was not sure of the first time."""
    async with db.project(slug) as session:
        await repos.qa_runs.enqueue(
            session, models.QARunCreate(trigger=models.RunTrigger.MANUAL, routes=[models.DiscoveryRoute.STATIC_ANALYSIS])
        )
    async with db.project(slug) as session:
        run = await repos.qa_runs.claim(session, worker)
    if run is None:
        raise SystemExit("Another worker was faster and has claimed the run.")
    first = await db.run(slug, repos.raw_signals.ingest, run.id, signals)
    second = await db.run(slug, repos.raw_signals.ingest, run.id, signals)
    return Report(run, first, second)


async def triage(db: Database, slug: str, report: Report) -> None:
    """Make one ticket of each rule in each file, or find the one that is there, and attach what belongs to it."""
    async with db.project(slug, read_only=True) as session:
        signals = [signal async for signal in repos.raw_signals.stream(session, run_id=report.run.id)]
    groups = [(key, list(group)) for key, group in groupby(sorted(signals, key=rule_and_file), key=rule_and_file)]
    for start in range(0, len(groups), 100):
        async with db.project(slug) as session:
            for key, group in groups[start : start + 100]:
                await ticket_of(session, key, group, report)
            await repos.qa_runs.heartbeat(session, report.run.id, worker=str(report.run.claimed_by))


def rule_and_file(signal: models.RawSignal) -> tuple[str, str]:
    return signal.payload["rule"], signal.payload["file"]


async def ticket_of(session: ProjectSession, key: tuple[str, str], signals: list[models.RawSignal], report: Report) -> None:
    fingerprint = digest(*key)
    ticket = await repos.qa_tickets.find_by_fingerprint(session, fingerprint)
    if ticket is None:
        report.tickets += 1
        ticket = await repos.qa_tickets.create(session, ticket_for(key, signals, fingerprint, report.run))
    else:
        report.known += 1
        if ticket.status is models.TicketStatus.RESOLVED:
            ticket = await repos.qa_tickets.transition(session, ticket.id, models.TicketStatus.OPEN)
    for start in range(0, len(signals), 1000):
        await repos.raw_signals.attach(session, [signal.id for signal in signals[start : start + 1000]], ticket.id)
    if report.ticket is None and ticket.status is models.TicketStatus.OPEN and signals[0].payload["is_fixable"]:
        report.ticket = ticket


def ticket_for(
    key: tuple[str, str], signals: list[models.RawSignal], fingerprint: str, run: models.QARun
) -> models.QATicketCreate:
    rule, file = key
    places = [f"{file}:{signal.payload['row']}:{signal.payload['column']}" for signal in signals]
    return models.QATicketCreate(
        run_id=run.id,
        title=f"{rule} in {file}: {len(signals)} findings"[:500],
        description="\n".join(signal.title for signal in signals)[:100_000],
        steps_to_reproduce=[f"ruff check --select {rule} {file}", *places[:20]],
        severity=signals[0].severity_hint or models.Severity.LOW,
        classification="lint_" + "".join(letter for letter in rule.lower() if letter.isalpha()),
        confidence=1.0,
        risk_score=min(1.0, len(signals) / 100),
        fingerprint=fingerprint,
    )


async def fix(db: Database, slug: str, folder: Path, report: Report) -> None:
    """Attempt the first ticket that ruff can fix: prompt and diff are kept, the cost is booked, the outcome counts."""
    if report.ticket is None:
        return
    rule, file = report.ticket.steps_to_reproduce[0].removeprefix("ruff check --select ").split(" ", 1)
    async with db.project(slug) as session:
        for to in (models.TicketStatus.TRIAGED, models.TicketStatus.IN_PROGRESS):
            await repos.qa_tickets.transition(session, report.ticket.id, to)
        await repos.qa_tickets.assign_bucket(session, report.ticket.id, models.Bucket.AUTO_FIX)
        prompt = await keep(session, report.ticket, models.ArtifactKind.PROMPT, f"ruff check --fix --select {rule} {file}")
        attempt = await repos.qa_fix_attempts.dispatch(
            session, report.ticket.id, model="ruff", branch=f"fix/{rule.lower()}", prompt_artifact_id=prompt
        )
        await repos.qa_fix_attempts.start(session, attempt.id)
    diff, stat = await asyncio.to_thread(propose, folder, rule, file)
    async with db.project(slug) as session:
        await keep(session, report.ticket, models.ArtifactKind.DIFF, diff)
        charge = models.SpendLedgerCreate(
            kind=models.SpendKind.CHARGE,
            source=models.SpendSource.COMPUTE,
            model="ruff",
            amount_usd=PRICE,
            run_id=report.run.id,
            ticket_id=report.ticket.id,
            fix_attempt_id=attempt.id,
            idempotency_key=f"attempt {attempt.id}",
            occurred_at=datetime.now(UTC),
        )
        await repos.spend_ledger.append(session, charge, cap=CAP)
        outcome = models.FixOutcome.MERGED if stat.files else models.FixOutcome.TESTS_FAILED
        report.attempt = await repos.qa_fix_attempts.conclude(session, attempt.id, outcome, diff_stat=stat, cost_usd=PRICE)
        if outcome is models.FixOutcome.MERGED:
            for to in (models.TicketStatus.FIX_PROPOSED, models.TicketStatus.RESOLVED):
                report.ticket = await repos.qa_tickets.transition(session, report.ticket.id, to)


async def keep(session: ProjectSession, ticket: models.QATicket, kind: models.ArtifactKind, text: str) -> Any:
    """Keep the text as evidence of the ticket: here by its hash alone, a service puts the bytes into its store."""
    hashed = hashlib.sha256(text.encode()).hexdigest()
    data = models.AuditArtifactCreate(
        ticket_id=ticket.id,
        kind=kind,
        storage_uri=f"urn:sha256:{hashed}",
        mime_type="text/plain",
        byte_size=len(text.encode()),
        content_hash=hashed,
    )
    return (await repos.audit_artifacts.record(session, data)).id


async def finish(db: Database, slug: str, report: Report) -> None:
    """End the run with what is stored of it, and read what the report shows."""
    async with db.project(slug) as session:
        stats = await repos.qa_runs.statistics(session, report.run.id)
        report.run = await repos.qa_runs.complete(session, report.run.id, stats, worker=str(report.run.claimed_by))
        report.spent = await repos.spend_ledger.total(session)
        if report.ticket is not None:
            name = report.ticket.classification
            report.score = (await repos.classification_trust.for_classification(session, name)).score


# --- the report -----------------------------------------------------------------------------------------------------


def show(report: Report, slug: str) -> None:
    table = Table(title=f"{slug}: run {report.run.id}", show_header=False)
    table.add_row("findings", f"{report.first.inserted} new, {report.first.duplicates} known")
    table.add_row("ingested again", f"{report.second.inserted} new, {report.second.duplicates} known")
    table.add_row("tickets", f"{report.tickets} written, {report.known} found again")
    if report.attempt is not None and report.ticket is not None and report.attempt.diff_stat is not None:
        stat = report.attempt.diff_stat
        table.add_row("ticket", f"{report.ticket.title} ({report.ticket.status})")
        table.add_row(
            "attempt", f"no. {report.attempt.attempt_no}: {report.attempt.outcome}, +{stat.insertions} -{stat.deletions}"
        )
        table.add_row("trust", f"{report.ticket.classification}: {report.score:.3f}")
    table.add_row("spent", f"{report.spent} USD")
    table.add_row("run", f"{report.run.status}: {report.run.stats.signals} signals, {report.run.stats.tickets} tickets")
    Console().print(table)


async def work(folder: Path, rules: str, slug: str) -> Report:
    signals = await asyncio.to_thread(findings, folder, rules)
    async with Database() as db:
        await open_project(db, slug)
        report = await discover(db, slug, signals, worker="findings")
        await triage(db, slug, report)
        await fix(db, slug, folder, report)
        await finish(db, slug, report)
    return report


def sqlalchemy_folder() -> Path:
    return Path(str(find_spec("sqlalchemy").origin)).parent  # type: ignore[union-attr]  # a dependency


def main() -> None:
    parser = argparse.ArgumentParser(description="From a linter's findings to tickets, a fix and its trust.")
    parser.add_argument("folder", nargs="?", type=Path, default=sqlalchemy_folder(), help="what to analyse")
    parser.add_argument("--select", default=RULES, help=f"rules of ruff (default: {RULES})")
    parser.add_argument("--project", default="findings", help="slug of the project (default: findings)")
    given = parser.parse_args()
    if not given.folder.exists():
        parser.error(f"{given.folder} does not exist")
    show(asyncio.run(work(given.folder, given.select, given.project)), given.project)


if __name__ == "__main__":
    main()
