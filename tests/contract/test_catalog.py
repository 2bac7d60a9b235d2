"""What the database itself says of every table: keys, policies, grants, triggers, owners."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlmodel import SQLModel

from derwin_db import sql
from derwin_db.errors import APPEND_ONLY_TABLES
from derwin_db.isolation.catalog.code import expected_triggers
from derwin_db.testing import TestDatabase

ALL = ("projects", *sql.PROJECT_TABLES)
MAY_DELETE = {"ingested_docs", "qa_runs", "raw_signals", "qa_tickets", "qa_fix_attempts", "rag_corpus", "audit_artifacts"}
MAY_UPDATE = {*MAY_DELETE, "project_profiles", "classification_trust"} - {"audit_artifacts"}


@pytest.fixture
async def owner(migrated: TestDatabase) -> asyncpg.Connection:
    connection = await asyncpg.connect(**migrated.owner.connect_arguments())
    yield connection
    await connection.close()


COPY = "as_the_models_say"

DERIVED = {"bits": postgresql.BIT(1536), "words": postgresql.TSVECTOR()}

DEFINITIONS = {
    "columns": """
        SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)
        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND NOT attname = ANY ($2)
    """,
    "constraints": """
        SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE conrelid = $1::regclass AND contype IN ('c', 'f', 'p', 'u') AND NOT conname = ANY ($2)
    """,
    "indexes": """
        SELECT c.relname, pg_get_indexdef(c.oid) FROM pg_index JOIN pg_class c ON c.oid = indexrelid
        WHERE indrelid = $1::regclass AND NOT c.relname = ANY ($2)
    """,
}


class TestModels:
    @pytest.fixture
    async def made(self, owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
        """The connection, in a transaction that has the tables of the models in a schema of their own."""
        metadata = sa.MetaData()
        for name in ALL:
            table = SQLModel.metadata.tables[f"public.{name}"].to_metadata(metadata, schema=COPY)
            for column in sql.DERIVED_COLUMNS.get(name, ()):
                table.append_column(sa.Column(column, DERIVED[column]))
        transaction = owner.transaction()
        await transaction.start()
        await owner.execute(f"CREATE SCHEMA {COPY}")
        for table in metadata.sorted_tables:
            for statement in (CreateTable(table), *(CreateIndex(index) for index in table.indexes)):
                await owner.execute(str(statement.compile(dialect=postgresql.dialect())))
        yield owner
        await transaction.rollback()

    @pytest.mark.parametrize("kind", DEFINITIONS)
    async def test_are_what_the_revisions_made(self, made: asyncpg.Connection, kind: str) -> None:
        for table in ALL:
            there, said = [
                {tuple(str(value).replace(f"{schema}.", "") for value in row) for row in rows}
                for schema in ("public", COPY)
                for rows in [await made.fetch(DEFINITIONS[kind], f"{schema}.{table}", sql.DERIVED_COLUMNS.get(table, ()))]
            ]
            assert there == said, table


class TestStorage:
    @pytest.mark.parametrize("table", ALL)
    async def test_settings_are_those_of_the_models(self, owner: asyncpg.Connection, table: str) -> None:
        options = await owner.fetchval("SELECT reloptions FROM pg_class WHERE oid = $1::regclass", f"public.{table}")
        wanted = SQLModel.metadata.tables[f"public.{table}"].dialect_options["postgresql"].get("with") or {}
        assert set(options or ()) == {f"{name}={value}" for name, value in wanted.items()}
        assert bool(wanted) is (table in {"raw_signals", "rag_corpus", "audit_artifacts", "spend_ledger"})


class TestRowLevelSecurity:
    @pytest.mark.parametrize("table", sql.PROJECT_TABLES)
    async def test_is_enabled_and_forced(self, owner: asyncpg.Connection, table: str) -> None:
        row = await owner.fetchrow("SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = $1::regclass", table)
        assert tuple(row) == (True, True)

    async def test_of_the_root_is_enabled_so_that_the_owner_may_look(self, owner: asyncpg.Connection) -> None:
        row = await owner.fetchrow("SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE relname = 'projects'")
        assert tuple(row) == (True, False)

    @pytest.mark.parametrize("table", ALL)
    async def test_the_scope_restricts_reads_and_writes_alike(self, owner: asyncpg.Connection, table: str) -> None:
        scope = await owner.fetchrow("SELECT * FROM pg_policies WHERE tablename = $1 AND policyname = 'derwin_scope'", table)
        assert (scope["permissive"], scope["cmd"], scope["roles"]) == ("RESTRICTIVE", "ALL", ["derwin_app"])
        column = "id" if table == "projects" else "project_id"
        assert scope["qual"] == scope["with_check"] == f"({column} = ( SELECT derwin_scope() AS derwin_scope))"

    @pytest.mark.parametrize("table", ALL)
    async def test_there_are_no_other_policies_than_ours(self, owner: asyncpg.Connection, table: str) -> None:
        names = {row[0] for row in await owner.fetch("SELECT policyname FROM pg_policies WHERE tablename = $1", table)}
        admin = {"projects": {"derwin_admin_rows"}}.get(table, {"derwin_admin_reads"})
        more = {
            "project_mode_logs": {"derwin_admin_adds"},
            "audit_artifacts": {"derwin_admin_raises", "derwin_admin_prunes"},
        }.get(table, set())
        assert names == {"derwin_scope", "derwin_app_rows"} | admin | more


class TestPrivileges:
    @pytest.mark.parametrize("table", ALL)
    async def test_the_application_may_do_what_its_verbs_do(self, owner: asyncpg.Connection, table: str) -> None:
        granted = {
            privilege
            for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN")
            if await owner.fetchval("SELECT has_table_privilege('derwin_app', $1, $2)", f"public.{table}", privilege)
        }
        expected = {"SELECT"} | ({"INSERT"} if table != "projects" else set())
        expected |= ({"UPDATE"} if table in MAY_UPDATE else set()) | ({"DELETE"} if table in MAY_DELETE else set())
        assert granted == expected

    @pytest.mark.parametrize(
        ("table", "columns"),
        [
            ("projects", {"mode", "version", "updated_at"}),
            ("audit_artifacts", {"legal_hold", "updated_at"}),
            ("policies", {"is_active", "updated_at"}),
        ],
    )
    async def test_the_application_may_change_these_columns_alone(
        self, owner: asyncpg.Connection, table: str, columns: set[str]
    ) -> None:
        rows = await owner.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped "
            "AND has_column_privilege('derwin_app', attrelid, attnum, 'UPDATE')",
            table,
        )
        assert {row[0] for row in rows} == columns

    @pytest.mark.parametrize("table", sql.PROJECT_TABLES)
    async def test_the_admin_door_reads_no_content(self, owner: asyncpg.Connection, table: str) -> None:
        rows = await owner.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped "
            "AND has_column_privilege('derwin_admin', attrelid, attnum, 'SELECT')",
            table,
        )
        seen = {row[0] for row in rows}
        if table == "spend_ledger":
            assert seen == {"project_id", "project_slug", "amount_usd", "occurred_at", "created_at"}
        elif table != "audit_artifacts":
            assert seen == {"project_id"}

    @pytest.mark.parametrize("role", ["derwin_app", "derwin_admin", "derwin_backfill"])
    async def test_a_role_owns_nothing_and_bypasses_nothing(self, owner: asyncpg.Connection, role: str) -> None:
        row = await owner.fetchrow("SELECT * FROM pg_roles WHERE rolname = $1", role)
        held = [
            row[name] for name in ("rolsuper", "rolbypassrls", "rolcreaterole", "rolcreatedb", "rolcanlogin", "rolreplication")
        ]
        assert held == [False] * 6
        assert await owner.fetchval("SELECT count(*) FROM pg_class WHERE relowner = $1::regrole", role) == 0

    async def test_the_public_holds_nothing(self, owner: asyncpg.Connection) -> None:
        rows = await owner.fetch(
            "SELECT c.relname FROM pg_class c, aclexplode(c.relacl) a "
            "WHERE a.grantee = 0 AND c.relnamespace = 'public'::regnamespace"
        )
        assert [row[0] for row in rows] == []
        assert not await owner.fetchval("SELECT has_database_privilege('derwin_app', current_database(), 'TEMPORARY')")
        assert not await owner.fetchval("SELECT has_schema_privilege('derwin_app', 'public', 'CREATE')")
        assert not await owner.fetchval("SELECT has_schema_privilege('derwin_app', 'derwin', 'USAGE')")


async def _triggers_of(owner: asyncpg.Connection, table: str) -> dict[str, bytes]:
    rows = await owner.fetch(
        "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = $1::regclass AND NOT tgisinternal", table
    )
    return {row["tgname"]: row["tgenabled"] for row in rows}


class TestTriggers:
    @pytest.mark.parametrize("table", ALL)
    async def test_are_those_that_start_up_looks_for_and_fire_always(self, owner: asyncpg.Connection, table: str) -> None:
        expected = {name for place, name in expected_triggers(is_distributed=False) if place == table}
        assert await _triggers_of(owner, table) == dict.fromkeys(expected, b"A")

    @pytest.mark.parametrize("table", APPEND_ONLY_TABLES)
    async def test_append_only_tables_refuse_always(self, owner: asyncpg.Connection, table: str) -> None:
        states = await _triggers_of(owner, table)
        for kind in ("row", "statement", "truncate"):
            assert states[f"derwin_append_only_{kind}"] == b"A"

    async def test_evidence_is_kept_always(self, owner: asyncpg.Connection) -> None:
        states = await _triggers_of(owner, "audit_artifacts")
        assert states["derwin_keep_evidence_row"] == states["derwin_keep_evidence_truncate"] == b"A"


class TestKeys:
    @pytest.mark.parametrize("table", sql.PROJECT_TABLES)
    async def test_every_btree_index_begins_with_the_project(self, owner: asyncpg.Connection, table: str) -> None:
        rows = await owner.fetch(
            "SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid, 1, true) AS first, i.indisvalid "
            "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam "
            "WHERE i.indrelid = $1::regclass AND a.amname = 'btree'",
            table,
        )
        assert rows
        assert all(row["first"] == "project_id" and row["indisvalid"] for row in rows), rows


class TestUuid7:
    async def test_is_of_version_7_and_of_now(self, owner: asyncpg.Connection) -> None:
        made, now = await owner.fetchrow("SELECT derwin_uuid7(), clock_timestamp()")
        assert made.version == 7
        assert made.variant == "specified in RFC 4122"
        assert abs((made.int >> 80) / 1000 - now.timestamp()) < 1

    async def test_is_the_default_of_rows_by_raw_sql(self, owner: asyncpg.Connection) -> None:
        rows = await owner.fetch(
            "SELECT table_name, column_default FROM information_schema.columns "
            "WHERE table_schema = 'public' AND column_name = 'id' AND table_name = ANY($1)",
            list(sql.PROJECT_TABLES),
        )
        assert {row["table_name"]: row["column_default"] for row in rows} == dict.fromkeys(sql.PROJECT_TABLES, "derwin_uuid7()")
