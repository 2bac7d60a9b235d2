"""Valid inputs, one function for each XCreate. Keywords replace what it fills in; names the model does not have are refused."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, TypeVar

from derwin_db.fields.vector import VECTOR_SIZE
from derwin_db.models import (
    ArtifactKind,
    AuditArtifactCreate,
    CriticalFlow,
    DocSource,
    DomainOntology,
    IngestedDocCreate,
    OntologyEntity,
    PolicyCreate,
    PolicyThresholds,
    ProjectCreate,
    ProjectProfileCreate,
    ProjectType,
    QAFixAttemptCreate,
    QARunCreate,
    QATicketCreate,
    RAGCorpusCreate,
    RawSignalCreate,
    RiskTierRule,
    RunTrigger,
    SpendKind,
    SpendLedgerCreate,
    SpendSource,
)
from derwin_db.models.enums import Bucket, DiscoveryRoute, Severity

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
"""When everything happens that a factory dates; the n-th a minute later each."""

ACTOR = "tester"

Data = TypeVar("Data")

_numbers: dict[str, "count[int]"] = {}


def reset() -> None:
    """Count from 1 again."""
    _numbers.clear()


def number(name: str) -> int:
    """Return the next number of this name: 1, 2, ..."""
    return next(_numbers.setdefault(name, count(1)))


def digest(text: str) -> str:
    """Return the SHA-256 digest of the text, as a content hash."""
    return hashlib.sha256(text.encode()).hexdigest()


def vector(n: int) -> list[float]:
    """Return the n-th of 1,536 directions that are at right angles to each other: their similarity is 0, with itself 1."""
    return [float(position == n % VECTOR_SIZE) for position in range(VECTOR_SIZE)]


def _filled(kind: Callable[..., Data], overrides: dict[str, Any], /, **defaults: Any) -> Data:
    return kind(**{**defaults, **overrides})


# --- inputs -----------------------------------------------------------------------------------------------------------


def project(**overrides: Any) -> ProjectCreate:
    """Input of `repos.projects.create`: slugs project-1, project-2, ..."""
    slug = overrides.get("slug") or f"project-{number('project')}"
    return _filled(ProjectCreate, overrides, slug=slug, name=f"Project {slug}", type=ProjectType.ERP)


def profile(**overrides: Any) -> ProjectProfileCreate:
    """Input of `repos.project_profiles.create`."""
    return _filled(
        ProjectProfileCreate,
        overrides,
        summary="An ERP for a wholesaler.",
        domain_ontology=DomainOntology(entities=[OntologyEntity(name="Invoice", attributes=["number", "total"])]),
        risk_weights={"calculation": 0.9},
        critical_flows=[CriticalFlow(name="Order to cash", steps=["Order", "Deliver", "Invoice"], risk=0.9)],
        glossary={"SKU": "Stock keeping unit"},
    )


def doc(**overrides: Any) -> IngestedDocCreate:
    """Input of `repos.ingested_docs.ingest`; each has a content of its own."""
    n = number("doc")
    return _filled(
        IngestedDocCreate,
        overrides,
        source=DocSource.UPLOAD,
        source_uri=f"https://docs.example.com/{n}.md",
        title=f"Document {n}",
        mime_type="text/markdown",
        byte_size=1000,
        content_hash=digest(f"doc {n}"),
    )


def run(**overrides: Any) -> QARunCreate:
    """Input of `repos.qa_runs.enqueue`."""
    return _filled(QARunCreate, overrides, trigger=RunTrigger.MANUAL, routes=[DiscoveryRoute.E2E_CRAWL])


def signal(**overrides: Any) -> RawSignalCreate:
    """Input of `repos.raw_signals.ingest`; each has a fingerprint of its own."""
    n = number("signal")
    return _filled(
        RawSignalCreate,
        overrides,
        route=DiscoveryRoute.E2E_CRAWL,
        title=f"Signal {n}",
        fingerprint=f"signal-{n}",
        confidence=0.8,
        payload={"page": "/orders"},
        observed_at=MOMENT + timedelta(minutes=n),
    )


def ticket(**overrides: Any) -> QATicketCreate:
    """Input of `repos.qa_tickets.create`."""
    return _filled(
        QATicketCreate,
        overrides,
        title=f"Ticket {number('ticket')}",
        description="The sum of an order with two tax codes is a cent too low.",
        steps_to_reproduce=["Enter an order with two tax codes", "Compare the total with the lines"],
        severity=Severity.HIGH,
        classification="calculation",
        confidence=0.9,
        risk_score=0.4,
    )


def fix_attempt(**overrides: Any) -> QAFixAttemptCreate:
    """What `repos.qa_fix_attempts.dispatch` takes as keywords: `**fix_attempt().model_dump()`."""
    return _filled(QAFixAttemptCreate, overrides, model="claude-sonnet-4-5")


def past_fix(**overrides: Any) -> RAGCorpusCreate:
    """Input of `repos.rag_corpus.add`, with an embedding at right angles to those of the others."""
    return _filled(
        RAGCorpusCreate,
        overrides,
        classification="calculation",
        problem="Totals drift by a cent with mixed tax codes.",
        fix_summary="Round each line, then add.",
        diff="- total = round(sum(lines))\n+ total = sum(map(round, lines))\n",
        embedding=vector(number("past_fix")),
        embedding_model="text-embedding-3-small",
        token_count=400,
    )


def artifact(**overrides: Any) -> AuditArtifactCreate:
    """Input of `repos.audit_artifacts.record`."""
    n = number("artifact")
    return _filled(
        AuditArtifactCreate,
        overrides,
        kind=ArtifactKind.SCREENSHOT,
        storage_uri=f"s3://evidence/{n}.png",
        mime_type="image/png",
        byte_size=1000,
        content_hash=digest(f"artifact {n}"),
    )


def policy(**overrides: Any) -> PolicyCreate:
    """Input of `repos.policies.activate`."""
    return _filled(
        PolicyCreate,
        overrides,
        risk_tier_rules=[RiskTierRule(tier="high", min_risk=0.7, bucket=Bucket.HUMAN_ONLY, required_approvals=1)],
        classification_overrides={"copy_text": Bucket.AUTO_FIX},
        thresholds=PolicyThresholds(min_trust_for_auto_fix=0.8, min_confidence=0.5, max_attempts_per_ticket=3),
        created_by=ACTOR,
    )


def spend(**overrides: Any) -> SpendLedgerCreate:
    """Input of `repos.spend_ledger.append`: a dollar; each has an idempotency key of its own."""
    n = number("spend")
    return _filled(
        SpendLedgerCreate,
        overrides,
        kind=SpendKind.CHARGE,
        source=SpendSource.ANTHROPIC,
        amount_usd=Decimal(1),
        idempotency_key=f"spend-{n}",
        occurred_at=MOMENT + timedelta(minutes=n),
    )
