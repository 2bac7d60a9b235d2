"""Inputs of the published factories, with what the tests of repositories say of them; each field replaceable by a keyword."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from derwin_db.fields.vector import VECTOR_SIZE
from derwin_db.models import (
    ArtifactKind,
    AuditArtifactCreate,
    CriticalFlow,
    DiscoveryRoute,
    DocSource,
    DomainOntology,
    IngestedDocCreate,
    PolicyCreate,
    PolicyThresholds,
    ProjectProfileCreate,
    QARunCreate,
    QATicketCreate,
    RAGCorpusCreate,
    RawSignalCreate,
    SpendKind,
    SpendLedgerCreate,
    SpendSource,
)
from derwin_db.testing import factories

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def axis(*numbers: float) -> list[float]:
    """Return an embedding that begins with these numbers and is 0 from there on."""
    return [*numbers, *([0.0] * (VECTOR_SIZE - len(numbers)))]


def a_doc(content: str = "content", **given: Any) -> IngestedDocCreate:
    values = {
        "source": DocSource.URL,
        "source_uri": "https://docs.example/guide",
        "title": "Guide",
        "mime_type": "text/html",
        "byte_size": len(content),
        "content_hash": factories.digest(content),
    }
    return factories.doc(**{**values, **given})


def a_profile(**given: Any) -> ProjectProfileCreate:
    values: dict[str, Any] = {
        "summary": "An ERP",
        "domain_ontology": DomainOntology(invariants=["debits equal credits"]),
        "risk_weights": {"billing": 0.9},
        "critical_flows": [CriticalFlow(name="invoice", steps=["draft", "post"], risk=0.8)],
        "glossary": {"GL": "general ledger"},
    }
    return factories.profile(**{**values, **given})


def a_run(**given: Any) -> QARunCreate:
    return factories.run(**given)


def a_signal(fingerprint: str = "f", **given: Any) -> RawSignalCreate:
    values = {
        "route": DiscoveryRoute.E2E_CRAWL,
        "title": "Total is off",
        "fingerprint": fingerprint,
        "confidence": 0.5,
        "payload": {"line": 1},
        "observed_at": NOW,
    }
    return factories.signal(**{**values, **given})


def signals(*fingerprints: str) -> list[RawSignalCreate]:
    return [a_signal(fingerprint) for fingerprint in fingerprints]


def a_ticket(**given: Any) -> QATicketCreate:
    values = {
        "title": "Totals drift",
        "description": "The total of an invoice is off by a cent",
        "steps_to_reproduce": ["open", "post"],
        "classification": "ui_bug",
        "confidence": 0.5,
        "risk_score": 0.25,
    }
    return factories.ticket(**{**values, **given})


def a_fix(**given: Any) -> RAGCorpusCreate:
    values = {
        "embedding": None,
        "embedding_model": None,
        "token_count": 0,
        "classification": "ui_bug",
        "problem": "off by a cent",
        "fix_summary": "round once",
        "diff": "-a\n+b",
    }
    return factories.past_fix(**{**values, **given})


def an_artifact(**given: Any) -> AuditArtifactCreate:
    values = {
        "kind": ArtifactKind.LOG,
        "storage_uri": "s3://evidence/log.txt",
        "mime_type": "text/plain",
        "byte_size": 3,
        "content_hash": factories.digest("log"),
    }
    return factories.artifact(**{**values, **given})


def a_policy(**given: Any) -> PolicyCreate:
    values: dict[str, Any] = {
        "risk_tier_rules": [],
        "classification_overrides": {},
        "thresholds": PolicyThresholds(min_trust_for_auto_fix=0.8, min_confidence=0.5, max_attempts_per_ticket=3),
        "created_by": "ada",
    }
    return factories.policy(**{**values, **given})


def a_charge(key: str = "k", amount: str | Decimal = "1.5", **given: Any) -> SpendLedgerCreate:
    values = {
        "kind": SpendKind.CHARGE,
        "source": SpendSource.ANTHROPIC,
        "amount_usd": amount,
        "idempotency_key": key,
        "occurred_at": NOW,
    }
    return factories.spend(**{**values, **given})


def a_credit(key: str = "c", amount: str | Decimal = "-0.5", **given: Any) -> SpendLedgerCreate:
    return a_charge(key, amount, kind=SpendKind.CREDIT, **given)
