"""Bad input: every field of every input, every parameter of every repository, generated from their own metadata.

Refused before a connection is taken, with the field's name and never with its value. What is accepted reads back equal.
The numbers are the rows of the list of bad input that a test stands for.
"""

import asyncio
import inspect
import json
import traceback
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from derwin_db import Database, models, repos
from derwin_db.errors import Conflict, InvalidCursor, InvalidInput, NotFound, TooLarge
from derwin_db.fields.scalars import Id, new_id
from derwin_db.fields.table import Input
from derwin_db.models import (
    IngestedDocCreate,
    PolicyCreate,
    Project,
    QATicket,
    QATicketCreate,
    RawSignalCreate,
    SpendLedgerCreate,
)
from derwin_db.repos.validation import invalid
from tests.contract.bad_values import bad_of
from tests.contract.good_values import EXAMPLES, good_input
from tests.contract.kinds import CANARY, INPUTS, fields_of
from tests.contract.parameters import Call, bad, bad_filters, calls
from tests.contract.round_trip import (
    ADMIN_INPUTS,
    ANY_DECIMALS,
    WRITERS,
    decimals_are_exact_or_refused,
    inputs,
    write_and_compare,
)

FIELDS = [(model, name) for model in INPUTS for name in fields_of(model)]
CALLS = list(calls())


def shown(error: BaseException) -> str:
    """All text that is ever shown of an error, its causes and its notes. Frames show code alone, and take long to format."""
    return "".join([str(error), repr(error), *traceback.format_exception(error, limit=0)])


def assert_silent(error: BaseException, value: object) -> None:
    """See that nothing of the value is shown. Names that a client made up are: they say where it went wrong."""
    if CANARY not in _names_in(value):
        assert CANARY not in shown(error), f"{type(value)} is repeated"


def _names_in(value: object) -> str:
    """The keys of a mapping, at any depth that pydantic looks into."""
    if isinstance(value, dict):
        return " ".join([*map(repr, value), *(_names_in(inner) for inner in value.values())])
    if isinstance(value, list) and len(value) < 10:
        return " ".join(_names_in(inner) for inner in value if not isinstance(inner, list))
    return ""


class TestFields:
    """What a field of an input must refuse."""

    def test_every_input_of_the_models_is_here(self):
        assert len(INPUTS) >= 17
        assert {model.__name__ for model in INPUTS} >= {f"{name}Create" for name in ("Project", "QATicket", "SpendLedger")}

    @pytest.mark.parametrize("model", INPUTS, ids=lambda model: model.__name__)
    def test_what_is_good_is_taken(self, model):
        assert model(**good_input(model)).model_fields_set == set(model.model_fields)

    @pytest.mark.parametrize(("model", "name"), FIELDS, ids=[f"{model.__name__}.{name}" for model, name in FIELDS])
    def test_is_refused_by_name_and_not_repeated(self, model, name):
        good, values = good_input(model), list(bad_of(fields_of(model)[name]))
        assert len(values) >= 6
        for value in values:
            with pytest.raises(ValidationError) as caught:
                model(**{**good, name: value})
            named = {item["loc"][0] for item in caught.value.errors(include_input=False, include_url=False)}
            assert named == {name}, f"{type(value)} names {named}"
            assert_silent(caught.value, value)
            assert name in str(invalid(caught.value))
            assert_silent(invalid(caught.value), value)

    @pytest.mark.parametrize(("model", "name"), FIELDS, ids=[f"{model.__name__}.{name}" for model, name in FIELDS])
    def test_neither_can_it_be_assigned_later(self, model, name):
        data = model(**good_input(model))
        for value in list(bad_of(fields_of(model)[name]))[:12]:
            with pytest.raises(ValidationError) as caught:
                setattr(data, name, value)
            assert_silent(caught.value, value)
        assert getattr(data, name) == getattr(model(**good_input(model)), name)

    @pytest.mark.parametrize("model", INPUTS, ids=lambda model: model.__name__)
    def test_what_is_required_is(self, model):
        for name, info in model.model_fields.items():
            if info.is_required():
                rest = {key: value for key, value in good_input(model).items() if key != name}
                with pytest.raises(ValidationError) as caught:
                    model(**rest)
                assert caught.value.errors()[0]["loc"] == (name,)


