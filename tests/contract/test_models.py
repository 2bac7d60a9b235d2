"""What holds for every model, found in the metadata: a 15th model is checked without anybody remembering."""

import enum
import inspect
from typing import Any, get_type_hints

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import SQLModel

import derwin_db
from derwin_db import models, repos, sql
from derwin_db.fields.table import MAX_NAME_LENGTH, Input, PydanticJson
from derwin_db.query.builders import table_of
from derwin_db.repos.conditions import FilterType, column_of

TABLES = [SQLModel.metadata.tables[f"public.{name}"] for name in ("projects", *sql.PROJECT_TABLES)]
PROJECT_TABLES = TABLES[1:]
MODELS = {
    table_of(model).name: model
    for model in (getattr(models, name) for name in models.__all__)
    if inspect.isclass(model) and issubclass(model, SQLModel) and hasattr(model, "__table__")
}
INPUTS = [
    model for model in (getattr(models, name) for name in models.__all__) if inspect.isclass(model) and issubclass(model, Input)
]

OF_THE_REPOSITORY = {
    "project_id", "id", "created_at", "updated_at", "version", "status", "legal_hold", "retention_until", "compliance_mode",
    "is_active", "project_slug", "use_count", "last_used_at", "attempt_no", "initial_bucket", "final_bucket", "duplicate_of_id",
    "processed_at", "archived_at", "heartbeat_at", "started_at", "finished_at", "concluded_at", "resolved_at", "computed_at",
    "claimed_by", "stats", "window_days", "attempts", "successes", "reverts", "score",
}  # fmt: skip
"""Columns that only repositories write; the project's own compliance mode is the exception."""


def ids(table: sa.Table) -> str:
    return table.name


class TestTables:
    def test_there_is_one_for_each_name_in_the_list(self) -> None:
        assert {table.name for table in SQLModel.metadata.tables.values() if table.schema == "public"} == set(MODELS)
        assert set(MODELS) == {"projects", *sql.PROJECT_TABLES}
        assert len(MODELS) >= 14

    def test_each_has_a_repository_of_its_name(self) -> None:
        assert set(repos.__all__) == set(MODELS)
        assert {name: getattr(repos, name).model for name in repos.__all__} == MODELS

    @pytest.mark.parametrize("table", PROJECT_TABLES, ids=ids)
    def test_the_key_is_project_and_id(self, table: sa.Table) -> None:
        assert [column.name for column in table.primary_key.columns] == ["project_id", "id"]

    @pytest.mark.parametrize("table", PROJECT_TABLES, ids=ids)
    def test_foreign_keys_stay_within_the_project(self, table: sa.Table) -> None:
        for constraint in table.foreign_key_constraints:
            target = constraint.referred_table.name
            expected = ["id"] if target == "projects" else ["project_id", "id"]
            assert [element.column.name for element in constraint.elements] == expected
            assert constraint.column_keys[0] == "project_id"
            assert constraint.ondelete in ("CASCADE", None)

    @pytest.mark.parametrize("table", PROJECT_TABLES, ids=ids)
    def test_all_but_the_ledger_go_with_their_project(self, table: sa.Table) -> None:
        owners = [c.ondelete for c in table.foreign_key_constraints if c.referred_table.name == "projects"]
        assert owners == ([] if table.name == "spend_ledger" else ["CASCADE"])

    @pytest.mark.parametrize("table", PROJECT_TABLES, ids=ids)
    def test_every_foreign_key_has_an_index(self, table: sa.Table) -> None:
        leading = [[column.name for column in index.columns][:2] for index in table.indexes]
        leading += [[column.name for column in c.columns][:2] for c in table.constraints if isinstance(c, sa.UniqueConstraint)]
        for constraint in table.foreign_key_constraints:
            if constraint.referred_table.name != "projects":
                assert constraint.column_keys in leading, constraint.name

    @pytest.mark.parametrize("table", TABLES, ids=ids)
    def test_every_constraint_and_index_is_named_by_the_convention(self, table: sa.Table) -> None:
        kinds = {
            sa.PrimaryKeyConstraint: "pk", sa.UniqueConstraint: "uq", sa.ForeignKeyConstraint: "fk", sa.CheckConstraint: "ck",
        }  # fmt: skip
        for constraint in table.constraints:
            assert str(constraint.name).startswith(f"{kinds[type(constraint)]}_{table.name}")
            assert len(str(constraint.name)) <= MAX_NAME_LENGTH
        for index in table.indexes:
            assert str(index.name).startswith((f"ix_{table.name}", f"uq_{table.name}"))
            assert len(str(index.name)) <= MAX_NAME_LENGTH

    @pytest.mark.parametrize("table", TABLES, ids=ids)
    def test_no_native_enum_no_serial_no_default_in_python(self, table: sa.Table) -> None:
        for column in table.columns:
            assert not (isinstance(column.type, sa.Enum) and column.type.native_enum)
            assert column.identity is None
            assert column.autoincrement in ("auto", False)
            assert column.default is None

    @pytest.mark.parametrize("table", TABLES, ids=ids)
    def test_times_have_a_zone_and_money_is_exact(self, table: sa.Table) -> None:
        for column in table.columns:
            if isinstance(column.type, sa.DateTime):
                assert column.type.timezone, column
            if column.name.endswith("_usd"):
                assert column.type.scale is None, "a scale rounds before any check sees the amount"
                assert f"{column.name} = round({column.name}, 6)" in str(column.info["check"]).format(column.name)
            assert not isinstance(column.type, sa.Numeric) or isinstance(column.type, sa.Float) or column.name.endswith("_usd")

    @pytest.mark.parametrize("table", TABLES, ids=ids)
    def test_every_enumeration_has_a_check_of_exactly_its_labels(self, table: sa.Table) -> None:
        checks = {str(c.name): str(c.sqltext) for c in table.constraints if isinstance(c, sa.CheckConstraint)}
        for column in table.columns:
            if isinstance(column.type, sa.Enum):
                labels = ", ".join(f"'{label}'" for label in column.type.enums)
                assert checks[f"ck_{table.name}_{column.name}"] == f"{column.name} IN ({labels})"

    @pytest.mark.parametrize("table", TABLES, ids=ids)
    def test_json_columns_hold_a_shape(self, table: sa.Table) -> None:
        for column in table.columns:
            assert not isinstance(column.type, JSONB), column
            if isinstance(column.type, PydanticJson) and column.type.shape == dict[str, Any]:
                assert column.name in ("details", "payload")

    @pytest.mark.parametrize("table", TABLES, ids=ids)
    def test_lists_page_through_an_index(self, table: sa.Table) -> None:
        prefix = [] if table.name == "projects" else ["project_id"]
        definitions = [[str(part) for part in index.expressions] for index in table.indexes]
        bare = [[part.rpartition(".")[2] for part in definition] for definition in definitions]
        assert [*prefix, "created_at DESC", "id DESC"] in bare


