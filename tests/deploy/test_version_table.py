"""The table of the revision: taken over from `alembic_version`, whoever else uses that, and given back on the way down."""

import pytest
from alembic.script import ScriptDirectory

from derwin_db import sql
from derwin_db.deploy.migrations import alembic_config, downgrade, status, upgrade
from derwin_db.deploy.version_table import MOVED
from derwin_db.testing import TestDatabase

from .conftest import FIRST, ServerOf, run_sql, settings_of

OURS = "SELECT version_num FROM derwin_alembic_version"
THEIRS = "SELECT version_num FROM alembic_version ORDER BY 1"
BEFORE = "e4a7c05b91d3"
AS_IT_WAS = (
    "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY)",
    "GRANT SELECT ON alembic_version TO derwin_app, derwin_admin",
    f"INSERT INTO alembic_version VALUES ('{BEFORE}')",
    "DROP TABLE derwin_alembic_version",
    "SELECT 1",
)
"""What a database of before holds, made of one that was taken down to that revision."""


@pytest.fixture(scope="module")
def before(server_of: ServerOf) -> TestDatabase:
    """A database of before, to be copied."""
    database = server_of("18").migrated()
    downgrade(settings_of(database.owner), BEFORE)
    run_sql(database.owner, "DROP TABLE alembic_version", *AS_IT_WAS)
    return database


def copy_of(before: TestDatabase, server_of: ServerOf):
    return settings_of(server_of("18").clone(before).owner)


def exists(settings, name: str) -> bool:
    return run_sql(settings.connection, f"SELECT to_regclass('public.{name}') IS NOT NULL")[0][0]


class TestTakeOver:
    def test_moves_our_row_and_removes_the_empty_table(self, before: TestDatabase, server_of: ServerOf) -> None:
        settings = copy_of(before, server_of)
        assert status(settings).current == BEFORE
        assert upgrade(settings).current == sql.HEAD_REVISION
        assert run_sql(settings.connection, OURS)[0][0] == sql.HEAD_REVISION
        assert not exists(settings, "alembic_version")

    def test_leaves_the_row_of_another_chain(self, before: TestDatabase, server_of: ServerOf) -> None:
        settings = copy_of(before, server_of)
        run_sql(settings.connection, "INSERT INTO alembic_version VALUES ('of_a_service')", "SELECT 1")
        assert upgrade(settings).current == sql.HEAD_REVISION
        assert [row[0] for row in run_sql(settings.connection, THEIRS)] == ["of_a_service"]
        granted = "SELECT has_table_privilege('derwin_app', 'alembic_version', 'SELECT')"
        assert run_sql(settings.connection, granted)[0][0] is False

    def test_takes_no_revision_of_another_chain_for_its_own(self, server_of: ServerOf) -> None:
        settings = settings_of(server_of("18").empty().owner)
        run_sql(
            settings.connection,
            "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
            "INSERT INTO alembic_version VALUES ('of_a_service')",
            "SELECT 1",
        )
        assert status(settings).current is None
        assert upgrade(settings, MOVED).current == MOVED
        assert [row[0] for row in run_sql(settings.connection, THEIRS)] == ["of_a_service"]
        downgrade(settings, "base")
        assert [row[0] for row in run_sql(settings.connection, THEIRS)] == ["of_a_service"]

    def test_again_changes_nothing(self, server_of: ServerOf) -> None:
        settings = settings_of(server_of("18").migrated().owner)
        assert upgrade(settings).pending == []
        assert not exists(settings, "alembic_version")


class TestGiveBack:
    @pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.long)])
    def test_code_of_before_finds_its_revision_where_it_looks(self, server_of: ServerOf, every: int) -> None:
        settings = settings_of(server_of("18").migrated().owner)
        script = ScriptDirectory.from_config(alembic_config(settings))
        *older, first = [step.revision for step in script.iterate_revisions(MOVED, "base")][1:]
        for revision in (*older[::every], first):
            downgrade(settings, revision)
            assert [row[0] for row in run_sql(settings.connection, THEIRS)] == [revision]
        granted = "SELECT has_table_privilege('derwin_app', 'alembic_version', 'SELECT')"
        assert run_sql(settings.connection, granted)[0][0] is False, "the first revision grants nothing"
        assert upgrade(settings, MOVED).current == MOVED

    def test_what_code_of_before_did_meanwhile_counts(self, server_of: ServerOf) -> None:
        settings = settings_of(server_of("18").migrated().owner)
        downgrade(settings, "e4b1d7a93c58")
        run_sql(settings.connection, "UPDATE derwin_alembic_version SET version_num = 'd92b6c41e8f5'", "SELECT 1")
        assert status(settings).current == "e4b1d7a93c58"
        assert upgrade(settings).current == sql.HEAD_REVISION

    def test_leaves_no_empty_table_at_the_base(self, server_of: ServerOf) -> None:
        settings = settings_of(server_of("18").migrated().owner)
        downgrade(settings, "base")
        assert not exists(settings, "alembic_version")
        assert upgrade(settings, FIRST).current == FIRST