class TestMassAssignment:
    """Fields that an input does not have."""

    @pytest.mark.parametrize("model", INPUTS, ids=lambda model: model.__name__)
    def test_no_other_field_is_taken(self, model):
        every = {name for kind in vars(models).values() if hasattr(kind, "__table__") for name in kind.__table__.c.keys()}  # noqa: SIM118
        for name in (every | {"nonsense", "__class__", "model_config", "metadata"}) - set(model.model_fields):
            with pytest.raises(ValidationError, match="not permitted"):
                model(**{**good_input(model), name: EXAMPLES["uuid"]})

    @pytest.mark.parametrize("model", INPUTS, ids=lambda model: model.__name__)
    def test_what_the_repository_sets_is_in_none(self, model):
        own = {
            "id",
            "project_id",
            "created_at",
            "updated_at",
            "version",
            "status",
            "is_active",
            "retention_until",
            "legal_hold",
        }
        assert not own & set(model.model_fields)

    def test_a_stored_row_dumped_into_an_input_is_refused(self):
        row = QATicket(id=new_id(), project_id=new_id(), title="x")
        with pytest.raises(ValidationError, match="not permitted"):
            QATicketCreate(**row.model_dump())


class TestTooLarge:
    """What is larger than its limit: for a repository, and for whoever maps Pydantic's errors."""

    @pytest.mark.parametrize(
        "make",
        [
            lambda: QATicketCreate(**{**good_input(QATicketCreate), "description": "x" * 10_000_000}),
            lambda: QATicketCreate(**{**good_input(QATicketCreate), "steps_to_reproduce": ["x" * 900_000] * 12}),
            lambda: RawSignalCreate(**{**good_input(RawSignalCreate), "payload": {"a": "x" * 10_000_000}}),
            lambda: PolicyCreate(
                **{**good_input(PolicyCreate), "classification_overrides": {f"c{n}": "NOISE" for n in range(90_000)}}
            ),
        ],
    )
    def test_ten_megabytes(self, make):
        with pytest.raises(ValidationError) as caught:
            make()
        assert {item["type"] for item in caught.value.errors(include_input=False)} == {"too_large"}
        assert type(invalid(caught.value)) is TooLarge


class TestBodies:
    """Payloads as JSON text, as a request brings it."""

    def body(self, payload: str) -> str:
        rest = {name: value for name, value in good_input(RawSignalCreate).items() if name != "payload"}
        return json.dumps(rest, default=str)[:-1] + f', "payload": {payload}}}'

    @pytest.mark.parametrize(
        "payload",
        [
            '{"canary-7f3a9c": NaN}',
            '{"canary-7f3a9c": Infinity}',
            '{"canary-7f3a9c": -Infinity}',
            '{"canary-7f3a9c": "\\u0000"}',
            '{"canary-7f3a9c": "\\ud800"}',
            '{"canary-7f3a9c": 1e400}',
            f'{{"canary-7f3a9c": {"9" * 400}}}',
            '{"canary-7f3a9c": 9007199254740993}',
            f'{{"canary-7f3a9c": {"[" * 70}{"]" * 70}}}',
            f'{{"canary-7f3a9c": {"[" * 100_000}{"]" * 100_000}}}',
            f'{{"canary-7f3a9c": "{"x" * 10_000_000}"}}',
            '["canary-7f3a9c"]',
            '"canary-7f3a9c"',
            "null",
            '{"canary-7f3a9c": 1',
        ],
        ids=lambda payload: payload[:40],
    )
    def test_refused(self, payload):
        with pytest.raises(ValidationError) as caught:
            RawSignalCreate.model_validate_json(self.body(payload))
        assert CANARY not in shown(caught.value)

    def test_taken(self):
        assert RawSignalCreate.model_validate_json(self.body('{"a": [1, 0.5, "x", null, true]}')).payload["a"][1] == 0.5

    def test_of_a_key_that_is_there_twice_the_last_one_stays(self):
        assert RawSignalCreate.model_validate_json(self.body('{"a": 1, "a": 2}')).payload == {"a": 2}

    def test_text_for_what_json_has_no_type_for(self):
        body = json.dumps({**good_input(SpendLedgerCreate), "amount_usd": "1.5"}, default=str)
        assert SpendLedgerCreate.model_validate_json(body).amount_usd == EXAMPLES["money"]
        with pytest.raises(ValidationError):
            SpendLedgerCreate.model_validate_json(body.replace('"1.5"', "1.5"))


