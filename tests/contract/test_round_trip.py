"""Every column of every table: what goes in by the one road comes out again, equal to what SQLAlchemy's ORM does."""

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from derwin_db import ProjectSession, repos, sql
from derwin_db.fields.scalars import new_id
from derwin_db.fields.table import ProjectTable, PydanticJson
from derwin_db.fields.vector import Vector
from derwin_db.models import (
    CriticalFlow,
    DiffStat,
    DomainOntology,
    IngestedDocCreate,
    OntologyEntity,
    PatchOperation,
    PolicyThresholds,
    ProjectProfileCreate,
    QARunCreate,
    QATicket,
    QATicketCreate,
    RAGCorpus,
    RAGCorpusCreate,
    RiskTierRule,
    RunStats,
)
from derwin_db.models.enums import Bucket, DiscoveryRoute
from derwin_db.query.builders import param, table_of
from derwin_db.query.guard import PROJECT
from derwin_db.query.statement import entities
from derwin_db.testing import factories
from derwin_db.testing.history import writing_history

MODELS = sorted(
    (model for model in ProjectTable.__subclasses__() if model.__module__.startswith("derwin_db.models.")),
    key=lambda model: str(model.__tablename__),
)
"""Those of the schema: what a service derives from `ProjectTable` is no table of ours."""
TEXT = "Ünïcode \U0001f41e 'quoted' \"double\" \\ back\n\ttab %s $1 {brace} :name"
EAST = timezone(timedelta(hours=5, minutes=30))

TEXTS = {
    "content_hash": "0123456789abcdef" * 4,
    "classification": "data_integrity",
    "storage_uri": "s3://bucket/key?versionId=1",
    "source_uri": "https://example.com/a%20b",
    "target_url": "https://example.com/",
    "pr_url": "https://example.com/pull/1",
}

SHAPES: dict[str, list[Any]] = {
    "details": [{"a": [1, 2.5, None, True, {"b": TEXT}]}, {}],
    "payload": [{"deep": {"er": [[]]}, "": 0, "big": 2**53}, {}],
    "steps_to_reproduce": [[TEXT, "two"], []],
    "routes": [list(DiscoveryRoute), [DiscoveryRoute.E2E_CRAWL]],
    "stats": [RunStats(signals=3, by_route={DiscoveryRoute.VISUAL_DIFF: 3}), RunStats()],
    "diff_stat": [DiffStat(files=1, insertions=2, deletions=3), DiffStat()],
    "risk_weights": [{"billing": 0.1, "ünï": 1.0}, {}],
    "glossary": [{"term": TEXT}, {}],
    "critical_flows": [[CriticalFlow(name="pay", steps=["a"], risk=0.3, owner=None)], []],
    "domain_ontology": [DomainOntology(entities=[OntologyEntity(name="Invoice", attributes=["total"])]), DomainOntology()],
    "risk_tier_rules": [[RiskTierRule(tier="high", min_risk=0.7, bucket=Bucket.HUMAN_ONLY, required_approvals=2)], []],
    "classification_overrides": [{"ui_bug": Bucket.NOISE}, {}],
    "thresholds": [
        PolicyThresholds(
            min_trust_for_auto_fix=0.9, min_confidence=0.5, max_attempts_per_ticket=3, daily_spend_limit_usd=Decimal("12.5")
        ),
        PolicyThresholds(min_trust_for_auto_fix=0, min_confidence=0, max_attempts_per_ticket=0),
    ],
    "patch": [[PatchOperation(op="add", path="/a", value=None), PatchOperation(op="remove", path="/b")], []],
}


PLAIN: dict[type, tuple[Any, Any]] = {
    sa.Boolean: (False, True),
    sa.Float: (0.1 + 0.2, 1.0),
    sa.BigInteger: (7, 2**63 - 1),
    sa.Integer: (7, 2**31 - 1),
}


def sample(column: sa.Column[Any], variant: int) -> Any:
    """A value of the column's type: the first variant is ordinary, the second an edge."""
    kind, is_edge = column.type, variant == 1
    if isinstance(kind, PydanticJson):
        return SHAPES[column.name][variant]
    if isinstance(kind, Vector):
        return [float(number - 700) * (2**-10 if is_edge else 0.5) for number in range(kind.dim or 0)]
    if isinstance(kind, sa.Enum):
        members = list(kind.enum_class or ())
        return members[-1 if is_edge else 0]
    if isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float):
        return Decimal("99999999.999999") if is_edge else Decimal("0.000001")
    if isinstance(kind, sa.DateTime):
        return datetime(1999, 12, 31, 23, 59, 59, 999999, EAST) if is_edge else datetime(2026, 11, 23, 8, 0, 0, 1, UTC)
    if isinstance(kind, sa.Uuid):
        return new_id()
    for known, pair in PLAIN.items():
        if isinstance(kind, known):
            return pair[variant]
    return TEXTS.get(column.name, "x" if is_edge else TEXT)


