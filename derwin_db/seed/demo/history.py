"""The rows of the demo history, one generator a table: deterministic, in constant memory at any scale."""

import hashlib
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any
from uuid import UUID

from derwin_db.fields.scalars import project_id_of
from derwin_db.fields.vector import VECTOR_SIZE
from derwin_db.models import (
    ArtifactKind,
    AuditArtifact,
    DiffStat,
    FixOutcome,
    FixStatus,
    QAFixAttempt,
    QARun,
    QATicket,
    RAGCorpus,
    RawSignal,
    RunStats,
    RunStatus,
    RunTrigger,
    SignalStatus,
    SpendKind,
    SpendLedger,
    SpendSource,
    TicketStatus,
)
from derwin_db.models.enums import Bucket, ComplianceMode, DiscoveryRoute, ProjectMode, Severity
from derwin_db.seed.demo.findings import FINDINGS, MERGE_RATE, ROUTES, SHARES, Finding, details, filled
from derwin_db.seed.lifeline import LIFELINE

DAYS = 60
_KEPT = 64
_PROJECT = project_id_of(LIFELINE)
TARGET_URL = "https://erp.staging.lifeline.example/"
"""Where the runs of the history looked: by this they are known."""

FORMER_URL = "https://staging.lifeline.example/"
"""The same of the history that was written before 29 November 2026, with other rows."""

_MODEL, _TRIAGE_MODEL, _EMBEDDER = "claude-sonnet-4-5", "claude-haiku-4-5", "text-embedding-3-small"

_PRICES = {
    _MODEL: (Decimal(3), Decimal(15)),
    _TRIAGE_MODEL: (Decimal(1), Decimal(5)),
    _EMBEDDER: (Decimal("0.02"), Decimal(0)),
}
"""US dollars for a million tokens in, and out, as their makers' price lists have them."""

_PER_MINUTE = Decimal("0.032")
"""US dollars for a minute of a machine with eight cores."""

_PER_GIGABYTE = Decimal("0.023")
"""US dollars for a gigabyte of storage and a month."""

_RUN_ERRORS = (
    "https://erp.staging.lifeline.example/ answered 503 for ten minutes: a deployment was under way.",
    "The browser was killed: out of memory on /reports/month-end.",
    "Signing in as 'clerk' failed: the password of the test user has expired.",
)
_EVIDENCE = (
    (ArtifactKind.SCREENSHOT, "image/png", "before.png", (60_000, 420_000)),
    (ArtifactKind.TRACE, "application/zip", "trace.zip", (400_000, 6_000_000)),
    (ArtifactKind.PROMPT, "text/plain", "prompt.txt", (9_000, 60_000)),
    (ArtifactKind.DIFF, "text/x-diff", "fix.diff", (700, 9_000)),
    (ArtifactKind.LOG, "text/plain", "tests.log", (12_000, 300_000)),
)
"""Kind, MIME type, name and size in bytes of what an attempt leaves."""


@dataclass(frozen=True)
class DemoCounts:
    """How many rows of each table a scale brings."""

    runs: int
    signals: int
    tickets: int
    attempts: int
    artifacts: int
    spend: int
    fixes: int

    @classmethod
    def at(cls, scale: int) -> "DemoCounts":
        """Return the counts at a scale of 1 or more."""
        return cls(24 * scale, 600 * scale, 80 * scale, 60 * scale, 90 * scale, 300 * scale, 40 * scale)