class TestForms:
    """Row 3: harmless forms are taken, and come out canonical."""

    @pytest.mark.parametrize(
        "text",
        [
            "01234567-89AB-7DEF-8123-456789ABCDEF",
            "0123456789ab7def8123456789abcdef",
            "{01234567-89ab-7def-8123-456789abcdef}",
            "urn:uuid:01234567-89ab-7def-8123-456789abcdef",
        ],
    )
    def test_of_an_id(self, text):
        assert TypeAdapter(Id).validate_python(text) == EXAMPLES["uuid"]


@pytest.fixture
def door(db: Database):
    """Opens a unit for a call, of the kind that it takes."""

    def open_for(call: Call, project: Project) -> Any:
        return db.admin(reason="bad input") if call.is_of_the_door else db.project(project.id)

    return open_for


async def refused(unit: Any, call: Call, arguments: dict[str, Any]) -> BaseException | None:
    """Return what the call raises, after seeing that its unit took no connection."""
    await unit.__aenter__()
    try:
        result = call.method(unit, **arguments)
        await (result if inspect.isawaitable(result) else anext(result))
    except Exception as error:
        assert unit._connection is None, f"{call} took a connection first"
        return error
    finally:
        await unit._abandon()
    return None


class TestParameters:
    """What a parameter must refuse, at the repositories' border, before a connection is taken."""

    def test_every_repository_is_here(self):
        assert {call.table for call in CALLS} == set(repos.__all__)
        assert len(CALLS) > 120

    @pytest.mark.parametrize("call", CALLS, ids=str)
    async def test_is_refused_by_name_without_a_connection(self, call: Call, door, project: Project, db: Database):
        before = db.connections_in_use()
        for parameter in call.parameters:
            for value in bad(call, parameter):
                error = await refused(door(call, project), call, {**call.arguments(), parameter.name: value})
                assert isinstance(error, InvalidInput), f"{parameter.name}: {type(value)} gives {type(error)}"
                assert parameter.name in str(error) or isinstance(error, InvalidCursor)
                assert_silent(error, value)
        assert db.connections_in_use() == before

    @pytest.mark.parametrize("call", [call for call in CALLS if call.filters], ids=str)
    async def test_so_is_every_filter(self, call: Call, door, project: Project):
        for name, value in bad_filters(call):
            error = await refused(door(call, project), call, {**call.arguments(), name: value})
            assert isinstance(error, InvalidInput), f"{name}: {type(value)} gives {type(error)}"
            assert name in str(error)
            if name != CANARY:
                assert_silent(error, value)


class TestCursors:
    """Row 48."""

    async def test_only_the_query_that_made_it_takes_it(self, session, other_project: Project, db: Database):
        for _ in range(3):
            await repos.qa_tickets.create(session, _ticket())
        cursor = (await repos.qa_tickets.list(session, limit=1)).next_cursor
        assert cursor is not None
        flipped = [cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :] for at in range(len(cursor))]
        for wrong in [*flipped, cursor[:-1], cursor + "A", cursor + "=", cursor.upper(), f" {cursor}", cursor * 20_000]:
            with pytest.raises(InvalidCursor) as caught:
                await repos.qa_tickets.list(session, limit=1, cursor=wrong)
            assert wrong not in shown(caught.value)
        with pytest.raises(InvalidCursor):
            await repos.qa_tickets.list(session, limit=1, cursor=cursor, severity="HIGH")
        with pytest.raises(InvalidCursor):
            await repos.qa_runs.list(session, limit=1, cursor=cursor)
        async with db.project(other_project.id) as other:
            with pytest.raises(InvalidCursor):
                await repos.qa_tickets.list(other, limit=1, cursor=cursor)
        assert len((await repos.qa_tickets.list(session, limit=2, cursor=cursor)).items) == 2


