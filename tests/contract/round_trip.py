"""Rows of random values, written through their repositories and read back: what is accepted reads back equal."""

from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import DerwinError
from derwin_db.fields.money import Money
from derwin_db.fields.scalars import new_id
from derwin_db.fields.table import Input
from derwin_db.models import (
    AuditArtifactCreate,
    IngestedDocCreate,
    IngestedDocUpdate,
    PolicyCreate,
    ProjectCreate,
    ProjectProfileCreate,
    ProjectProfileUpdate,
    ProjectUpdate,
    QAFixAttemptConclusion,
    QAFixAttemptCreate,
    QARunCreate,
    QATicketCreate,
    QATicketUpdate,
    RAGCorpusCreate,
    RAGCorpusUpdate,
    RawSignalCreate,
    SpendLedgerCreate,
)
from tests.contract.good_values import MONEY, good_input, mappings

REFERENCES = {
    "run_id": {AuditArtifactCreate, QATicketCreate, QATicketUpdate},
    "ticket_id": {AuditArtifactCreate},
    "fix_attempt_id": {AuditArtifactCreate},
}
"""Fields that name a row, by the inputs in which they have to."""


class Undo(Exception):
    """Ends a unit of work without a trace."""


async def _dispatched(session: ProjectSession, data: Any) -> Any:
    ticket = await repos.qa_tickets.create(session, QATicketCreate(**_plain(QATicketCreate)))
    return await repos.qa_fix_attempts.dispatch(session, ticket.id, **data.model_dump())


async def _concluded(session: ProjectSession, data: Any) -> Any:
    attempt = await _dispatched(session, QAFixAttemptCreate(model="m"))
    await repos.qa_fix_attempts.start(session, attempt.id)
    given = {name: getattr(data, name) for name in data.model_fields_set}
    return await repos.qa_fix_attempts.conclude(session, attempt.id, "ERROR", **given)


async def _ingested(session: ProjectSession, data: Any) -> Any:
    run = await repos.qa_runs.enqueue(session, QARunCreate(trigger="MANUAL", routes=["ADAPTER"]))
    await repos.raw_signals.ingest(session, run.id, [data])
    return (await repos.raw_signals.pending(session, run.id))[0]


async def _profile(session: ProjectSession, data: Any) -> Any:
    return await repos.project_profiles.create(session, data, actor="a", reason="r")


async def _evolved(session: ProjectSession, data: Any) -> Any:
    await _profile(session, ProjectProfileCreate(**_plain(ProjectProfileCreate)))
    return await repos.project_profiles.evolve(session, data, change="LEARNED", actor="a", reason="r", expected_version=1)


async def _remembered(session: ProjectSession, data: Any) -> Any:
    row = await repos.rag_corpus.add(session, data)
    return await repos.rag_corpus.get(session, row.id, with_embedding=True)


async def _corpus_updated(session: ProjectSession, data: Any) -> Any:
    row = await repos.rag_corpus.add(session, RAGCorpusCreate(**_plain(RAGCorpusCreate)))
    await repos.rag_corpus.update(session, row.id, data)
    return await repos.rag_corpus.get(session, row.id, with_embedding=True)


async def _doc_updated(session: ProjectSession, data: Any) -> Any:
    row = await repos.ingested_docs.ingest(session, IngestedDocCreate(**_plain(IngestedDocCreate)))
    return await repos.ingested_docs.update(session, row.id, data)


async def _ticket_updated(session: ProjectSession, data: Any) -> Any:
    row = await repos.qa_tickets.create(session, QATicketCreate(**_plain(QATicketCreate)))
    return await repos.qa_tickets.update(session, row.id, data)


WRITERS: dict[type[Input], Callable[[ProjectSession, Any], Awaitable[Any]]] = {
    AuditArtifactCreate: repos.audit_artifacts.record,
    IngestedDocCreate: repos.ingested_docs.ingest,
    IngestedDocUpdate: _doc_updated,
    PolicyCreate: repos.policies.activate,
    ProjectProfileCreate: _profile,
    ProjectProfileUpdate: _evolved,
    QAFixAttemptCreate: _dispatched,
    QAFixAttemptConclusion: _concluded,
    QARunCreate: repos.qa_runs.enqueue,
    QATicketCreate: repos.qa_tickets.create,
    QATicketUpdate: _ticket_updated,
    RAGCorpusCreate: _remembered,
    RAGCorpusUpdate: _corpus_updated,
    RawSignalCreate: _ingested,
    SpendLedgerCreate: repos.spend_ledger.append,
}
ADMIN_INPUTS = (ProjectCreate, ProjectUpdate)
"""Written through the admin door."""


def _plain(model: type[Input]) -> dict[str, Any]:
    """Return what the input takes, without references."""
    return _without_references(model, good_input(model))


