"""How the profile of Lifeline changed in the demo: what a document, the platform and people did to it."""

import hashlib
from uuid import UUID

from derwin_db import repos
from derwin_db.models import CriticalFlow, DocSource, DocStatus, IngestedDocCreate, ProfileChange, ProjectProfileUpdate
from derwin_db.seed.lifeline import PATIENCE, PROFILE
from derwin_db.session import ProjectSession

_RETURNS = CriticalFlow(
    name="Customer return",
    steps=["Register the return", "Inspect the batch", "Restock or scrap", "Issue the credit note"],
    risk=0.7,
    owner="Sales",
)
_DOCUMENTS = (
    ("Returns handbook", DocSource.DOCUMENT_ADAPTER, "https://wiki.lifeline.example/handbook/returns", "text/html", 48_213),
    ("Chart of accounts 2026", DocSource.UPLOAD, "s3://lifeline-docs/chart-of-accounts-2026.pdf", "application/pdf", 612_904),
    (
        "erp: docs/architecture.md",
        DocSource.REPOSITORY,
        "https://git.lifeline.example/erp/docs/architecture.md",
        "text/markdown",
        21_447,
    ),
    ("Release notes 26.10", DocSource.URL, "https://lifeline.example/releases/26.10", "text/html", 9_880),
)
"""Title, source, address, MIME type and size."""

_CHANGES = (
    (
        ProjectProfileUpdate(
            critical_flows=[*PROFILE.critical_flows, _RETURNS],
            glossary={**PROFILE.glossary, "Credit note": "A document that takes back an invoice, or a part of it."},
        ),
        ProfileChange.DOC_INGESTED,
        "ingest-worker",
        "The handbook of returns describes a flow that was not known",
    ),
    (
        ProjectProfileUpdate(risk_weights={**PROFILE.risk_weights, "stock": 0.9, "reporting": 0.3}),
        ProfileChange.LEARNED,
        "trust-learner",
        "Findings in stock cost more than was thought, those in reports less",
    ),
    (
        ProjectProfileUpdate(summary=PROFILE.summary + " Returns are the next that hurts."),
        ProfileChange.HUMAN_EDIT,
        "ada.okafor",
        "What support hears most",
    ),
)


async def take_in(session: ProjectSession) -> UUID:
    """Take the documents in, and return the id of the one that the profile learns from. Idempotent."""
    await session.wait_for_locks(PATIENCE)
    found = []
    for title, source, uri, mime, size in _DOCUMENTS:
        digest = hashlib.sha256(uri.encode()).hexdigest()
        data = IngestedDocCreate(
            source=source, source_uri=uri, title=title, mime_type=mime, byte_size=size, content_hash=digest, details={}
        )
        found.append(await repos.ingested_docs.ingest(session, data))
    for doc in found[:-1]:  # the last one waits for its turn
        if doc.status is not DocStatus.PROCESSED:
            await repos.ingested_docs.mark_processed(session, doc.id)
    return found[0].id


async def learn(session: ProjectSession, handbook: UUID) -> None:
    """Change the profile a few times, and take the last change back. Only where it is as `seed_lifeline` left it.

    Errors:
        StaleWrite where another starter does the same.
    """
    await session.wait_for_locks(PATIENCE)
    profile = await repos.project_profiles.current(session)
    if profile.version > 1:
        return
    for data, change, actor, reason in _CHANGES:
        doc_id = handbook if change is ProfileChange.DOC_INGESTED else None
        profile = await repos.project_profiles.evolve(
            session, data, change=change, actor=actor, reason=reason, expected_version=profile.version, doc_id=doc_id
        )
    await repos.project_profiles.roll_back(
        session, profile.version - 1, actor="ada.okafor", reason="Too soon to say", expected_version=profile.version
    )