async def parents(session: ProjectSession) -> dict[str, UUID]:
    """Rows for foreign keys to point to, by the table they are in."""
    run = await repos.qa_runs.enqueue(session, QARunCreate(trigger="MANUAL", routes=["E2E_CRAWL"]))
    ticket = await repos.qa_tickets.create(session, a_ticket())
    attempt = await repos.qa_fix_attempts.dispatch(session, ticket.id, model="large")
    document = await repos.ingested_docs.ingest(
        session,
        IngestedDocCreate(
            source="URL", source_uri="https://example.com", title="t", mime_type="text/html", byte_size=1, content_hash="f" * 64
        ),
    )
    return {"qa_runs": run.id, "qa_tickets": ticket.id, "qa_fix_attempts": attempt.id, "ingested_docs": document.id}


async def a_profile(session: ProjectSession) -> UUID:
    data = ProjectProfileCreate(summary="s", domain_ontology={}, risk_weights={}, critical_flows=[], glossary={})
    return (await repos.project_profiles.create(session, data, actor="a test", reason="a test")).id


def a_ticket() -> QATicketCreate:
    return factories.ticket(title="t", classification="ui_bug")


FAR = 2**31 - 2


async def values_of(session: ProjectSession, model: type[SQLModel], variant: int) -> dict[str, Any]:
    """A whole row: variant 0 and 1 fill every column, variant 2 leaves NULL what may be NULL."""
    table, known = table_of(model), await parents(session)
    if table.name == "profile_evolution_logs":
        known["project_profiles"] = await a_profile(session)
    values: dict[str, Any] = {}
    for column in table.c:
        targets = [key.column.table.name for key in column.foreign_keys]
        if column.name == "project_id":
            continue
        if variant == 2 and column.nullable:
            values[column.name] = None
        elif targets:
            values[column.name] = known[targets[0]]
        else:
            values[column.name] = sample(column, min(variant, 1))
    if table.name == "spend_ledger":
        values["project_slug"] = (await repos.projects.current(session)).slug
        values["amount_usd"] = abs(values["amount_usd"]) * (1 if values["kind"] == "CHARGE" else -1)
    if table.name == "profile_evolution_logs":
        values["to_version"] = FAR  # the profile's own entry has 1, and none is of a version that it does not have
        await session.sql.execute(sa.text(f"UPDATE project_profiles SET version = {FAR}"))
    return values


async def written(session: ProjectSession, model: type[SQLModel], values: dict[str, Any]) -> SQLModel:
    """The row as INSERT .. RETURNING hands it back by the one road."""
    table = table_of(model)
    insert = sa.insert(table).values(project_id=PROJECT, **{name: param(name, table.c[name]) for name in values})
    return (await session.fetch(entities("test.write", insert.returning(*table.c), model), values))[0]


async def read(session: ProjectSession, model: type[SQLModel], row_id: UUID) -> Any:
    repository: Any = getattr(repos, str(model.__tablename__))
    if model is RAGCorpus:
        return await repository.get(session, row_id, with_embedding=True)
    return await repository.get(session, row_id)


async def read_by_orm(session: ProjectSession, model: type[SQLModel], row_id: UUID) -> Any:
    table = table_of(model)
    return (await session.sql.execute(sa.select(model).where(table.c.id == row_id))).scalar_one()


def columns_of(row: Any) -> dict[str, tuple[type, Any]]:
    """Values with their types: 1 is not 1.0 here."""
    return {column.name: (type(value := getattr(row, column.name)), value) for column in table_of(type(row)).c}


