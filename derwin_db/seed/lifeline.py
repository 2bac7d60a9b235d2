"""Lifeline: the project that `make seed` leaves, an ERP in mode AUTHOR, with a profile and a policy. Idempotent."""

import contextlib
from decimal import Decimal

from derwin_db import repos
from derwin_db.database import Database
from derwin_db.errors import Conflict, NotFound
from derwin_db.fields.scalars import project_id_of
from derwin_db.models import (
    CriticalFlow,
    DomainOntology,
    OntologyEntity,
    OntologyRelation,
    PolicyCreate,
    PolicyThresholds,
    Project,
    ProjectCreate,
    ProjectProfileCreate,
    ProjectType,
    RiskTierRule,
)
from derwin_db.models.enums import Bucket, ProjectMode
from derwin_db.session import ProjectSession

LIFELINE = "lifeline"
_ACTOR = "seed"
PATIENCE = 20.0
"""How long a starter waits for another one that writes the same."""

PROFILE = ProjectProfileCreate(
    summary=(
        "Lifeline is an ERP for manufacturers of medical supplies: sales orders, procurement, stock in several warehouses, "
        "production batches with expiry dates, and a general ledger that auditors read. Wrong totals and lost batches are "
        "what hurts most."
    ),
    domain_ontology=DomainOntology(
        entities=[
            OntologyEntity(name="Sales Order", attributes=["number", "customer", "currency", "status", "total"]),
            OntologyEntity(name="Order Line", attributes=["product", "quantity", "unit price", "discount", "tax code"]),
            OntologyEntity(name="Purchase Order", attributes=["number", "supplier", "expected date", "status"]),
            OntologyEntity(name="Product", attributes=["sku", "unit of measure", "storage class", "standard cost"]),
            OntologyEntity(name="Batch", attributes=["lot number", "expiry date", "quantity", "warehouse"]),
            OntologyEntity(name="Warehouse", attributes=["code", "country", "temperature range"]),
            OntologyEntity(name="Invoice", attributes=["number", "due date", "net", "tax", "gross"]),
            OntologyEntity(name="Journal Entry", attributes=["account", "debit", "credit", "posting date"]),
        ],
        relations=[
            OntologyRelation(source="Sales Order", name="contains", target="Order Line"),
            OntologyRelation(source="Order Line", name="reserves", target="Batch"),
            OntologyRelation(source="Batch", name="is stored in", target="Warehouse"),
            OntologyRelation(source="Purchase Order", name="replenishes", target="Product"),
            OntologyRelation(source="Sales Order", name="is billed by", target="Invoice"),
            OntologyRelation(source="Invoice", name="is posted as", target="Journal Entry"),
        ],
        invariants=[
            "The debits of a journal entry equal its credits.",
            "The gross of an invoice is its net plus its tax, to the cent.",
            "The stock of a batch is never negative.",
            "An expired batch is never reserved.",
            "A posted journal entry is never changed.",
        ],
    ),
    risk_weights={
        "general_ledger": 1.0,
        "invoicing": 0.9,
        "stock": 0.8,
        "order_entry": 0.7,
        "procurement": 0.6,
        "reporting": 0.4,
        "user_settings": 0.1,
    },
    critical_flows=[
        CriticalFlow(
            name="Order to cash",
            steps=["Enter a sales order", "Reserve batches", "Ship", "Issue the invoice", "Post the payment"],
            risk=0.95,
            owner="Finance",
        ),
        CriticalFlow(
            name="Procure to pay",
            steps=["Request goods", "Approve the purchase order", "Receive into a batch", "Match the invoice", "Pay"],
            risk=0.8,
            owner="Procurement",
        ),
        CriticalFlow(
            name="Month end",
            steps=["Close sub-ledgers", "Run accruals", "Reconcile", "Lock the period", "Report"],
            risk=0.9,
            owner="Finance",
        ),
        CriticalFlow(
            name="Batch recall",
            steps=["Find the lot", "Block its stock", "List affected customers", "Notify"],
            risk=1.0,
            owner="Quality",
        ),
    ],
    glossary={
        "Accrual": "An expense that is booked in the period it belongs to, before its invoice arrives.",
        "Batch": "A quantity of one product that was made together and shares an expiry date.",
        "FEFO": "First expired, first out: the order in which batches are reserved.",
        "Lot number": "The maker's identification of a batch.",
        "Three-way match": "Purchase order, receipt and invoice agree before a payment is released.",
    },
)

POLICY = PolicyCreate(
    risk_tier_rules=[
        RiskTierRule(tier="low", min_risk=0.0, bucket=Bucket.AUTO_FIX, required_approvals=0),
        RiskTierRule(tier="elevated", min_risk=0.4, bucket=Bucket.ASSISTED_FIX, required_approvals=1),
        RiskTierRule(tier="high", min_risk=0.75, bucket=Bucket.HUMAN_ONLY, required_approvals=2),
    ],
    classification_overrides={"data_integrity": Bucket.HUMAN_ONLY, "security": Bucket.HUMAN_ONLY, "copy_text": Bucket.AUTO_FIX},
    thresholds=PolicyThresholds(
        min_trust_for_auto_fix=0.8, min_confidence=0.6, max_attempts_per_ticket=3, daily_spend_limit_usd=Decimal("25.00")
    ),
    created_by=_ACTOR,
    note="The default policy of a new project.",
)


async def seed_lifeline(db: Database) -> Project:
    """Leave the project `lifeline` (type ERP, mode AUTHOR) with a profile, a policy and the logs of both. Idempotent.

    Several starters at once leave one of each: the first locks the project's row, the others wait and find what it left.
    """
    async with db.admin(reason="seed Lifeline") as admin:
        is_there = await repos.projects.exists(admin, project_id_of(LIFELINE))
    if not is_there:
        with contextlib.suppress(Conflict):  # somebody was faster
            async with db.admin(reason="seed Lifeline") as admin:
                await repos.projects.create(admin, ProjectCreate(slug=LIFELINE, name="Lifeline", type=ProjectType.ERP))
    return await db.run(LIFELINE, _complete)


async def _complete(session: ProjectSession) -> Project:
    """Write what is missing. The mode comes first: changing it locks the project's row, also where it is that already."""
    await session.wait_for_locks(PATIENCE)
    reason = "The first weeks of triage were right: fixes may be written for people to review"
    project = await repos.projects.set_mode(session, ProjectMode.AUTHOR, actor=_ACTOR, reason=reason)
    try:
        await repos.project_profiles.current(session)
    except NotFound:
        await repos.project_profiles.create(session, PROFILE, actor=_ACTOR, reason="What the documents of Lifeline say")
    try:
        await repos.policies.active(session)
    except NotFound:
        await repos.policies.activate(session, POLICY)
    return project
