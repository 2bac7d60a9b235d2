"""How the profile of Lifeline changed in the demo: what a document, the platform and people did to it."""

from derwin_db import repos
from derwin_db.models import CriticalFlow, ProfileChange, ProjectProfileUpdate
from derwin_db.seed.lifeline import PATIENCE, PROFILE
from derwin_db.session import ProjectSession

_RETURNS = CriticalFlow(
    name="Customer return",
    steps=["Register the return", "Inspect the batch", "Restock or scrap", "Issue the credit note"],
    risk=0.7,
    owner="Sales",
)
_CHANGES = (
    (
        ProjectProfileUpdate(
            critical_flows=[*PROFILE.critical_flows, _RETURNS],
            glossary={**PROFILE.glossary, "Credit note": "A document that takes back an invoice, or a part of it."},
        ),
        ProfileChange.DOC_INGESTED,
        "ingest",
        "The handbook of returns describes a flow that was not known",
    ),
    (
        ProjectProfileUpdate(risk_weights={**PROFILE.risk_weights, "stock": 0.9, "reporting": 0.3}),
        ProfileChange.LEARNED,
        "learning",
        "Findings in stock cost more than was thought, those in reports less",
    ),
    (
        ProjectProfileUpdate(summary=PROFILE.summary + " Returns are the next that hurts."),
        ProfileChange.HUMAN_EDIT,
        "ada",
        "What support hears most",
    ),
)


async def learn(session: ProjectSession) -> None:
    """Change the profile a few times, and take the last change back. Only where it is as `seed_lifeline` left it.

    Errors:
        StaleWrite where another starter does the same.
    """
    await session.wait_for_locks(PATIENCE)
    profile = await repos.project_profiles.current(session)
    if profile.version > 1:
        return
    for data, change, actor, reason in _CHANGES:
        profile = await repos.project_profiles.evolve(
            session, data, change=change, actor=actor, reason=reason, expected_version=profile.version
        )
    await repos.project_profiles.roll_back(
        session, profile.version - 1, actor="ada", reason="Too soon to say", expected_version=profile.version
    )