class TestInputs:
    @pytest.mark.parametrize("model", INPUTS, ids=lambda model: model.__name__)
    def test_refuse_unknown_fields_and_hide_values(self, model: type[Input]) -> None:
        assert model.model_config["extra"] == "forbid"
        assert model.model_config["hide_input_in_errors"]
        assert model.model_config["validate_assignment"]

    @pytest.mark.parametrize("model", INPUTS, ids=lambda model: model.__name__)
    def test_nobody_can_assign_what_is_the_repositorys(self, model: type[Input]) -> None:
        allowed = {"compliance_mode"} if model.__name__.startswith("Project") else set()
        assert not (set(model.model_fields) & OF_THE_REPOSITORY) - allowed

    @pytest.mark.parametrize("model", INPUTS, ids=lambda model: model.__name__)
    def test_every_field_is_a_column(self, model: type[Input]) -> None:
        owner = max((name for name in (m.__name__ for m in MODELS.values()) if model.__name__.startswith(name)), key=len)
        table = table_of(getattr(models, owner))
        assert set(model.model_fields) <= set(table.columns.keys())

    @pytest.mark.parametrize("model", [m for m in INPUTS if m.__name__.endswith("Update")], ids=lambda model: model.__name__)
    def test_an_update_may_leave_out_everything(self, model: type[Input]) -> None:
        assert model().model_fields_set == set()

    @pytest.mark.parametrize("model", [m for m in INPUTS if m.__name__.endswith("Create")], ids=lambda model: model.__name__)
    def test_what_has_neither_default_nor_null_is_required(self, model: type[Input]) -> None:
        table = table_of(getattr(models, model.__name__.removesuffix("Create")))
        for name, field in model.model_fields.items():
            column = table.columns[name]
            assert field.is_required() == (not column.nullable and column.server_default is None), name


class TestFilters:
    @pytest.mark.parametrize("name", repos.__all__)
    def test_every_enumeration_foreign_key_and_named_column_is_a_filter(self, name: str) -> None:
        table = SQLModel.metadata.tables[f"public.{name}"]
        references = {key for c in table.foreign_key_constraints for key in c.column_keys} - {"project_id"}
        references |= {"run_id", "ticket_id", "fix_attempt_id"} & set(table.columns.keys())  # some are plain ids
        enumerations = {column.name for column in table.columns if isinstance(column.type, sa.Enum)}
        named = {"classification", "fingerprint"} & set(table.columns.keys())
        filters = get_type_hints(getattr(repos, name).filters, include_extras=True)
        bounds = {filter for filter in filters if filter not in table.c}
        assert set(filters) - bounds == references | enumerations | named
        assert {"since", "until"} <= bounds
        for filter in bounds:
            assert FilterType(filters[filter]).takes_many is False
            assert column_of(table, filter) is not None


class TestExports:
    def test_the_package(self) -> None:
        assert sorted(derwin_db.__all__) == ["AdminSession", "Database", "Page", "ProjectSession", "repos"]
        assert all(hasattr(derwin_db, name) for name in derwin_db.__all__)

    def test_an_unknown_name_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="nothing_of_the_kind"):
            _ = derwin_db.nothing_of_the_kind

    ENUMERATIONS = (
        *("ProjectType", "ProjectMode", "ComplianceMode", "DocSource", "DocStatus", "ProfileChange", "RunTrigger", "RunStatus"),
        *("DiscoveryRoute", "SignalStatus", "Severity", "TicketStatus", "Bucket", "FixStatus", "FixOutcome", "ArtifactKind"),
        *("SpendKind", "SpendSource"),
    )

    @pytest.mark.parametrize("name", ENUMERATIONS)
    def test_the_values_of_an_enumeration_are_its_names(self, name: str) -> None:
        kind = getattr(models, name)
        assert issubclass(kind, enum.StrEnum)
        assert all(member.value == member.name for member in kind)

    @pytest.mark.parametrize("name", ["SpendCap", "Match", "IngestResult", "PruneResult", "RunStats", "DiffStat"])
    def test_the_value_types(self, name: str) -> None:
        assert name in models.__all__
