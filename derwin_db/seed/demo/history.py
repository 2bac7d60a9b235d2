"""The rows of the demo history, one generator a table: deterministic, in constant memory at any scale."""

import hashlib
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
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
from derwin_db.seed.demo.phrases import AREAS, MERGE_RATE, PLACES, ROUTES
from derwin_db.seed.lifeline import LIFELINE

DAYS = 60
_PROJECT = project_id_of(LIFELINE)
TARGET_URL = "https://staging.lifeline.example/"
"""Where the runs of the history looked: by this they are known."""

_MODEL = "claude-sonnet-4-5"


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
    """The rows, one generator a table, each from a random source of its own: constant memory at any scale."""

    def __init__(self, counts: DemoCounts, midnight: datetime) -> None:
        self.counts = counts
        self._start = midnight - timedelta(days=DAYS)

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

    def _when(self, number: int, count: int) -> datetime:
        """Spread the rows evenly over the days, with more of them in working hours."""
        share = number / max(count, 1)
        day, rest = divmod(share * DAYS, 1)
        return self._start + timedelta(days=day, hours=6 + 12 * rest, seconds=number % 3600)

    def _id(self, kind: str, number: int, at: datetime) -> UUID:
        """Return a UUIDv7 of that time whose random part comes from its name."""
        random_part = int.from_bytes(hashlib.sha256(f"{kind}:{self.counts.runs}:{number}".encode()).digest()[:10], "big")
        value = (int(at.timestamp() * 1000) << 80) | (0x7 << 76) | (random_part & ((1 << 76) - 1))
        return UUID(int=(value & ~(0x3 << 62)) | (0x2 << 62))

    def _base(self, kind: str, number: int, count: int) -> dict[str, Any]:
        at = self._when(number, count)
        return {"project_id": _PROJECT, "id": self._id(kind, number, at), "created_at": at}

    def _random(self, kind: str, number: int) -> random.Random:
        return random.Random(f"{kind}:{number}")  # noqa: S311  # a demo, not a secret

    def _area(self, number: int) -> str:
        return self._random("area", number).choice(list(AREAS))

    def _run(self, number: int) -> dict[str, Any]:
        base = self._base("run", number, self.counts.runs)
        pick = self._random("run", number)
        status = pick.choices((RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED), (12, 1, 1))[0]
        started = base["created_at"] + timedelta(seconds=pick.randint(2, 90))
        finished = started + timedelta(minutes=pick.lognormvariate(3, 0.5))
        share = self.counts.signals // self.counts.runs
        stats = RunStats(signals=share, duplicates=pick.randint(0, share // 4), tickets=self.counts.tickets // self.counts.runs)
        return {
            **base,
            "updated_at": finished,
            "trigger": pick.choice(list(RunTrigger)),
            "routes": sorted(pick.sample(list(DiscoveryRoute), 4)),
            "target_url": TARGET_URL,
            "commit_sha": f"{pick.getrandbits(160):040x}",
            "status": status,
            "mode": ProjectMode.AUTHOR if number > self.counts.runs // 3 else ProjectMode.TRIAGE,
            "claimed_by": f"worker-{number % 3}",
            "heartbeat_at": finished,
            "started_at": started,
            "finished_at": finished,
            "stats": stats if status is RunStatus.COMPLETED else RunStats(),
            "error": "The staging system did not answer." if status is RunStatus.FAILED else None,
        }

    def _run_of(self, number: int, count: int) -> dict[str, Any]:
        return self._base("run", number * self.counts.runs // count, self.counts.runs)

    def _ticket(self, number: int) -> dict[str, Any]:
        counts = self.counts
        base = self._base("ticket", number, counts.tickets)
        pick = self._random("ticket", number)
        area = self._area(number)
        place = pick.choice(PLACES)
        title = f"{place}: {AREAS[area][number // len(AREAS) % 2]}"
        is_old = number < counts.tickets * 3 // 4
        statuses = (TicketStatus.RESOLVED, TicketStatus.REJECTED, TicketStatus.WONT_FIX) if is_old else tuple(TicketStatus)[:4]
        status = pick.choices(statuses, (8, 1, 1) if is_old else (4, 3, 2, 2))[0]
        risk = round(min(1.0, max(0.0, pick.gauss(0.5, 0.2))), 3)
        bucket = Bucket.AUTO_FIX if risk < 0.4 else Bucket.ASSISTED_FIX if risk < 0.75 else Bucket.HUMAN_ONLY
        changed = base["created_at"] + timedelta(hours=pick.uniform(1, 40))
        return {
            **base,
            "updated_at": changed,
            "run_id": self._run_of(number, counts.tickets)["id"],
            "title": title,
            "description": f"Seen in {place.lower()} during a discovery pass. {title}.",
            "steps_to_reproduce": ["Sign in as a clerk", f"Open {place.lower()}", "Repeat what the trace shows"],
            "expected": "The figures agree and the action completes.",
            "actual": AREAS[area][number // len(AREAS) % 2],
            "severity": pick.choices(list(Severity), (1, 3, 5, 3))[0],
            "classification": area,
            "status": status,
            "initial_bucket": bucket,
            "final_bucket": bucket if pick.random() < 0.85 else Bucket.NEEDS_INFO,
            "confidence": round(pick.betavariate(6, 2), 3),
            "risk_score": risk,
            "fingerprint": f"{area}:{number}",
            "external_ref": f"LIFE-{1000 + number}",
            "resolved_at": changed if status is TicketStatus.RESOLVED else None,
        }

    def _ticket_of(self, number: int, count: int) -> tuple[int, dict[str, Any]]:
        ticket = number * self.counts.tickets // count
        return ticket, self._base("ticket", ticket, self.counts.tickets)

    def _signal(self, number: int) -> dict[str, Any]:
        counts = self.counts
        base = self._base("signal", number, counts.signals)
        pick = self._random("signal", number)
        ticket_number, ticket = self._ticket_of(number, counts.signals)
        area = self._area(ticket_number)
        status = pick.choices((SignalStatus.TRIAGED, SignalStatus.DISCARDED, SignalStatus.NEW), (7, 2, 1))[0]
        return {
            **base,
            "updated_at": base["created_at"],
            "run_id": self._run_of(number, counts.signals)["id"],
            "route": ROUTES[area],
            "title": f"{pick.choice(PLACES)}: {AREAS[area][number % 2]}",
            "fingerprint": f"{area}:{ticket_number}:{number}",
            "severity_hint": pick.choice([*Severity, None]),
            "confidence": round(pick.betavariate(5, 2), 3),
            "status": status,
            "ticket_id": ticket["id"] if status is SignalStatus.TRIAGED else None,
            "payload": {"screen": pick.choice(PLACES), "step": pick.randint(1, 9), "console_errors": pick.randint(0, 3)},
            "observed_at": base["created_at"],
        }

    def _attempt(self, number: int) -> dict[str, Any]:
        counts = self.counts
        base = self._base("attempt", number, counts.attempts)
        pick = self._random("attempt", number)
        ticket_number, ticket = self._ticket_of(number, counts.attempts)
        area = self._area(ticket_number)
        failures = (FixOutcome.TESTS_FAILED, FixOutcome.REJECTED, FixOutcome.REVERTED, FixOutcome.TIMED_OUT)
        outcome = FixOutcome.MERGED if pick.random() < MERGE_RATE.get(area, 0.35) else pick.choices(failures, (5, 3, 1, 1))[0]
        concluded = base["created_at"] + timedelta(minutes=pick.uniform(3, 40))
        tokens = pick.randint(8_000, 90_000), pick.randint(500, 9_000)
        return {
            **base,
            "updated_at": concluded,
            "ticket_id": ticket["id"],
            "attempt_no": 1 + number - math.ceil(ticket_number * counts.attempts / counts.tickets),
            "status": FixStatus.SUCCEEDED if outcome is FixOutcome.MERGED else FixStatus.FAILED,
            "outcome": outcome,
            "model": _MODEL,
            "branch": f"fix/life-{1000 + ticket_number}",
            "pr_url": f"https://git.lifeline.example/erp/pull/{2000 + number}",
            "diff_stat": DiffStat(files=pick.randint(1, 6), insertions=pick.randint(2, 120), deletions=pick.randint(0, 60)),
            "input_tokens": tokens[0],
            "output_tokens": tokens[1],
            "cost_usd": _price(*tokens),
            "error": "Three tests of the billing suite fail." if outcome is FixOutcome.TESTS_FAILED else None,
            "started_at": base["created_at"] + timedelta(seconds=20),
            "concluded_at": concluded,
        }

    def _attempt_of(self, number: int, count: int) -> dict[str, Any]:
        return self._attempt(number * self.counts.attempts // count)

    def _artifact(self, number: int) -> dict[str, Any]:
        base = self._base("artifact", number, self.counts.artifacts)
        pick = self._random("artifact", number)
        attempt = self._attempt_of(number, self.counts.artifacts)
        kind = pick.choice(
            (ArtifactKind.SCREENSHOT, ArtifactKind.TRACE, ArtifactKind.DIFF, ArtifactKind.PROMPT, ArtifactKind.LOG)
        )
        mime = {ArtifactKind.SCREENSHOT: "image/png", ArtifactKind.TRACE: "application/zip"}.get(kind, "text/plain")
        return {
            **base,
            "updated_at": base["created_at"],
            "ticket_id": attempt["ticket_id"],
            "fix_attempt_id": attempt["id"],
            "kind": kind,
            "storage_uri": f"s3://lifeline-evidence/{base['id']}",
            "mime_type": mime,
            "byte_size": pick.randint(2_000, 900_000),
            "content_hash": hashlib.sha256(str(base["id"]).encode()).hexdigest(),
            "compliance_mode": ComplianceMode.STANDARD,
            "legal_hold": number % 40 == 7,
        }

    def _spend(self, number: int) -> dict[str, Any]:
        base = self._base("spend", number, self.counts.spend)
        pick = self._random("spend", number)
        source = pick.choices(list(SpendSource), (12, 4, 1, 3, 1))[0]
        is_model = source in (SpendSource.ANTHROPIC, SpendSource.EMBEDDING)
        tokens = (pick.randint(2_000, 90_000), pick.randint(100, 9_000)) if is_model else (None, None)
        amount = _price(*tokens) if source is SpendSource.ANTHROPIC else Decimal(pick.randint(1_000, 400_000)).scaleb(-6)
        is_credit = number % 97 == 41
        return {
            **base,
            "project_slug": LIFELINE,
            "kind": SpendKind.CREDIT if is_credit else SpendKind.CHARGE,
            "source": source,
            "model": {SpendSource.ANTHROPIC: _MODEL, SpendSource.EMBEDDING: "text-embedding-3-small"}.get(source),
            "amount_usd": -amount if is_credit else amount,
            "input_tokens": tokens[0],
            "output_tokens": tokens[1] if source is SpendSource.ANTHROPIC else None,
            "fix_attempt_id": self._attempt_of(number, self.counts.spend)["id"] if source is SpendSource.ANTHROPIC else None,
            "idempotency_key": f"demo:{self.counts.runs}:{base['id']}",
            "occurred_at": base["created_at"],
            "details": {},
        }

    def _fix(self, number: int) -> dict[str, Any]:
        base = self._base("fix", number, self.counts.fixes)
        pick = self._random("fix", number)
        area = self._area(number)
        problem = AREAS[area][number // len(AREAS) % 2]
        return {
            **base,
            "updated_at": base["created_at"],
            "classification": area,
            "problem": problem,
            "fix_summary": f"{pick.choice(PLACES)}: {problem.lower()} no longer happens; a test holds it.",
            "diff": f"--- a/{area}.py\n+++ b/{area}.py\n@@ -{number} +1 @@\n-return total\n+return round(total, 2)\n",
            "embedding": _near(area, number),
            "embedding_model": "text-embedding-3-small",
            "token_count": pick.randint(80, 900),
            "use_count": pick.randint(0, 30),
        }


def _price(input_tokens: int | None, output_tokens: int | None) -> Decimal:
    """Return a price in US dollars: 3 for a million tokens in, 15 for a million out."""
    return Decimal((input_tokens or 0) * 3 + (output_tokens or 0) * 15).scaleb(-6)


def _near(area: str, number: int) -> list[float]:
    """Return a vector close to the centre of its area: what embeddings of similar texts look like."""
    centre = random.Random(area)  # noqa: S311  # a demo, not a secret
    noise = random.Random(f"{area}:{number}")  # noqa: S311
    return [centre.gauss(0, 1) + 0.35 * noise.gauss(0, 1) for _ in range(VECTOR_SIZE)]