class TestMany:
    """How many ids and rows a call takes."""

    async def test_a_thousand_ids_are_taken_and_one_more_is_not(self, session):
        with pytest.raises(NotFound):
            await repos.raw_signals.discard(session, [new_id() for _ in range(1000)])
        with pytest.raises(TooLarge):
            await repos.raw_signals.discard(session, [new_id() for _ in range(40_000)])

    async def test_wildcards_match_nothing_else(self, session):
        await repos.qa_tickets.create(session, _ticket(fingerprint="abc"))
        for text in ("%", "_", "a%", "ab_", "\\", "%%"):
            assert await repos.qa_tickets.find_by_fingerprint(session, text) is None
            assert await repos.qa_tickets.count(session, fingerprint=text) == 0


class TestSameKey:
    """Writers of one key at the same time."""

    async def test_twenty_at_once_are_one_row(self, db: Database, project: Project):
        data = SpendLedgerCreate(**{**good_input(SpendLedgerCreate), "idempotency_key": "one"})
        doc = IngestedDocCreate(**good_input(IngestedDocCreate))

        async def write() -> tuple[Any, Any]:
            async with db.project(project.id) as session:
                spent = await repos.spend_ledger.append(session, data)
                return spent.id, (await repos.ingested_docs.ingest(session, doc)).id

        assert len(set(await asyncio.gather(*(write() for _ in range(20))))) == 1

    async def test_other_content_under_the_same_key_is_a_conflict(self, session):
        await repos.spend_ledger.append(session, SpendLedgerCreate(**good_input(SpendLedgerCreate)))
        for name, value in {"amount_usd": "2", "model": "other", "details": {"b": 1}}.items():
            with pytest.raises(Conflict):
                await repos.spend_ledger.append(session, SpendLedgerCreate(**{**good_input(SpendLedgerCreate), name: value}))
        assert await repos.spend_ledger.count(session) == 1

    async def test_another_time_under_the_same_key_is_the_entry_that_is_there(self, session):
        first = await repos.spend_ledger.append(session, SpendLedgerCreate(**good_input(SpendLedgerCreate)))
        later = {**good_input(SpendLedgerCreate), "occurred_at": "2026-01-02T00:00:00Z"}
        again = await repos.spend_ledger.append(session, SpendLedgerCreate(**later))
        assert again == first
        assert await repos.spend_ledger.count(session) == 1


def _ticket(**changes: Any) -> QATicketCreate:
    return QATicketCreate(**{**good_input(QATicketCreate), "run_id": None, **changes})


QUICK = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


class TestRoundTrip:
    def test_every_input_has_a_way_in(self):
        assert set(WRITERS) | set(ADMIN_INPUTS) == set(INPUTS)

    @pytest.mark.parametrize("model", INPUTS, ids=lambda model: model.__name__)
    async def test_what_is_accepted_reads_back_equal(self, db: Database, project: Project, model: type[Input]):
        made: list[Input] = []

        @QUICK
        @given(st.lists(inputs(model), min_size=1, max_size=2))
        def collect(rows: list[Input]) -> None:
            made.extend(rows)

        collect()
        await write_and_compare(db, project.id, made)

    async def test_every_amount_is_stored_exactly_or_refused(self, db: Database, project: Project):
        made = []

        @QUICK
        @given(st.lists(ANY_DECIMALS, min_size=20, max_size=40))
        def collect(values: list) -> None:
            made.extend(values)

        collect()
        stored, refused = await decimals_are_exact_or_refused(db, project.id, made)
        assert stored > 50
        assert refused > 50