def _without_references(model: type[Input], values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if model in REFERENCES.get(name, ()) else value for name, value in values.items()}


def inputs(model: type[Input]) -> st.SearchStrategy[Input]:
    """Return a strategy of inputs that name no rows, as they come out of their validation."""

    def make(values: dict[str, Any]) -> Input:
        values = _without_references(model, values)
        if model is SpendLedgerCreate:
            amount = abs(Decimal(values["amount_usd"])) or Decimal(1)
            values["amount_usd"] = amount if values["kind"] == "CHARGE" else -amount
            values["idempotency_key"] = new_id().hex
        if model is ProjectCreate:
            values["slug"] = f"r-{new_id().hex[-20:]}"
        return model(**values)

    return mappings(model).map(make)


def assert_equal(data: Input, row: Any) -> None:
    """See that the row has what the input says, field by field, with the type of the model."""
    for name in data.model_fields_set:
        wanted, seen = getattr(data, name), getattr(row, name)
        assert seen == wanted, f"{type(data).__name__}.{name}: {seen!r} is not {wanted!r}"
        assert isinstance(seen, type(wanted)), f"{type(data).__name__}.{name}: a {type(seen)} is no {type(wanted)}"
        if isinstance(wanted, Decimal):
            assert str(seen) == str(wanted)


async def write_and_compare(db: Database, project: Any, rows: list[Input]) -> None:
    """Write each input in a unit of its own that is undone, and compare what the database has of it."""
    for data in rows:
        try:
            if isinstance(data, ADMIN_INPUTS):
                await _through_the_door(db, data)
            else:
                async with db.project(project) as session:
                    row = await WRITERS[type(data)](session, data)
                    assert_equal(data, row)
                    if hasattr(row, "id") and not isinstance(data, RAGCorpusCreate | RAGCorpusUpdate):
                        assert_equal(data, await getattr(repos, row.__tablename__).get(session, row.id))
                    raise Undo
        except Undo:
            pass


async def _through_the_door(db: Database, data: Any) -> None:
    async with db.admin(reason="a round trip") as admin:
        made = data if isinstance(data, ProjectCreate) else ProjectCreate(slug=f"r-{new_id().hex[-20:]}", name="n", type="ERP")
        row = await repos.projects.create(admin, made)
        if isinstance(data, ProjectUpdate):
            row = await repos.projects.update(admin, row.id, data)
        assert_equal(data, row)
        assert_equal(data, await repos.projects.get(admin, row.id))
        raise Undo


ANY_DECIMALS = st.one_of(
    MONEY,
    st.decimals(),
    st.decimals("-99999999.999999", "99999999.999999", allow_nan=False),
    st.decimals("-1", "1", allow_nan=False, places=7),
    st.tuples(st.integers(0, 1), st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(-30, 30)).map(
        lambda parts: Decimal((parts[0], tuple(parts[1]), parts[2]))
    ),
)
_MONEY: TypeAdapter[Decimal] = TypeAdapter(Money)


async def decimals_are_exact_or_refused(db: Database, project: Any, values: list[Decimal]) -> tuple[int, int]:
    """Put amounts into the ledger; returns how many were stored, each exactly as it was, and how many were refused."""
    rows: dict[str, tuple[Decimal, SpendLedgerCreate]] = {}
    refused = 0
    for value in values:
        try:
            for form in (value, str(value)):
                amount = _MONEY.validate_python(form)
            kind = "CHARGE" if amount > 0 else "CREDIT"
            entry = {"kind": kind, "source": "OTHER", "amount_usd": amount, "idempotency_key": new_id().hex}
            data = SpendLedgerCreate(**entry, occurred_at="2026-01-01T00:00:00Z")
        except ValidationError:
            refused += 1
            assert not _fits(value), f"{value!r} is refused"
        else:
            rows[data.idempotency_key] = (value, data)
    try:
        async with db.project(project) as session:
            await repos.spend_ledger.append_many(session, [data for _, data in rows.values()])
            seen = 0
            texts = dict(
                (await session.sql.execute(sa.text("SELECT idempotency_key, amount_usd::text FROM public.spend_ledger"))).all()
            )
            async for row in repos.spend_ledger.stream(session):
                value, _ = rows[row.idempotency_key]
                assert row.amount_usd == value
                assert Decimal(texts[row.idempotency_key]) == value
                seen += 1
            assert seen == len(rows)
            raise Undo
    except Undo:
        return len(rows), refused
    except DerwinError as error:
        raise AssertionError(f"an accepted amount was refused by the database: {error.sqlstate}") from error


def _fits(value: Decimal) -> bool:
    """Tell whether `numeric(14, 6)` holds the amount exactly, and the ledger takes it."""
    try:
        return bool(value) and abs(value) < 10**8 and value.quantize(Decimal("0.000001")) == value
    except InvalidOperation:
        return False
