"""Factories: one for every input and every table, valid, deterministic, and strict about names."""

import inspect
import json
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ValidationError, create_model

from derwin_db import Database, ProjectSession, models
from derwin_db.fields.scalars import is_slug
from derwin_db.fields.table import Input, Table
from derwin_db.models import ProjectMode
from derwin_db.query.builders import table_of
from derwin_db.testing import factories
from derwin_db.testing.examples import example

FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: function for name, function in vars(factories).items() if inspect.isfunction(function)
}
BY_TYPE = {inspect.signature(function).return_annotation: function for function in FUNCTIONS.values()}
INPUTS = [kind for name, kind in vars(models).items() if name.endswith("Create") and issubclass(kind, Input)]
TABLES = [kind for kind in vars(models).values() if isinstance(kind, type) and issubclass(kind, Table)]

PINNED = Path(__file__).with_name("first_inputs.json")


@pytest.fixture(autouse=True)
def numbered() -> None:
    """As the plugin does in each test."""
    factories.reset()


class TestInputs:
    @pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.__name__)
    def test_have_a_factory_each(self, kind: type[Input]) -> None:
        made = BY_TYPE[kind]()
        assert type(made) is kind
        assert kind.model_validate(made.model_dump()) == made

    @pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.__name__)
    def test_are_the_same_each_time(self, kind: type[Input]) -> None:
        first = [BY_TYPE[kind](), BY_TYPE[kind]()]
        factories.reset()
        assert [BY_TYPE[kind](), BY_TYPE[kind]()] == first

    def test_are_those_that_services_count_on(self) -> None:
        """A value that is another one breaks tests of services that compare it: it changes with a line in CHANGELOG.md."""
        made = {kind.__name__: BY_TYPE[kind]().model_dump(mode="json", exclude_unset=True) for kind in INPUTS}
        assert made["RAGCorpusCreate"].pop("embedding") == [0, 1, *[0] * 1534]
        assert made == json.loads(PINNED.read_text(encoding="utf-8"))

    @pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.__name__)
    def test_refuse_a_name_that_the_model_does_not_have(self, kind: type[Input]) -> None:
        with pytest.raises(ValidationError):
            BY_TYPE[kind](project_id="x")

    @pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.__name__)
    def test_take_every_field(self, kind: type[Input]) -> None:
        made = BY_TYPE[kind]()
        values = {name: getattr(made, name) for name in kind.model_fields}
        assert BY_TYPE[kind](**values) == made

    def test_are_those_of_all_tables_that_are_written_by_an_input(self) -> None:
        kinds = {kind.__name__ for kind in TABLES}
        assert {kind.__name__.removesuffix("Create") for kind in INPUTS} <= kinds
        assert len(INPUTS) >= 11

    @pytest.mark.parametrize("marker", ["x" * 300, "Größe 1,  small", "日本"])
    @pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.__name__)
    def test_are_valid_whatever_their_texts_carry(self, kind: type[Input], marker: str) -> None:
        assert kind.model_validate(example(kind, marker=marker).model_dump())

    def test_of_a_literal_take_its_first(self) -> None:
        class Choice(BaseModel):
            kind: Literal["first", "second"] | None = None

        assert example(Choice).kind == "first"

    @pytest.mark.parametrize("kind", [bool, int, float, Decimal, str, bytes, datetime, date, time, timedelta])
    def test_of_each_kind_of_column_are_made(self, kind: type) -> None:
        made: Any = example(create_model("Row", value=(kind, ...)))
        assert type(made.value) is kind

    def test_of_a_kind_that_nobody_can_make_name_the_field(self) -> None:
        class Odd(BaseModel):
            part: complex

        with pytest.raises(TypeError, match=r"part: .* does not know how to make a <class 'complex'>"):
            example(Odd)

    def test_of_projects_have_slugs(self) -> None:
        assert [factories.project().slug for _ in range(2)] == ["project-1", "project-2"]
        assert is_slug(factories.project(slug="acme").slug)


class TestRows:
    @pytest.mark.parametrize("kind", [kind for kind in TABLES if kind is not models.Project], ids=lambda kind: kind.__name__)
    async def test_are_written_twice(self, session: ProjectSession, kind: type[Table]) -> None:
        create = BY_TYPE[kind]
        rows = [await create(session)]
        if kind is not models.ProjectProfile and kind is not models.ClassificationTrust:
            rows.append(await create(session))
        assert len({row.id for row in rows}) == len(rows)
        from derwin_db import repos

        repository: Any = getattr(repos, table_of(kind).name)
        for row in rows:
            assert type(row) is kind
            assert await repository.exists(session, row.id)

    async def test_of_projects_go_through_the_admin_door(self, own_db: Database) -> None:
        async with own_db.admin(reason="a test") as admin:
            assert (await factories.create_project(admin, slug="acme")).slug == "acme"

    async def test_take_overrides(self, session: ProjectSession) -> None:
        run = await factories.create_run(session)
        signal = await factories.create_signal(session, run_id=run.id, title="Mine")
        ticket = await factories.create_ticket(session, run_id=run.id, severity="LOW")
        attempt = await factories.create_fix_attempt(session, ticket_id=ticket.id, model="mine")
        log = await factories.create_mode_log(session, ProjectMode.AUTHOR)
        assert (signal.title, signal.run_id) == ("Mine", run.id)
        assert (ticket.severity, ticket.run_id) == ("LOW", run.id)
        assert (attempt.ticket_id, attempt.model) == (ticket.id, "mine")
        assert log.to_mode is ProjectMode.AUTHOR
        assert (await factories.create_trust(session, "ui_bug")).successes == 1
