"""What a client is told of a model: every bound, pattern and size in JSON Schema's words, and how rows are read back."""

import json
import re
import warnings
from typing import Annotated, Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from derwin_db import Database, models, repos
from derwin_db.fields.described import _TEXTS, _subject
from derwin_db.fields.scalars import new_id
from derwin_db.fields.table import OWN
from derwin_db.models import Project, QARunRead, QATicket, QATicketRead, RunStats, SpendLedgerCreate
from derwin_db.models.descriptions import DESCRIPTIONS
from derwin_db.tables import ProjectTable, ShortText
from derwin_db.testing import factories
from examples.service.tables import Webhook, WebhookCreate

INPUTS = sorted(
    (kind for name in models.__all__ if isinstance(kind := getattr(models, name), type) and issubclass(kind, BaseModel)),
    key=lambda kind: kind.__name__,
)
TABLES = sorted((mapper.class_ for mapper in OWN.mappers), key=lambda kind: kind.__name__)


def places(schema: Any) -> list[dict[str, Any]]:
    """Every object inside a JSON Schema."""
    if isinstance(schema, dict):
        return [schema, *(place for value in schema.values() for place in places(value))]
    return [place for item in schema for place in places(item)] if isinstance(schema, list) else []


class TestSchemas:
    @pytest.mark.parametrize("mode", ["validation", "serialization"])
    @pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.__name__)
    def test_speak_json_schema(self, kind: type[BaseModel], mode: Any) -> None:
        for place in places(kind.model_json_schema(mode=mode)):
            assert not {"ge", "gt", "le", "lt", "max_digits", "decimal_places"} & place.keys(), place

    def test_have_bounds_patterns_and_examples(self) -> None:
        ticket = models.QATicketCreate.model_json_schema()["properties"]
        assert (ticket["confidence"]["minimum"], ticket["confidence"]["maximum"]) == (0, 1)
        assert ticket["title"]["maxLength"] == 500
        assert ticket["description"]["maxLength"] == 1_000_000
        assert re.fullmatch(ticket["classification"]["pattern"], ticket["classification"]["examples"][0])
        slug = models.ProjectCreate.model_json_schema()["properties"]["slug"]
        assert (slug["minLength"], slug["maxLength"]) == (1, 63)
        entry = SpendLedgerCreate.model_json_schema()["properties"]
        assert entry["amount_usd"]["type"] == "string"
        for amount in ("0.42", "-7", "99999999.999999"):
            assert re.search(entry["amount_usd"]["pattern"], amount)
        assert entry["occurred_at"]["format"] == "date-time"
        past = models.RAGCorpusCreate.model_json_schema()["properties"]["embedding"]["anyOf"][0]
        assert (past["minItems"], past["maxItems"]) == (1536, 1536)


