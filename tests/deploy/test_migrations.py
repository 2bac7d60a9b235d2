"""Revisions and what runs them: what is wrong with either ends in a sentence that tells what to do."""

import logging
import re
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import pytest

from derwin_db import sql
from derwin_db.connection.schema import Standing
from derwin_db.deploy import compatibility, migrations, running
from derwin_db.deploy.migrations import (
    MigrationSettings,
    MigrationStatus,
    check_revisions,
    downgrade,
    upgrade,
    upgrade_service,
)
from derwin_db.deploy.obstacles import check_vector
from derwin_db.errors import ConfigurationError, DatabaseUnavailable, ExtensionMissing, SchemaOutOfDate
from derwin_db.fields.table import PydanticJson
from derwin_db.fields.vector import Vector
from derwin_db.models.project import ProjectSettings
from derwin_db.testing import TestDatabase, TestServer

REVISION = "revision = {0!r}\ndown_revision = {1!r}\n"


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of revisions, which is taken for ours."""
    original = migrations.alembic_config

    def config(settings: MigrationSettings) -> object:
        made = original(settings)
        made.set_main_option("script_location", str(tmp_path))
        return made

    monkeypatch.setattr(migrations, "alembic_config", config)
    (tmp_path / "versions").mkdir()
    return tmp_path / "versions"


class TestScripts:
    def test_of_two_heads_are_told_with_both(self, scripts: Path) -> None:
        for name in ("aaaa", "bbbb"):
            (scripts / f"{name}.py").write_text(REVISION.format(name, None))
        with pytest.raises(ConfigurationError, match="have 2 heads: aaaa, bbbb"):
            check_revisions()

    @pytest.mark.parametrize("last", ["bbbb", "aaaa", "dddd"])
    @pytest.mark.filterwarnings("ignore:Revision dddd")
    def test_that_follow_each_other_or_nothing_are_told(self, scripts: Path, last: str) -> None:
        for name, before in (("aaaa", last), ("bbbb", "aaaa")):
            (scripts / f"{name}.py").write_text(REVISION.format(name, before))
        with pytest.raises(ConfigurationError, match="can't be read in one order"):
            check_revisions()

    def test_without_a_contract_all_code_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compatibility, "step_of", lambda _: "expand")
        chain = migrations._scripts(MigrationSettings(None))  # type: ignore[arg-type]  # nothing is connected to
        every = [script.revision for script in chain.walk_revisions()]
        assert compatibility.code_that_runs(chain, sql.HEAD_REVISION) == every


NOWHERE = MigrationSettings(None)  # type: ignore[arg-type]  # nothing is connected to


class TestNames:
    """What names a revision, and which revisions that leads to."""

    @pytest.fixture
    def every(self) -> list[str]:
        """All revisions, the oldest first."""
        return [script.revision for script in migrations._scripts(NOWHERE).walk_revisions()][::-1]

    @pytest.mark.parametrize("name", ["head", "heads", "base", "-1", "+2", "-123", sql.HEAD_REVISION, sql.HEAD_REVISION[:4]])
    def test_are_known(self, name: str) -> None:
        migrations._known(NOWHERE, name)

    @pytest.mark.parametrize("name", ["", "1", "-1234", "Head", sql.HEAD_REVISION[:3], f"{sql.HEAD_REVISION}0", "%"])
    def test_of_nothing_are_told(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="There is no such revision"):
            migrations._known(NOWHERE, name)

    def test_lead_to_what_is_applied(self, every: list[str]) -> None:
        empty, begun = MigrationStatus(None, every[-1], every), MigrationStatus(every[1], every[-1], every[2:])
        for name in ("head", "heads", "+1"):
            assert migrations._applied(NOWHERE, begun, name) == set(every[2:])
        assert migrations._applied(NOWHERE, empty, every[1]) == set(every[:2])
        assert migrations._applied(NOWHERE, begun, every[3]) == set(every[2:4])


class TestAhead:
    """A database that another version has brought further than this code knows."""

    @pytest.fixture
    def ran(self, monkeypatch: pytest.MonkeyPatch) -> list[object]:
        """What Alembic was told to do."""
        done: list[object] = []

        async def let_through(_: object) -> None:
            """Nothing is connected to."""

        monkeypatch.setattr(migrations, "refuse_transaction_pooler", let_through)
        monkeypatch.setattr(migrations, "_run", lambda *given: done.append(given))
        return done

    @pytest.mark.parametrize("standing", [Standing.COMPATIBLE, Standing.NEWER, Standing.UNCLEAR])
    def test_is_taken_no_further_and_not_back(
        self, ran: list[object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, standing: Standing
    ) -> None:
        seen = MigrationStatus("ffff", sql.HEAD_REVISION, [], standing)
        monkeypatch.setattr(migrations, "status", lambda _: seen)
        serves = standing is Standing.COMPATIBLE
        with caplog.at_level(logging.INFO, "derwin_db.migrations"):
            if serves:
                assert upgrade(NOWHERE) is seen
            else:
                with pytest.raises(SchemaOutOfDate, match=re.escape(seen.schema.sentence)):
                    upgrade(NOWHERE)
        assert (f"nothing to do: {seen.schema.sentence}" in caplog.text) is serves
        with pytest.raises(SchemaOutOfDate) as refused:
            downgrade(NOWHERE, "-1")
        more = " Rolling back takes the newer version, too." if serves else ""
        assert (str(refused.value), ran) == (f"{seen.schema.sentence}{more}", [])


class TestWords:
    @pytest.mark.parametrize(("is_upgrade", "said"), [(True, "applied aaaa: a table"), (False, "took back aaaa: a table")])
    def test_say_what_was_done(self, caplog: pytest.LogCaptureFixture, is_upgrade: bool, said: str) -> None:
        revision = SimpleNamespace(revision="aaaa", doc="a table")
        with caplog.at_level(logging.INFO, "derwin_db.migrations"):
            running.tell(step=SimpleNamespace(is_upgrade=is_upgrade, up_revision=revision))
        assert caplog.messages == [said]

    def test_name_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=f"There is no {tmp_path}/alembic.ini"):
            upgrade_service(NOWHERE, tmp_path / "alembic.ini")


class TestWaiting:
    @pytest.mark.parametrize(("seconds", "asked"), [(0, 1), (0.05, 1), (0.3, 4)])
    async def test_for_another_starter_ends_when_it_was_told_to(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seconds: float, asked: int
    ) -> None:
        class Held:
            asked = 0

            async def fetchval(self, *_: object) -> bool:
                self.asked += 1
                return False

        async def pause(_: float) -> None:
            """Goes by at once."""

        monkeypatch.setattr(running, "asyncio", SimpleNamespace(sleep=pause))
        lock = Held()
        with caplog.at_level(logging.INFO, "derwin_db.migrations"), pytest.raises(TimeoutError):
            await running._acquire(lock, seconds)  # type: ignore[arg-type]  # all that is asked of it
        assert (lock.asked, caplog.text.count("another starter is migrating")) == (asked, 1)


class TestMigrations:
    @pytest.mark.parametrize("content", [b"script_location = here", b"[alembic]\nscript_location = \xff"])
    def test_a_file_that_is_no_alembic_ini(self, migrated: TestDatabase, tmp_path: Path, content: bytes) -> None:
        ini = tmp_path / "alembic.ini"
        ini.write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"is no alembic\.ini"):
            upgrade_service(MigrationSettings(migrated.owner), ini)

    def test_beyond_the_newest_revision(self, migrated: TestDatabase) -> None:
        with pytest.raises(ConfigurationError, match="`derwin-db status` says where it is"):
            upgrade(MigrationSettings(migrated.owner), "+1")

    @pytest.mark.parametrize(
        ("error", "kind", "words"),
        [
            (asyncpg.FeatureNotSupportedError("canary"), ExtensionMissing, "vector"),
            (asyncpg.InsufficientPrivilegeError("canary"), ConfigurationError, "has to own the database"),
            (
                TimeoutError("canary"),
                DatabaseUnavailable,
                "Another starter is migrating this database and did not finish in time",
            ),
            (asyncpg.DivisionByZeroError("canary"), Exception, "The migration stopped, and its last revision was undone: "),
        ],
    )
    def test_an_error_of_a_revision_is_a_sentence(
        self, migrated: TestDatabase, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], words: str
    ) -> None:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(migrations.command, "upgrade", fail)
        with pytest.raises(kind, match=words) as caught:
            upgrade(MigrationSettings(migrated.owner))
        assert "canary" not in str(caught.value)

    async def test_an_error_of_what_follows_hides_none_of_the_run(self, caplog: pytest.LogCaptureFixture) -> None:
        async def step(_: object) -> None:
            raise LookupError

        with caplog.at_level(logging.WARNING, logger="derwin_db.migrations"):
            await running._quietly(step, None)  # type: ignore[arg-type]
        assert caplog.messages == ["what follows a run of revisions could not be done"]
        assert all(record.exc_info for record in caplog.records)

    def test_types_of_ours_are_written_without_ours(self) -> None:
        from sqlmodel.sql.sqltypes import AutoString

        kinds = (PydanticJson(ProjectSettings), Vector(), AutoString(), AutoString(length=7))
        written = [running.render_item("type", kind, None) for kind in kinds]  # type: ignore[arg-type]
        assert written == ["postgresql.JSONB()", "sql.ColumnType('vector(1536)')", "sa.Text()", "sa.String(length=7)"]

    async def test_an_extension_that_waits_for_a_lock_is_no_missing_one(self, server: TestServer) -> None:
        import asyncio

        database = await asyncio.to_thread(server.empty)
        other, mine = [await asyncpg.connect(**database.owner.connect_arguments()) for _ in range(2)]
        try:
            await other.execute("BEGIN; CREATE EXTENSION vector")
            await mine.execute("SET lock_timeout = '20ms'")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await check_vector(mine)
        finally:
            for connection in (other, mine):
                await connection.close()
