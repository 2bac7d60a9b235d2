"""Every verb of every repository, ready to be called: what it costs in statements, and what its plans are, is told by others.

Reads that all repositories share are generated from their signatures and filters. What a verb of one table needs is said
here, once; `test_statement_counts.py` fails as long as a public method is missing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from derwin_db import repos
from derwin_db.models import (
    Bucket,
    FixOutcome,
    IngestedDocUpdate,
    ProfileChange,
    ProjectMode,
    ProjectProfileUpdate,
    ProjectUpdate,
    QATicketUpdate,
    RAGCorpusUpdate,
    RunStats,
    SpendCap,
    TicketStatus,
)
from tests.repos.evidence import expired
from tests.repos.rows import (
    a_charge,
    a_doc,
    a_fix,
    a_policy,
    a_profile,
    a_run,
    a_ticket,
    an_artifact,
    axis,
    signals,
)
from tests.repos.rules.test_trust import attempt, concluded
from tests.repos.test_projects import a_project

READS = frozenset(
    {
        "projects.current",
        "projects.get_by_slug",
        "project_profiles.current",
        "project_profiles.at_version",
        "profile_evolution_logs.list_brief",
        "rag_corpus.list_brief",
        "qa_runs.statistics",
        "rag_corpus.search",
        "raw_signals.pending",
        "raw_signals.list_brief",
        "raw_signals.of_tickets",
        "qa_tickets.list_brief",
        "qa_tickets.search",
        "qa_fix_attempts.latest_of_tickets",
        "audit_artifacts.of_tickets",
        "qa_tickets.find_by_fingerprint",
        "qa_tickets.counts_by_status",
        "classification_trust.for_classification",
        "audit_artifacts.expired",
        "policies.active",
        "spend_ledger.total",
        "spend_ledger.totals_by",
    }
)
"""Verbs beside the shared reads that change nothing, and lock nothing."""

WHO = {"actor": "ada", "reason": "a test"}
SINCE, UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
CAP = SpendCap(Decimal(1000), timedelta(days=1))

Prepare = Callable[[Any], Awaitable[Any]]


async def _nothing(_: Any) -> None:
    return None


@dataclass(frozen=True)
class Call:
    """One way to call one verb: `run(session, made)` in a unit of its own, after `made = prepare(session)` in another one.

    `statements` is what `run` sends, beside begin and commit. A verb that only reads begins no transaction.
    """

    verb: str
    statements: int
    run: Callable[[Any, Any], Awaitable[Any]]
    prepare: Prepare = _nothing
    case: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.case}".strip()

    @property
    def reads(self) -> bool:
        """Whether the verb only reads."""
        return self.verb in READS


async def run_of(session: Any) -> Any:
    return await repos.qa_runs.enqueue(session, a_run())


async def claimed(session: Any) -> Any:
    await run_of(session)
    return await repos.qa_runs.claim(session, "w")


async def signal_of(session: Any) -> Any:
    run = await run_of(session)
    await repos.raw_signals.ingest(session, run.id, signals("a"))
    return (await repos.raw_signals.pending(session, run.id))[0]


async def ticket_of(session: Any) -> Any:
    return await repos.qa_tickets.create(session, a_ticket(fingerprint="f"))


async def two_tickets(session: Any) -> Any:
    return await ticket_of(session), await ticket_of(session)


async def signal_and_ticket(session: Any) -> Any:
    return await signal_of(session), await ticket_of(session)


async def dispatched(session: Any) -> Any:
    return await repos.qa_fix_attempts.dispatch(session, (await ticket_of(session)).id, model="m")


async def doc_of(session: Any) -> Any:
    return await repos.ingested_docs.ingest(session, a_doc())


async def two_docs(session: Any) -> Any:
    return await doc_of(session), await repos.ingested_docs.ingest(session, a_doc("newer"))


async def profile_of(session: Any) -> Any:
    await repos.project_profiles.create(session, a_profile(), **WHO)
    change = {"change": ProfileChange.LEARNED, "expected_version": 1, **WHO}
    return await repos.project_profiles.evolve(session, ProjectProfileUpdate(summary="2"), **change)


async def entry_of(session: Any) -> Any:
    return await repos.rag_corpus.add(session, a_fix(embedding=axis(1.0)))


async def artifact_of(session: Any) -> Any:
    return await repos.audit_artifacts.record(session, an_artifact())


async def charge_of(session: Any) -> Any:
    return await repos.spend_ledger.append(session, a_charge())


async def merged(session: Any) -> Any:
    return await concluded(session, FixOutcome.MERGED)


async def policy_of(session: Any) -> Any:
    return await repos.policies.activate(session, a_policy())


async def three_expired(session: Any) -> Any:
    return await expired(session, 3)


def _evolve(session: Any, version: int, summary: str) -> Awaitable[Any]:
    change = {"change": ProfileChange.LEARNED, "expected_version": version, **WHO}
    return repos.project_profiles.evolve(session, ProjectProfileUpdate(summary=summary), **change)


async def _two_pages_of_found(session: Any, text: str) -> Any:
    page = await repos.qa_tickets.search(session, text, limit=1)
    return await repos.qa_tickets.search(session, text, limit=1, cursor=page.next_cursor)


def _reclassify(session: Any, id: UUID) -> Awaitable[Any]:
    return repos.qa_tickets.update(session, id, QATicketUpdate(classification="other"))


PROJECT_CALLS = (
    Call("projects.current", 1, lambda s, _: repos.projects.current(s)),
    Call("projects.get_by_slug", 1, lambda s, row: repos.projects.get_by_slug(s, row.slug), repos.projects.current),
    Call("projects.set_mode", 3, lambda s, _: repos.projects.set_mode(s, ProjectMode.AUTHOR, **WHO)),
    Call("projects.set_mode", 1, lambda s, _: repos.projects.set_mode(s, ProjectMode.OBSERVE, **WHO), case="unchanged"),
    Call("project_profiles.create", 2, lambda s, _: repos.project_profiles.create(s, a_profile(), **WHO)),
    Call("project_profiles.current", 1, lambda s, _: repos.project_profiles.current(s), profile_of),
    Call("project_profiles.evolve", 3, lambda s, _: _evolve(s, 2, "3"), profile_of),
    Call("project_profiles.evolve", 1, lambda s, _: _evolve(s, 2, "2"), profile_of, "unchanged"),
    Call(
        "project_profiles.roll_back",
        5,
        lambda s, _: repos.project_profiles.roll_back(s, 1, expected_version=2, **WHO),
        profile_of,
    ),
    Call("project_profiles.at_version", 2, lambda s, _: repos.project_profiles.at_version(s, 1), profile_of),
    Call("ingested_docs.ingest", 1, lambda s, _: repos.ingested_docs.ingest(s, a_doc())),
    Call("ingested_docs.ingest", 2, lambda s, _: repos.ingested_docs.ingest(s, a_doc()), doc_of, "known"),
    Call("ingested_docs.update", 1, lambda s, doc: repos.ingested_docs.update(s, doc.id, IngestedDocUpdate(title="x")), doc_of),
    Call(
        "ingested_docs.update_many",
        1,
        lambda s, _: repos.ingested_docs.update_many(s, IngestedDocUpdate(title="x"), status="PENDING"),
        doc_of,
    ),
    Call("ingested_docs.delete", 2, lambda s, doc: repos.ingested_docs.delete(s, doc.id), doc_of),
    Call("ingested_docs.mark_processed", 1, lambda s, doc: repos.ingested_docs.mark_processed(s, doc.id), doc_of),
    Call("ingested_docs.mark_failed", 1, lambda s, doc: repos.ingested_docs.mark_failed(s, doc.id, "no"), doc_of),
    Call("ingested_docs.supersede", 2, lambda s, docs: repos.ingested_docs.supersede(s, docs[0].id, docs[1].id), two_docs),
    Call("qa_runs.enqueue", 1, lambda s, _: repos.qa_runs.enqueue(s, a_run())),
    Call("qa_runs.claim", 1, lambda s, _: repos.qa_runs.claim(s, "w"), run_of),
    Call("qa_runs.claim", 1, lambda s, _: repos.qa_runs.claim(s, "w"), case="empty"),
    Call("qa_runs.claim", 2, lambda s, _: repos.qa_runs.claim(s, "w", at_most=2), run_of, case="limited"),
    Call("qa_runs.give_back", 1, lambda s, run: repos.qa_runs.give_back(s, run.id, worker="w"), claimed),
    Call("qa_runs.heartbeat", 1, lambda s, run: repos.qa_runs.heartbeat(s, run.id, worker="w"), claimed),
    Call("qa_runs.complete", 1, lambda s, run: repos.qa_runs.complete(s, run.id, RunStats(), worker="w"), claimed),
    Call("qa_runs.fail", 1, lambda s, run: repos.qa_runs.fail(s, run.id, "no", worker="w"), claimed),
    Call("qa_runs.cancel", 1, lambda s, run: repos.qa_runs.cancel(s, run.id), run_of),
    Call("qa_runs.requeue_stalled", 1, lambda s, _: repos.qa_runs.requeue_stalled(s, older_than=timedelta(days=1))),
    Call("qa_runs.statistics", 1, lambda s, run: repos.qa_runs.statistics(s, run.id), run_of),
    Call("qa_runs.delete", 2, lambda s, run: repos.qa_runs.delete(s, run.id), run_of),
    Call("raw_signals.ingest", 1, lambda s, run: repos.raw_signals.ingest(s, run.id, signals("a", "b")), run_of),
    Call(
        "raw_signals.ingest",
        3,
        lambda s, run: repos.raw_signals.ingest(s, run.id, [*signals("a"), {}], on_error="report"),
        run_of,
        "with a report",
    ),
    Call("raw_signals.pending", 1, lambda s, row: repos.raw_signals.pending(s, row.run_id), signal_of),
    Call("profile_evolution_logs.list_brief", 1, lambda s, _: repos.profile_evolution_logs.list_brief(s), profile_of),
    Call("raw_signals.list_brief", 1, lambda s, _: repos.raw_signals.list_brief(s), signal_of),
    Call("raw_signals.of_tickets", 1, lambda s, row: repos.raw_signals.of_tickets(s, [row.id]), ticket_of),
    Call("raw_signals.attach", 1, lambda s, rows: repos.raw_signals.attach(s, [rows[0].id], rows[1].id), signal_and_ticket),
    Call("raw_signals.discard", 1, lambda s, row: repos.raw_signals.discard(s, [row.id]), signal_of),
    Call("raw_signals.delete", 1, lambda s, row: repos.raw_signals.delete(s, row.id), signal_of),
    Call("qa_tickets.list_brief", 1, lambda s, _: repos.qa_tickets.list_brief(s), ticket_of),
    Call("qa_tickets.list_brief", 2, lambda s, _: repos.qa_tickets.list_brief(s, with_total=True), ticket_of, "with a total"),
    Call("qa_tickets.create", 1, lambda s, _: repos.qa_tickets.create(s, a_ticket())),
    Call("qa_tickets.create_many", 1, lambda s, _: repos.qa_tickets.create_many(s, [a_ticket()] * 5)),
    Call(
        "qa_tickets.create_many",
        4,
        lambda s, run: repos.qa_tickets.create_many(s, [a_ticket(run_id=run.id), {}], on_error="report"),
        run_of,
        "with a report",
    ),
    Call("qa_tickets.update_many", 1, lambda s, _: repos.qa_tickets.update_many(s, QATicketUpdate(title="x"), severity="LOW")),
    Call(
        "qa_tickets.update_many",
        2,
        lambda s, _: repos.qa_tickets.update_many(s, QATicketUpdate(classification="other"), fingerprint="f"),
        ticket_of,
        "reclassified",
    ),
    Call(
        "qa_tickets.update_many",
        4,
        lambda s, row: repos.qa_tickets.update_many(s, QATicketUpdate(classification="other"), since=SINCE),
        merged,
        "reclassified with attempts",
    ),
    Call("qa_tickets.update", 1, lambda s, row: repos.qa_tickets.update(s, row.id, QATicketUpdate(title="x")), ticket_of),
    Call(
        "qa_tickets.update",
        1,
        lambda s, row: repos.qa_tickets.update(s, row.id, QATicketUpdate(title="x"), expected_version=1),
        ticket_of,
        "versioned",
    ),
    Call("qa_tickets.update", 3, lambda s, row: _reclassify(s, row.id), ticket_of, "reclassified"),
    Call("qa_tickets.update", 5, lambda s, row: _reclassify(s, row.ticket_id), merged, "reclassified with attempts"),
    Call("qa_tickets.transition", 1, lambda s, row: repos.qa_tickets.transition(s, row.id, TicketStatus.TRIAGED), ticket_of),
    Call(
        "qa_tickets.transition",
        1,
        lambda s, row: repos.qa_tickets.transition(s, row.id, TicketStatus.TRIAGED, expected_version=1),
        ticket_of,
        "versioned",
    ),
    Call("qa_tickets.assign_bucket", 1, lambda s, row: repos.qa_tickets.assign_bucket(s, row.id, Bucket.NOISE), ticket_of),
    Call(
        "qa_tickets.mark_duplicate", 3, lambda s, rows: repos.qa_tickets.mark_duplicate(s, rows[0].id, rows[1].id), two_tickets
    ),
    Call("qa_tickets.find_by_fingerprint", 1, lambda s, _: repos.qa_tickets.find_by_fingerprint(s, "f"), ticket_of),
    Call("qa_tickets.search", 1, lambda s, _: repos.qa_tickets.search(s, "total E4711"), ticket_of),
    Call(
        "qa_tickets.search",
        2,
        lambda s, rows: _two_pages_of_found(s, rows[0].title),
        two_tickets,
        "two pages",
    ),
    Call("qa_tickets.counts_by_status", 1, lambda s, _: repos.qa_tickets.counts_by_status(s), ticket_of),
    Call("qa_tickets.delete", 3, lambda s, row: repos.qa_tickets.delete(s, row.id), ticket_of),
    Call("qa_tickets.delete", 5, lambda s, row: repos.qa_tickets.delete(s, row.ticket_id), merged, "with attempts"),
    Call("qa_fix_attempts.dispatch", 2, lambda s, row: repos.qa_fix_attempts.dispatch(s, row.id, model="m"), ticket_of),
    Call(
        "qa_fix_attempts.latest_of_tickets",
        1,
        lambda s, row: repos.qa_fix_attempts.latest_of_tickets(s, [row.ticket_id]),
        dispatched,
    ),
    Call("qa_fix_attempts.start", 1, lambda s, row: repos.qa_fix_attempts.start(s, row.id), dispatched),
    Call("qa_fix_attempts.conclude", 4, lambda s, row: repos.qa_fix_attempts.conclude(s, row.id, FixOutcome.MERGED), attempt),
    Call("qa_fix_attempts.mark_reverted", 4, lambda s, row: repos.qa_fix_attempts.mark_reverted(s, row.id), merged),
    Call("qa_fix_attempts.cancel", 1, lambda s, row: repos.qa_fix_attempts.cancel(s, row.id), dispatched),
    Call(
        "classification_trust.for_classification",
        1,
        lambda s, _: repos.classification_trust.for_classification(s, "ui_bug"),
        merged,
    ),
    Call(
        "classification_trust.for_classification",
        2,
        lambda s, _: repos.classification_trust.for_classification(s, "ui_bug"),
        case="unknown",
    ),
    Call("classification_trust.refresh", 2, lambda s, _: repos.classification_trust.refresh(s), merged),
    Call("classification_trust.refresh", 2, lambda s, _: repos.classification_trust.refresh(s, ["a", "b"]), case="named"),
    Call("rag_corpus.add", 1, lambda s, _: repos.rag_corpus.add(s, a_fix(embedding=axis(1.0)))),
    Call("rag_corpus.add_many", 1, lambda s, _: repos.rag_corpus.add_many(s, [a_fix()] * 3)),
    Call(
        "rag_corpus.add_many",
        3,
        lambda s, _: repos.rag_corpus.add_many(s, [a_fix(), {}], on_error="report"),
        case="with a report",
    ),
    Call(
        "rag_corpus.update_many",
        1,
        lambda s, _: repos.rag_corpus.update_many(s, RAGCorpusUpdate(diff="x"), classification="class_1"),
        entry_of,
    ),
    Call("rag_corpus.list_brief", 1, lambda s, _: repos.rag_corpus.list_brief(s), entry_of),
    Call("rag_corpus.list_brief", 2, lambda s, _: repos.rag_corpus.list_brief(s, with_total=True), entry_of, "with a total"),
    Call("rag_corpus.search", 1, lambda s, _: repos.rag_corpus.search(s, axis(1.0)), entry_of),
    Call("rag_corpus.search", 1, lambda s, _: repos.rag_corpus.search(s, text="total E4711"), entry_of, "by words"),
    Call("rag_corpus.search", 1, lambda s, _: repos.rag_corpus.search(s, axis(1.0), text="total"), entry_of, "by both"),
    Call(
        "rag_corpus.search",
        1,
        lambda s, _: repos.rag_corpus.search(s, axis(1.0), classification="class_1", min_similarity=0.5),
        entry_of,
        "bounded",
    ),
    Call("rag_corpus.record_use", 1, lambda s, row: repos.rag_corpus.record_use(s, row.id), entry_of),
    Call("rag_corpus.update", 1, lambda s, row: repos.rag_corpus.update(s, row.id, RAGCorpusUpdate(diff="x")), entry_of),
    Call("rag_corpus.delete", 1, lambda s, row: repos.rag_corpus.delete(s, row.id), entry_of),
    Call("audit_artifacts.record", 1, lambda s, _: repos.audit_artifacts.record(s, an_artifact())),
    Call("audit_artifacts.hold", 1, lambda s, row: repos.audit_artifacts.hold(s, row.id), artifact_of),
    Call("audit_artifacts.release", 1, lambda s, row: repos.audit_artifacts.release(s, row.id), artifact_of),
    Call("audit_artifacts.of_tickets", 1, lambda s, row: repos.audit_artifacts.of_tickets(s, [row.id]), ticket_of),
    Call("audit_artifacts.expired", 1, lambda s, _: repos.audit_artifacts.expired(s), three_expired),
    Call("audit_artifacts.prune_expired", 2, lambda s, _: repos.audit_artifacts.prune_expired(s), three_expired),
    Call(
        "audit_artifacts.prune_expired",
        6,
        lambda s, _: repos.audit_artifacts.prune_expired(s, delete_blob=lambda _: None),
        three_expired,
        "with three blobs",
    ),
    Call("policies.active", 1, lambda s, _: repos.policies.active(s), policy_of),
    Call("policies.activate", 3, lambda s, _: repos.policies.activate(s, a_policy()), policy_of),
    Call("spend_ledger.append", 1, lambda s, _: repos.spend_ledger.append(s, a_charge())),
    Call("spend_ledger.append", 2, lambda s, _: repos.spend_ledger.append(s, a_charge()), charge_of, "repeated"),
    Call("spend_ledger.append", 2, lambda s, _: repos.spend_ledger.append(s, a_charge(), cap=CAP), case="capped"),
    Call("spend_ledger.append_many", 3, lambda s, _: repos.spend_ledger.append_many(s, [a_charge("a"), a_charge("b")])),
    Call("spend_ledger.append_many", 4, lambda s, _: repos.spend_ledger.append_many(s, [a_charge()]), charge_of, "repeated"),
    Call(
        "spend_ledger.append_many",
        3,
        lambda s, _: repos.spend_ledger.append_many(s, [a_charge("a"), {}], on_error="report"),
        case="with a report",
    ),
    Call("spend_ledger.total", 1, lambda s, _: repos.spend_ledger.total(s)),
    Call("spend_ledger.total", 1, lambda s, _: repos.spend_ledger.total(s, since=SINCE), case="since"),
    Call("spend_ledger.total", 1, lambda s, _: repos.spend_ledger.total(s, since=SINCE, until=UNTIL), case="window"),
    *(
        Call("spend_ledger.totals_by", 1, lambda s, _, k=key: repos.spend_ledger.totals_by(s, k, since=SINCE), case=key)
        for key in ("source", "model", "day")
    ),
)

ADMIN_CALLS = (
    Call("projects.create", 3, lambda a, _: repos.projects.create(a, a_project())),
    Call("projects.update", 1, lambda a, key: repos.projects.update(a, key, ProjectUpdate(name="x"))),
    Call("projects.update", 4, lambda a, key: repos.projects.update(a, key, ProjectUpdate(compliance_mode="SOX")), case="mode"),
    Call("projects.archive", 1, repos.projects.archive),
    Call("projects.delete", 6, repos.projects.delete),
    Call("spend_ledger.totals_by_project", 1, lambda a, _: repos.spend_ledger.totals_by_project(a)),
    Call("audit_artifacts.prune_expired", 2, lambda a, _: repos.audit_artifacts.prune_expired(a), case="of all projects"),
    Call("audit_artifacts.expired_by_project", 1, lambda a, _: repos.audit_artifacts.expired_by_project(a)),
)
"""Here `run(admin, project_id)` takes a session of the admin door, and `prepare` makes nothing."""

SHARED = ("get", "find", "get_many", "exists", "list", "stream", "count")
"""Reads of all repositories: called by `shared_calls`, with every filter."""


def public_verbs() -> set[str]:
    """Return `table.method` for every public method of every repository."""
    found = set()
    for table in repos.__all__:
        repository = getattr(repos, table)
        for name in dir(repository):
            if not name.startswith("_") and name not in {"model", "filters", "orders", "table", "name", "columns"}:
                attribute = getattr(repository, name)
                if callable(attribute) and not isinstance(attribute, type):
                    found.add(f"{table}.{name}")
    return found