class History:
    """The rows, one generator a table, each from a random source of its own: constant memory at any scale.

    Times come from each other, as in a project: a signal lies within its run, a ticket after it, an attempt after its ticket.
    Nothing lies behind the last midnight.
    """

    def __init__(self, counts: DemoCounts, midnight: datetime) -> None:
        self.counts = counts
        self._start, self._end = midnight - timedelta(days=DAYS), midnight
        self._run_times = lru_cache(_KEPT)(self._times_of_run)  # rows that follow each other ask for the same ones
        self._ticket_base = lru_cache(_KEPT)(self._base_of_ticket)
        self._finding = lru_cache(_KEPT)(self._finding_of)

    def tables(self) -> Iterator[tuple[Any, Iterator[dict[str, Any]], int]]:
        """Yield model, rows and their number, parents first."""
        counts = self.counts
        yield QARun, self._rows(self._run, counts.runs), counts.runs
        yield QATicket, self._rows(self._ticket, counts.tickets), counts.tickets
        yield RawSignal, self._rows(self._signal, counts.signals), counts.signals
        yield QAFixAttempt, self._rows(self._attempt, counts.attempts), counts.attempts
        yield AuditArtifact, self._rows(self._artifact, counts.artifacts), counts.artifacts
        yield SpendLedger, self._rows(self._spend, counts.spend), counts.spend
        yield RAGCorpus, self._rows(self._fix, counts.fixes), counts.fixes

    def _rows(self, make: Callable[[int], dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
        return (make(number) for number in range(count))

    # --- times and names ----------------------------------------------------------------------------------------------

    def _later(self, at: datetime, seconds: float) -> datetime:
        """Return a time after this one, and before the history ends."""
        return at + timedelta(seconds=min(seconds, 0.8 * (self._end - at).total_seconds()))

    def _id(self, kind: str, number: int, at: datetime) -> UUID:
        """Return a UUIDv7 of that time whose random part comes from its name."""
        random_part = int.from_bytes(hashlib.sha256(f"{kind}:{self.counts.runs}:{number}".encode()).digest()[:10], "big")
        value = (int(at.timestamp() * 1000) << 80) | (0x7 << 76) | (random_part & ((1 << 76) - 1))
        return UUID(int=(value & ~(0x3 << 62)) | (0x2 << 62))

    def _base(self, kind: str, number: int, at: datetime) -> dict[str, Any]:
        return {"project_id": _PROJECT, "id": self._id(kind, number, at), "created_at": at}

    def _random(self, kind: str, number: int) -> random.Random:
        return random.Random(f"{kind}:{number}")  # noqa: S311  # a demo, not a secret

    # --- runs ---------------------------------------------------------------------------------------------------------

    def _times_of_run(self, number: int) -> tuple[datetime, datetime, datetime]:
        """Return when a run was enqueued, started and finished: over the day, the nightly one at two."""
        pick = self._random("run times", number)
        day, rest = divmod(number * DAYS / self.counts.runs, 1)
        hour = 2.0 if number % 3 == 0 else 7.5 + 10 * rest
        at = self._start + timedelta(days=day, hours=hour, seconds=pick.uniform(4, 2_400))
        started = self._later(at, pick.uniform(2, 90))
        return at, started, self._later(started, 60 * pick.lognormvariate(3, 0.5))

    def _run_of(self, number: int, count: int) -> int:
        return number * self.counts.runs // count

    def _run(self, number: int) -> dict[str, Any]:
        at, started, finished = self._run_times(number)
        pick = self._random("run", number)
        status = pick.choices((RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED), (20, 2, 1))[0]
        share = self.counts.signals // self.counts.runs
        stats = RunStats(signals=share, duplicates=pick.randint(0, share // 4), tickets=self.counts.tickets // self.counts.runs)
        trigger = RunTrigger.SCHEDULED if number % 3 == 0 else pick.choices(list(RunTrigger), (1, 0, 4, 1))[0]
        return {
            **self._base("run", number, at),
            "updated_at": finished,
            "trigger": trigger,
            "routes": sorted(pick.sample(list(DiscoveryRoute), 4)),
            "target_url": TARGET_URL,
            "commit_sha": f"{pick.getrandbits(160):040x}",
            "status": status,
            "mode": ProjectMode.AUTHOR if number > self.counts.runs // 3 else ProjectMode.TRIAGE,
            "claimed_by": f"runner-{number % 3 + 1}.eu-central",
            "heartbeat_at": finished,
            "started_at": started,
            "finished_at": finished,
            "stats": stats if status is RunStatus.COMPLETED else RunStats(),
            "error": pick.choice(_RUN_ERRORS) if status is RunStatus.FAILED else None,
        }

    # --- tickets ------------------------------------------------------------------------------------------------------

    def _finding_of(self, number: int) -> Finding:
        """Return what a ticket is about."""
        pick = self._random("finding", number)
        area = pick.choices(list(SHARES), list(SHARES.values()))[0]
        of_area = [finding for finding in FINDINGS if finding.classification == area]
        return of_area[number % len(of_area)]

    def _ticket_of(self, number: int, count: int) -> int:
        return number * self.counts.tickets // count

    def _base_of_ticket(self, number: int) -> dict[str, Any]:
        finished = self._run_times(self._run_of(number, self.counts.tickets))[2]
        return self._base("ticket", number, self._later(finished, self._random("ticket times", number).uniform(40, 1_500)))

    def _duplicate_of(self, number: int) -> int | None:
        """Return the ticket before that says the same, for a few of those that have one among the last dozen."""
        finding = self._finding(number)
        before = (other for other in range(number - 1, max(number - 12, -1), -1) if self._finding(other) is finding)
        return next(before, None) if number % 5 == 4 else None

    def _ticket(self, number: int) -> dict[str, Any]:
        base, finding, pick = self._ticket_base(number), self._finding(number), self._random("ticket", number)
        given = details(self._random("details", number))
        risk = round(min(0.99, max(0.01, pick.gauss(finding.risk, 0.06))), 3)
        bucket = Bucket.AUTO_FIX if risk < 0.4 else Bucket.ASSISTED_FIX if risk < 0.75 else Bucket.HUMAN_ONLY
        changed = self._later(base["created_at"], 3_600 * pick.uniform(1, 40))
        original = self._duplicate_of(number)
        status = TicketStatus.DUPLICATE if original is not None else self._status(number, pick)
        return {
            **base,
            "updated_at": changed,
            "run_id": self._run_id(self._run_of(number, self.counts.tickets)),
            "title": filled(finding.title, given),
            "description": f"{finding.screen}, {finding.path}: {filled(finding.actual, given)}",
            "steps_to_reproduce": [filled(step, given) for step in finding.steps],
            "expected": filled(finding.expected, given),
            "actual": filled(finding.actual, given),
            "severity": _severity(risk, pick),
            "classification": finding.classification,
            "status": status,
            "initial_bucket": bucket,
            "final_bucket": bucket if pick.random() < 0.85 else Bucket.NEEDS_INFO,
            "confidence": round(pick.betavariate(9, 2), 3),
            "risk_score": risk,
            "fingerprint": f"{finding.classification}:{_hash(finding.title)}:{number}",
            "duplicate_of_id": None if original is None else self._ticket_base(original)["id"],
            "external_ref": f"LIFE-{1000 + number}",
            "resolved_at": changed if status is TicketStatus.RESOLVED else None,
        }

    def _status(self, number: int, pick: random.Random) -> TicketStatus:
        """Return where a ticket stands: older ones are closed."""
        if number < self.counts.tickets * 3 // 4:
            return pick.choices((TicketStatus.RESOLVED, TicketStatus.REJECTED, TicketStatus.WONT_FIX), (8, 1, 1))[0]
        return pick.choices(tuple(TicketStatus)[:4], (4, 3, 2, 2))[0]

    def _run_id(self, number: int) -> UUID:
        return self._id("run", number, self._run_times(number)[0])

    # --- signals ------------------------------------------------------------------------------------------------------

    def _signal(self, number: int) -> dict[str, Any]:
        counts = self.counts
        pick, run = self._random("signal", number), self._run_of(number, counts.signals)
        _, started, finished = self._run_times(run)
        at = started + pick.random() * (finished - started)
        ticket = self._ticket_of(number, counts.signals)
        finding = self._finding(ticket)
        given = details(self._random("details", ticket))
        status = pick.choices((SignalStatus.TRIAGED, SignalStatus.DISCARDED, SignalStatus.NEW), (7, 2, 1))[0]
        return {
            **self._base("signal", number, at),
            "updated_at": at,
            "run_id": self._run_id(run),
            "route": ROUTES[finding.classification],
            "title": filled(pick.choice(finding.signals), given),
            "fingerprint": f"{finding.classification}:{_hash(finding.title)}:{ticket}:{number}",
            "severity_hint": pick.choices((_severity(finding.risk, pick), None), (4, 1))[0],
            "confidence": round(pick.betavariate(6, 2), 3),
            "status": status,
            "ticket_id": self._ticket_base(ticket)["id"] if status is SignalStatus.TRIAGED else None,
            "payload": {"url": TARGET_URL.rstrip("/") + filled(finding.path, {"id": given["invoice"]}), **finding.payload},
            "observed_at": at,
        }

    # --- attempts and what they leave ---------------------------------------------------------------------------------

    def _attempt_times(self, number: int) -> tuple[datetime, datetime]:
        """Return when an attempt was dispatched and concluded."""
        ticket = self._ticket_of(number, self.counts.attempts)
        pick = self._random("attempt times", number)
        at = self._later(self._ticket_base(ticket)["created_at"], 3_600 * pick.uniform(0.1, 5) * self._attempt_no(number))
        return at, self._later(at, 60 * pick.uniform(4, 35))

    def _attempt_no(self, number: int) -> int:
        counts = self.counts
        return 1 + number - math.ceil(self._ticket_of(number, counts.attempts) * counts.attempts / counts.tickets)

    def _attempt_id(self, number: int) -> UUID:
        return self._id("attempt", number, self._attempt_times(number)[0])

    def _attempt_cost(self, number: int) -> tuple[int, int, Decimal]:
        """Return tokens in, tokens out, and their price."""
        pick = self._random("attempt cost", number)
        given, written = round(pick.lognormvariate(12.3, 0.5)), round(pick.lognormvariate(9.3, 0.5))
        return given, written, _price(_MODEL, given, written)

    def _outcome(self, number: int) -> FixOutcome:
        pick = self._random("outcome", number)
        if pick.random() < MERGE_RATE[self._finding(self._ticket_of(number, self.counts.attempts)).classification]:
            return FixOutcome.MERGED
        failures = (FixOutcome.TESTS_FAILED, FixOutcome.REJECTED, FixOutcome.REVERTED, FixOutcome.TIMED_OUT)
        return pick.choices(failures, (5, 3, 1, 1))[0]

    def _attempt(self, number: int) -> dict[str, Any]:
        ticket = self._ticket_of(number, self.counts.attempts)
        finding, outcome = self._finding(ticket), self._outcome(number)
        at, concluded = self._attempt_times(number)
        given, written, cost = self._attempt_cost(number)
        lines = finding.diff.splitlines()[3:]
        has_pr = outcome in (FixOutcome.MERGED, FixOutcome.REJECTED, FixOutcome.REVERTED)
        return {
            **self._base("attempt", number, at),
            "updated_at": concluded,
            "ticket_id": self._ticket_base(ticket)["id"],
            "attempt_no": self._attempt_no(number),
            "status": FixStatus.SUCCEEDED if outcome is FixOutcome.MERGED else FixStatus.FAILED,
            "outcome": outcome,
            "model": _MODEL,
            "branch": f"fix/LIFE-{1000 + ticket}",
            "pr_url": f"https://git.lifeline.example/erp/pull/{2000 + number}" if has_pr else None,
            "diff_stat": DiffStat(
                files=2,
                insertions=sum(line.startswith("+") for line in lines) + 14,
                deletions=sum(line.startswith("-") for line in lines),
            ),
            "input_tokens": given,
            "output_tokens": written,
            "cost_usd": cost,
            "error": _complaint(outcome, finding),
            "started_at": self._later(at, 20),
            "concluded_at": concluded,
        }

    def _artifact(self, number: int) -> dict[str, Any]:
        attempt = number * self.counts.attempts // self.counts.artifacts
        ticket = self._ticket_of(attempt, self.counts.attempts)
        pick = self._random("artifact", number)
        at = self._later(self._attempt_times(attempt)[1], pick.uniform(1, 30))
        base = self._base("artifact", number, at)
        kind, mime, name, (least, most) = _EVIDENCE[number % len(_EVIDENCE)]
        return {
            **base,
            "updated_at": at,
            "ticket_id": self._ticket_base(ticket)["id"],
            "fix_attempt_id": self._attempt_id(attempt),
            "kind": kind,
            "storage_uri": f"s3://lifeline-evidence/LIFE-{1000 + ticket}/{base['id'].hex[-6:]}-{name}",
            "mime_type": mime,
            "byte_size": pick.randint(least, most),
            "content_hash": hashlib.sha256(str(base["id"]).encode()).hexdigest(),
            "compliance_mode": ComplianceMode.STANDARD,
            "legal_hold": number % 40 == 7,
        }

    # --- spending -----------------------------------------------------------------------------------------------------

    def _spend(self, number: int) -> dict[str, Any]:
        """Return what an attempt cost, for every fifth entry, or what a run did: triage, embeddings, machines, storage."""
        per_attempt = self.counts.spend // self.counts.attempts
        paid = self._spend_of_attempt(number // per_attempt) if number % per_attempt == 0 else self._spend_of_run(number)
        at = paid.pop("at")
        base = self._base("spend", number, at)
        return {
            **base,
            "project_slug": LIFELINE,
            "kind": SpendKind.CHARGE if paid["amount_usd"] > 0 else SpendKind.CREDIT,
            "model": None,
            "input_tokens": None,
            "output_tokens": None,
            "run_id": None,
            "ticket_id": None,
            "fix_attempt_id": None,
            "details": {},
            **paid,
            "idempotency_key": f"demo:{self.counts.runs}:{base['id']}",
            "occurred_at": at,
        }

    def _spend_of_attempt(self, number: int) -> dict[str, Any]:
        given, written, cost = self._attempt_cost(number)
        return {
            "at": self._attempt_times(number)[1],
            "source": SpendSource.ANTHROPIC,
            "model": _MODEL,
            "amount_usd": cost,
            "input_tokens": given,
            "output_tokens": written,
            "ticket_id": self._ticket_base(self._ticket_of(number, self.counts.attempts))["id"],
            "fix_attempt_id": self._attempt_id(number),
            "details": {"purpose": "fix"},
        }

    def _spend_of_run(self, number: int) -> dict[str, Any]:
        pick, run = self._random("spend", number), self._run_of(number, self.counts.spend)
        _, started, finished = self._run_times(run)
        paid = {"at": self._later(started, pick.uniform(5, 1_200)), "run_id": self._run_id(run)}
        if number % 97 == 41:
            credit = -Decimal(pick.randint(20, 140) * 10_000).scaleb(-6)
            return {
                **paid,
                "source": SpendSource.ANTHROPIC,
                "amount_usd": credit,
                "details": {"reason": "Credit for an outage"},
            }
        source = pick.choices(
            (SpendSource.ANTHROPIC, SpendSource.EMBEDDING, SpendSource.COMPUTE, SpendSource.STORAGE), (9, 5, 2, 2)
        )[0]
        if source is SpendSource.ANTHROPIC:
            return {**paid, **_tokens(_TRIAGE_MODEL, pick.randint(9_000, 60_000), pick.randint(400, 3_000)), "source": source}
        if source is SpendSource.EMBEDDING:
            return {**paid, **_tokens(_EMBEDDER, pick.randint(20_000, 400_000), None), "source": source}
        if source is SpendSource.COMPUTE:
            minutes = max(1, round((finished - started).total_seconds() / 60))
            amount = (minutes * _PER_MINUTE).quantize(Decimal("0.000001"))
            return {**paid, "source": source, "amount_usd": amount, "details": {"machine": "linux-8-core", "minutes": minutes}}
        gigabytes = pick.randint(18, 64)
        amount = (gigabytes * _PER_GIGABYTE / 30).quantize(Decimal("0.000001"))
        at = self._start + timedelta(days=number * DAYS / self.counts.spend, seconds=pick.uniform(0, 60))
        return {"at": at, "source": source, "amount_usd": amount, "details": {"gigabytes": gigabytes}}

    # --- past fixes ---------------------------------------------------------------------------------------------------

    def _fix(self, number: int) -> dict[str, Any]:
        """Return what was learned from an attempt that was merged."""
        attempts = self.counts.attempts
        first = number * attempts // self.counts.fixes
        attempt = next((a for a in range(first, attempts) if self._outcome(a) is FixOutcome.MERGED), first)
        ticket = self._ticket_of(attempt, attempts)
        finding, pick = self._finding(ticket), self._random("fix", number)
        at = self._later(self._attempt_times(attempt)[1], pick.uniform(60, 7_200))
        used = pick.choices((0, pick.randint(1, 12)), (1, 3))[0]
        return {
            **self._base("fix", number, at),
            "updated_at": at,
            "ticket_id": self._ticket_base(ticket)["id"],
            "fix_attempt_id": self._attempt_id(attempt),
            "classification": finding.classification,
            "problem": filled(finding.title, details(self._random("details", ticket))),
            "fix_summary": f"{finding.summary} Held by {finding.test}.",
            "diff": finding.diff,
            "embedding": _near(finding, number),
            "embedding_model": _EMBEDDER,
            "token_count": len(finding.diff) // 4 + 40,
            "use_count": used,
            "last_used_at": self._later(at, 3_600 * pick.uniform(2, 300)) if used else None,
        }


def _severity(risk: float, pick: random.Random) -> Severity:
    """Return a severity that mostly follows the risk."""
    place = risk + pick.gauss(0, 0.1)
    return (
        Severity.CRITICAL
        if place > 0.85
        else Severity.HIGH
        if place > 0.6
        else Severity.MEDIUM
        if place > 0.25
        else Severity.LOW
    )


def _complaint(outcome: FixOutcome, finding: Finding) -> str | None:
    """Return why an attempt was not merged."""
    if outcome is FixOutcome.TIMED_OUT:
        return "No answer within 30 minutes: the suite was still running."
    if outcome is FixOutcome.REVERTED:
        return f"Reverted after an hour: {finding.test} fails on main."
    return finding.complaint if outcome in (FixOutcome.TESTS_FAILED, FixOutcome.REJECTED) else None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _tokens(model: str, given: int, written: int | None) -> dict[str, Any]:
    amount = _price(model, given, written or 0)
    return {"model": model, "amount_usd": amount, "input_tokens": given, "output_tokens": written}


def _price(model: str, given: int, written: int) -> Decimal:
    """Return a price in US dollars."""
    into, out_of = _PRICES[model]
    return ((given * into + written * out_of) / 1_000_000).quantize(Decimal("0.000001"))


def _near(finding: Finding, number: int) -> list[float]:
    """Return a vector close to that of its finding, and not far from its area: what embeddings of such texts look like."""
    noise = random.Random(f"{finding.classification}:{number}")  # noqa: S311  # a demo, not a secret
    return [place + 0.3 * noise.gauss(0, 1) for place in _centre(finding.classification, finding.title)]


@cache
def _centre(area: str, title: str) -> list[float]:
    """Return the vector of a finding."""
    of_area, own = random.Random(area), random.Random(title)  # noqa: S311
    return [of_area.gauss(0, 1) + 0.6 * own.gauss(0, 1) for _ in range(VECTOR_SIZE)]
