"""Valid inputs for all models, and rows of all 14, with what a test does not care about filled in.

    ticket(severity="LOW")                          # a QATicketCreate
    await create_ticket(session, severity="LOW")    # a QATicket

Deterministic: no clock, no randomness. What has to be unique counts up, from 1 in each test that pytest runs. Names that a
model does not have are refused.
"""

from derwin_db.testing.factories.inputs import (
    MOMENT,
    artifact,
    digest,
    doc,
    fix_attempt,
    past_fix,
    policy,
    profile,
    project,
    reset,
    run,
    signal,
    spend,
    ticket,
    vector,
)
from derwin_db.testing.factories.own import create_own, own
from derwin_db.testing.factories.rows import (
    create_artifact,
    create_doc,
    create_fix_attempt,
    create_mode_log,
    create_past_fix,
    create_policy,
    create_profile,
    create_profile_log,
    create_project,
    create_run,
    create_signal,
    create_spend,
    create_ticket,
    create_trust,
)

__all__ = [
    "MOMENT",
    "artifact",
    "create_artifact",
    "create_doc",
    "create_fix_attempt",
    "create_mode_log",
    "create_own",
    "create_past_fix",
    "create_policy",
    "create_profile",
    "create_profile_log",
    "create_project",
    "create_run",
    "create_signal",
    "create_spend",
    "create_ticket",
    "create_trust",
    "digest",
    "doc",
    "fix_attempt",
    "own",
    "past_fix",
    "policy",
    "profile",
    "project",
    "reset",
    "run",
    "signal",
    "spend",
    "ticket",
    "vector",
]