@pytest.mark.parametrize("variant", range(3), ids=["ordinary", "edge", "null"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: str(model.__tablename__))
class TestColumns:
    @pytest.fixture(autouse=True)
    async def past(self, session):
        """Times and rules are taken as they are given: these tests write every column."""
        async with writing_history(session):
            yield

    async def test_reads_what_the_orm_reads(self, session, model, variant):
        values = await values_of(session, model, variant)
        returned = await written(session, model, values)
        row = await read(session, model, values["id"])
        by_orm = await read_by_orm(session, model, values["id"])
        assert columns_of(returned) == columns_of(row) == columns_of(by_orm)

    async def test_reads_what_was_written(self, session, model, variant):
        values = await values_of(session, model, variant)
        row = await written(session, model, values)
        assert {name: getattr(row, name) for name in values} == values

    async def test_stores_what_the_orm_stores(self, db, session, other_project, model, variant):
        values = await values_of(session, model, variant)
        row = await written(session, model, values)
        async with db.project(other_project.id) as other, writing_history(other):
            theirs = await values_of(other, model, variant)
            row_id = theirs["id"]
            other.sql.add(model(project_id=other_project.id, **theirs))
            await other.sql.flush()
            by_orm = columns_of(await read(other, model, row_id))
        ids = {column.name for column in table_of(model).c if isinstance(column.type, sa.Uuid)} | {"project_slug"}
        mine = columns_of(row)
        counted = sa.inspect(model).version_id_col
        if counted is not None:
            mine[counted.name] = (int, 1)  # the ORM counts versions itself, and a new row's is the first
        assert {name: mine[name] for name in mine if name not in ids} == {
            name: by_orm[name] for name in by_orm if name not in ids
        }

    async def test_streams_what_it_reads(self, session, model, variant):
        values = await values_of(session, model, variant)
        returned = await written(session, model, values)
        repository: Any = getattr(repos, str(model.__tablename__))
        options = {"with_embedding": True} if model is RAGCorpus else {}
        rows = [row async for row in repository.stream(session, **options) if row.id == values["id"]]
        assert [columns_of(row) for row in rows] == [columns_of(returned)]


def test_models_are_those_of_all_tables() -> None:
    assert {str(model.__tablename__) for model in MODELS} == set(sql.PROJECT_TABLES)


class TestProject:
    async def test_reads_what_the_orm_reads(self, session, project):
        row = await repos.projects.current(session)
        by_orm = (await session.sql.execute(sa.select(type(row)))).scalar_one()
        assert columns_of(row) == columns_of(by_orm)


@pytest.fixture
async def ticket(session) -> QATicket:
    return await repos.qa_tickets.create(session, a_ticket())


class TestState:
    """Rows belong to no ORM session, and have what one needs to take them in."""

    async def test_is_detached_with_its_key(self, ticket):
        state = sa.inspect(ticket)
        assert state.detached
        assert state.key == (QATicket, (ticket.project_id, ticket.id), None)
        assert state.obj() is ticket

    async def test_is_equal_before_and_after_its_state_is_made(self, session, ticket):
        same = await repos.qa_tickets.get(session, ticket.id)
        assert sa.inspect(same) is not None
        assert same == ticket

    async def test_assignment_is_noted_and_stores_nothing(self, session, ticket):
        ticket.title = "another"
        assert sa.inspect(ticket).attrs.title.history.deleted == ["t"]
        assert (await repos.qa_tickets.get(session, ticket.id)).title == "t"

    @pytest.mark.parametrize(
        "duplicate",
        [copy.copy, copy.deepcopy, lambda row: pickle.loads(pickle.dumps(row)), lambda row: row.model_copy()],
        ids=["copy", "deepcopy", "pickle", "model_copy"],
    )
    async def test_a_copy_is_a_row_of_its_own(self, ticket, duplicate):
        twin = duplicate(ticket)
        assert columns_of(twin) == columns_of(ticket)
        assert sa.inspect(twin).obj() is twin
        assert sa.inspect(twin).key == sa.inspect(ticket).key
        twin.title = "twin"
        assert ticket.title == "t"

    async def test_merge_stores_what_was_assigned(self, session, ticket):
        ticket.title = "merged"
        await session.sql.merge(ticket)
        await session.sql.flush()
        assert (await repos.qa_tickets.get(session, ticket.id)).title == "merged"

    async def test_an_added_row_updates(self, session, ticket):
        session.sql.add(ticket)
        ticket.title = "added"
        await session.sql.flush()
        assert (await repos.qa_tickets.get(session, ticket.id)).title == "added"

    async def test_a_constructed_instance_is_new(self):
        assert sa.inspect(QATicket(title="new")).transient

    async def test_an_instance_made_around_the_constructor_is_no_row(self, ticket):
        made = QATicket.model_construct(**ticket.model_dump())
        with pytest.raises(sa.exc.NoInspectionAvailable):
            sa.inspect(made)

    async def test_all_fields_count_as_set(self, ticket):
        assert ticket.model_fields_set == set(QATicket.model_fields)
        assert ticket.model_dump(exclude_unset=True) == ticket.model_dump()


class TestColumnsLeftOut:
    """An entry that was read without its embedding."""

    @pytest.fixture
    async def entry(self, session) -> RAGCorpus:
        data = RAGCorpusCreate(classification="ui_bug", problem="p", fix_summary="f", diff="d", embedding=[1.0] + [0.0] * 1535)
        return await repos.rag_corpus.add(session, data)

    async def test_is_not_among_the_fields_set(self, entry):
        assert entry.embedding is None
        assert "embedding" not in entry.model_fields_set
        assert entry.model_fields_set == set(RAGCorpus.model_fields) - {"embedding"}

    async def test_merge_leaves_it_as_it_is_stored(self, session, entry):
        entry.problem = "another"
        await session.sql.merge(entry)
        await session.sql.flush()
        stored = await repos.rag_corpus.get(session, entry.id, with_embedding=True)
        assert stored.problem == "another"
        assert stored.embedding is not None

    async def test_assigning_it_sets_it_on_this_row_alone(self, session, entry):
        one = await repos.rag_corpus.get(session, entry.id)
        other = await repos.rag_corpus.get(session, entry.id)
        one.embedding = [0.5] * 1536
        assert "embedding" in one.model_fields_set
        assert "embedding" not in other.model_fields_set