class TestDescriptions:
    @pytest.mark.parametrize("mode", ["validation", "serialization"])
    @pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.__name__)
    def test_say_what_each_field_means_with_an_example(self, kind: type[BaseModel], mode: Any) -> None:
        for name, shown in kind.model_json_schema(mode=mode).get("properties", {}).items():
            assert shown["description"].endswith((".", "(RFC 6902).")), name
            assert "$ref" in shown or "examples" in shown or name == "embedding", name

    @pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.__name__)
    def test_have_examples_that_the_model_takes(self, kind: type[BaseModel]) -> None:
        for name, shown in kind.model_json_schema().get("properties", {}).items():
            field = next(info for known, info in kind.model_fields.items() if name in (known, info.alias))
            rules = [rule for rule in field.metadata if not type(rule).__module__.startswith("sqlmodel")]
            adapter = TypeAdapter(Annotated[(field.annotation, *rules)] if rules else field.annotation)
            for example in shown.get("examples", ()):
                adapter.validate_json(json.dumps(example))

    def test_of_a_service_are_its_own(self) -> None:
        shown = WebhookCreate.model_json_schema()["properties"]
        assert shown["event"]["description"] == "What it hears of."
        assert shown["ticket_id"]["description"].startswith("The one ticket")  # ours has another meaning
        assert Webhook.model_json_schema()["properties"]["created_at"]["description"] == "When the row was written."

    def test_of_a_field_itself_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a service says of a field that it gives another meaning stands in front of what modules say of fields."""
        monkeypatch.setitem(_TEXTS, __name__, {"sureness": ("What a module says.", None)})

        class Answer(QATicketRead):
            title: str = Field(description="What the client called it.")
            confidence: float | None = Field(alias="sureness", description="How sure the client is.")
            severity: models.Severity

        shown = Answer.model_json_schema()["properties"]
        assert shown["title"]["description"] == "What the client called it."
        assert shown["sureness"]["description"] == "How sure the client is."
        ours = QATicketRead.model_json_schema()["properties"]
        assert ours["title"]["description"] != "What the client called it."
        assert shown["severity"]["description"] == ours["severity"]["description"]

    def test_are_those_of_fields_that_there_are(self) -> None:
        """A field that was renamed leaves no text behind."""
        names = {name for kind in INPUTS for name in kind.model_json_schema()["properties"]}
        subjects = {_subject(kind.__name__) for kind in INPUTS}
        for key in DESCRIPTIONS:
            subject, _, name = key.rpartition(".")
            assert name in names
            assert not subject or subject in subjects


class TestRows:
    @pytest.fixture
    async def ticket(self, db: Database, project: Project) -> QATicket:
        """A stored ticket."""
        async with db.project(project.id) as session:
            return await factories.create_ticket(session)

    def test_of_every_table_have_a_read_model(self) -> None:
        for table in TABLES:
            kind = getattr(models, f"{table.__name__}Read")
            assert set(kind.model_fields) == set(table.model_fields)

    async def test_go_to_json_and_back_equal(self, db: Database, project: Project, ticket: QATicket) -> None:
        class Envelope(BaseModel):
            ticket: QATicket

        many = TypeAdapter(list[QATicket])
        backs = [
            QATicket.model_validate_json(ticket.model_dump_json()),
            QATicket.model_validate(ticket.model_dump(mode="json")),
            *many.validate_json(many.dump_json([ticket])),
            Envelope.model_validate_json(Envelope(ticket=ticket).model_dump_json()).ticket,
        ]
        for back in backs:
            assert back == ticket
            assert [type(getattr(back, name)) for name in ("severity", "created_at")] == [
                type(getattr(ticket, name)) for name in ("severity", "created_at")
            ]
        async with db.project(project.id) as session:
            for row in (await repos.projects.current(session), await factories.create_run(session)):
                assert type(row).model_validate_json(row.model_dump_json()) == row

    def test_of_bad_json_are_refused_without_its_values(self, ticket: QATicket) -> None:
        for change in ({"severity": "canary"}, {"title": 5}, {"confidence": 7.5}):
            text = {**ticket.model_dump(mode="json"), **change}
            with pytest.raises(ValidationError) as caught:
                QATicket.model_validate(text)
            assert "canary" not in str(caught.value)

    def test_become_a_response_that_says_more(self, ticket: QATicket) -> None:
        class TicketWithAge(QATicketRead):
            age_days: int = 0

        shown = TicketWithAge.model_validate({**ticket.model_dump(), "age_days": 3})
        assert (shown.id, shown.severity, shown.age_days) == (ticket.id, ticket.severity, 3)
        assert TicketWithAge.model_validate(ticket).title == ticket.title
        assert QATicketRead.model_validate_json(QATicketRead.model_validate(ticket).model_dump_json()).id == ticket.id
        assert ticket.model_validate(ticket, update={"title": "changed"}).title == "changed"
        described = TicketWithAge.model_json_schema()["properties"]
        assert described["title"]["description"] == QATicketRead.model_json_schema()["properties"]["title"]["description"]
        assert not {"description", "examples"} & described["age_days"].keys()

    def test_of_a_base_without_a_table_are_checked_alike(self) -> None:
        class Noted(ProjectTable):
            note: ShortText

        values = {"project_id": str(new_id()), "note": "ours"}
        for made in (Noted.model_validate(values), Noted.model_validate_json(json.dumps(values))):
            assert (type(made), made.note, str(made.project_id)) == (Noted, "ours", values["project_id"])
        for check in (Noted.model_validate, lambda wrong: Noted.model_validate_json(json.dumps(wrong))):
            with pytest.raises(ValidationError):
                check({**values, "note": 7})

    async def test_of_a_shape_that_says_more_are_shown_whole(self, db: Database, project: Project) -> None:
        class StatsOfCrawler(RunStats):
            pages: int = 0

        async with db.project(project.id) as session:
            run = await factories.create_run(session)
        shown = QARunRead.model_validate({**run.model_dump(), "stats": StatsOfCrawler(signals=2, pages=7)})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dumped = [shown.model_dump(), shown.model_dump(mode="json"), json.loads(shown.model_dump_json())]
        assert [(one["stats"]["signals"], one["stats"]["pages"]) for one in dumped] == [(2, 7)] * 3

    async def test_of_another_shape_are_read_as_they_are(self, db: Database, project: Project, ticket: QATicket) -> None:
        """JSON that SQL by hand wrote is no reason to show nothing of the row."""
        async with db.project(project.id) as session:
            await session.sql.execute(sa.text('UPDATE qa_tickets SET steps_to_reproduce = \'{"not": ["a list"]}\''))
            row = await repos.qa_tickets.get(session, ticket.id)
        shown = QATicketRead.model_validate(row)
        assert shown.steps_to_reproduce == {"not": ["a list"]}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dumped = [shown.model_dump(), shown.model_dump(mode="json"), json.loads(shown.model_dump_json())]
        assert [one["steps_to_reproduce"] for one in dumped] == [{"not": ["a list"]}] * 3
        with pytest.raises(ValidationError):
            QATicketRead.model_validate({**row.model_dump(warnings=False), "steps_to_reproduce": object()})
        with pytest.raises(ValidationError):
            QATicketRead.model_validate({**row.model_dump(warnings=False), "confidence": 7.5})
