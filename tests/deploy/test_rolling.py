"""A program and a schema of different revisions: everybody who looks says the same of it.

The older program is this code without its last expanding revisions: its head, its files and the functions of the seal that it
expects are those of before.
"""

import asyncio
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import httpx
import pytest
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from fastapi import FastAPI

from derwin_db import Database, repos, sql
from derwin_db.cli import main
from derwin_db.connection.schema import Note, Standing, schema_of
from derwin_db.deploy import compatibility, migrations
from derwin_db.deploy.compatibility import code_that_runs, note_at, step_of
from derwin_db.deploy.migrations import MigrationSettings, alembic_config, downgrade, upgrade
from derwin_db.doctor import examine
from derwin_db.errors import ConfigurationError, DerwinError, SchemaOutOfDate
from derwin_db.fastapi import health_router
from derwin_db.seed import LIFELINE, seed_lifeline
from derwin_db.sql import revisions
from derwin_db.testing import TestDatabase
from derwin_db.testing.factories import create_ticket
from derwin_db.testing.filling import create_filled

from .conftest import run_sql, settings_of

SCRIPTS = ScriptDirectory.from_config(alembic_config(MigrationSettings(None)))  # type: ignore[arg-type]
NEWEST, FORMER = [script.revision for script in SCRIPTS.walk_revisions()][:2]
*LATER, OLDEST = code_that_runs(SCRIPTS, NEWEST)
"""The revisions that the oldest code which runs on the newest schema does not know, and the one that it does."""


def path_of(revision: str) -> Path:
    return Path(SCRIPTS.get_revision(revision).path)


def versions_of_old() -> dict[str, str]:
    """Return the versions that entities had at the oldest revision: that before the first one which came since."""
    found = dict(sql.CURRENT)
    for revision in LATER:
        for entity, number in re.findall(r'"([a-z_]+)\.v(\d+)"', path_of(revision).read_text().partition("def downgrade")[0]):
            if int(number) > 1:
                found[entity] = f"{entity}.v{int(number) - 1}"
    return found


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Turns this program into one of before."""

    def become() -> None:
        folder = tmp_path / "alembic"
        shutil.copytree(revisions.script_folder(), folder)
        for revision in LATER:
            (folder / "versions" / path_of(revision).name).unlink()
        known = revisions.known_revisions() - set(LATER)
        versions = versions_of_old()
        monkeypatch.setattr(revisions, "known_revisions", lambda: known)
        monkeypatch.setattr(migrations, "script_folder", lambda: folder)
        monkeypatch.setattr(sql, "HEAD_REVISION", OLDEST)
        monkeypatch.setattr(sql, "CURRENT", versions)

    return become


class Said(NamedTuple):
    """What each of them says: whether this program runs on the database, and in which words."""

    start: str | None
    health: tuple[int, str | None]
    status: str
    migrate: int
    doctor: tuple[bool, str]


async def all_say(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Said:
    """Ask all of them."""
    refusal = None
    try:
        async with Database(**database.urls):
            pass
    except DerwinError as error:
        refusal = error.message
    monkeypatch.setenv("DATABASE_URL", database.urls["url"])
    monkeypatch.setenv("DIRECT_URL", database.urls["direct_url"])
    runner = CliRunner()
    told = await asyncio.to_thread(runner.invoke, main, ["status", "--json"])
    migrated = await asyncio.to_thread(runner.invoke, main, ["migrate", "--json"])
    report = await examine(database.service, owner=database.owner)
    check = next(check for check in report.checks if check.name == "schema")
    return Said(
        refusal, await health_of(database), json.loads(told.stdout)["standing"], migrated.exit_code, (check.ok, check.detail)
    )


async def health_of(database: TestDatabase, db: Database | None = None) -> tuple[int, str | None]:
    app = FastAPI()
    service = db or Database(**database.urls)
    app.include_router(health_router(service))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        answer = await client.get("/health/ready")
    if db is None:
        await service.close()
    return answer.status_code, answer.json().get("schema", answer.json().get("code"))


async def note(database: TestDatabase, text: str | None) -> None:
    quoted = "NULL" if text is None else "'" + text.replace("'", "''") + "'"
    statement = f"COMMENT ON TABLE public.derwin_alembic_version IS {quoted}"
    await asyncio.to_thread(run_sql, database.owner, statement, "SELECT 1")


class TestEverybodyAgrees:
    async def test_on_the_same_revision(self, own_database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
        said = await all_say(own_database, monkeypatch)
        assert said[:4] == (None, (200, None), "same", 0)
        assert said.doctor[0]

    async def test_on_an_older_one(self, own_database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
        await asyncio.to_thread(downgrade, settings_of(own_database.owner), FORMER)
        monkeypatch.setattr(
            "derwin_db.cli.migrate.upgrade", lambda *_: SimpleNamespace(is_ahead=False, pending=[], current="", head="")
        )
        said = await all_say(own_database, monkeypatch)
        assert said.start is not None
        assert "older than this code" in said.start
        assert "Run `derwin-db migrate`" in said.start
        assert said[1:3] == ((503, "schema_out_of_date"), "older")
        assert said.doctor == (False, said.start.rstrip("."))

    async def test_on_a_newer_one_that_is_compatible(
        self, own_database: TestDatabase, older: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        older()
        said = await all_say(own_database, monkeypatch)
        assert said[:4] == (None, (200, "newer, compatible"), "newer, compatible", 0)
        assert said.doctor[0]
        assert "newer than this code" in said.doctor[1]

    @pytest.mark.parametrize("text", [Note(NEWEST, [NEWEST]).to_text(), None], ids=["a contract", "no note"])
    async def test_on_a_newer_one_that_is_not(
        self, own_database: TestDatabase, older: Any, monkeypatch: pytest.MonkeyPatch, text: str | None
    ) -> None:
        older()
        await note(own_database, text)
        said = await all_say(own_database, monkeypatch)
        assert said.start is not None
        assert f"code of {OLDEST} does not run on it" in said.start
        assert said[1:4] == ((503, "schema_out_of_date"), "newer, not compatible", 3)
        assert said.doctor == (False, said.start.rstrip("."))


OTHER_SEAL = """CREATE OR REPLACE FUNCTION public.derwin_scope() RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'SELECT NULL::uuid'"""


class TestOlderProgram:
    async def test_works_on_a_newer_schema_and_sees_that_its_fences_stand(self, own_database: TestDatabase, older: Any) -> None:
        older()
        async with Database(**own_database.urls) as db:
            filled = await create_filled(db)
            async with db.project(filled.project_id) as session:
                row = await create_ticket(session)
                assert await repos.qa_tickets.get(session, row.id)
        report = await examine(own_database.service, owner=own_database.owner)
        assert report.ok
        assert next(check for check in report.checks if check.name == "fences").detail.startswith("stand")

    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            ("ALTER TABLE public.qa_tickets NO FORCE ROW LEVEL SECURITY", "not forced"),
            (OTHER_SEAL, "derwin_scope is not the one"),
        ],
        ids=["a table", "the seal"],
    )
    async def test_notices_what_is_damaged_there(self, own_database: TestDatabase, older: Any, damage: str, said: str) -> None:
        older()
        await asyncio.to_thread(run_sql, own_database.owner, damage, "SELECT 1")
        with pytest.raises(ConfigurationError, match=said):
            await Database(**own_database.urls).start()
        report = await examine(own_database.service, owner=own_database.owner)
        assert [check.name for check in report.checks if not check.ok] == ["fences"]

    async def test_is_ready_still_when_the_schema_moved_on(self, own_database: TestDatabase, older: Any) -> None:
        async with Database(**own_database.urls) as db:
            await seed_lifeline(db)
            older()
            assert await health_of(own_database, db) == (200, "newer, compatible")
            await note(own_database, Note(NEWEST, [NEWEST]).to_text())
            assert await health_of(own_database, db) == (503, "schema_out_of_date")
            async with db.project(LIFELINE) as session:  # what runs is not stopped
                await create_ticket(session)

    async def test_takes_nothing_back(self, own_database: TestDatabase, older: Any) -> None:
        older()
        with pytest.raises(SchemaOutOfDate, match="takes the newer version"):
            await asyncio.to_thread(downgrade, settings_of(own_database.owner), "-1")


class TestHalfway:
    def test_a_migration_that_stops_leaves_the_revision_before_and_goes_on_from_there(
        self, server: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = settings_of(server.migrated().owner)
        downgrade(settings, FORMER)
        told = "SELECT obj_description('public.derwin_alembic_version'::regclass, 'pg_class')"

        class Stopped(Exception):
            pass

        def stop(**_: Any) -> None:
            raise Stopped

        with monkeypatch.context() as patch:
            patch.setattr(compatibility, "leave_note", stop)  # the last thing that a revision does
            with pytest.raises(Stopped):
                upgrade(settings)
        seen = migrations.status(settings)
        assert (seen.current, seen.pending, seen.standing) == (FORMER, [NEWEST], Standing.OLDER)
        assert Note.parse(run_sql(settings.connection, told)[0][0]) == note_at(SCRIPTS, FORMER)
        assert upgrade(settings).standing is Standing.SAME


class TestNote:
    def test_is_left_by_each_revision(self, server: Any) -> None:
        settings = settings_of(server.migrated().owner)
        told = "SELECT obj_description('public.derwin_alembic_version'::regclass, 'pg_class')"
        assert Note.parse(run_sql(settings.connection, told)[0][0]) == note_at(SCRIPTS, NEWEST)
        downgrade(settings, FORMER)
        assert Note.parse(run_sql(settings.connection, told)[0][0]) == note_at(SCRIPTS, FORMER)
        upgrade(settings)
        assert Note.parse(run_sql(settings.connection, told)[0][0]) == note_at(SCRIPTS, NEWEST)

    def test_names_code_down_to_the_last_contract(self) -> None:
        chain = [script.revision for script in SCRIPTS.walk_revisions()]
        last = next(place for place, name in enumerate(chain) if step_of(SCRIPTS.get_revision(name)) == "contract")
        assert code_that_runs(SCRIPTS, chain[0]) == chain[: last + 1]
        assert code_that_runs(SCRIPTS, chain[last]) == [chain[last]]

    def test_every_revision_says_its_step(self) -> None:
        assert {step_of(script) for script in SCRIPTS.walk_revisions()} == {"expand", "contract"}
        later = [script for script in SCRIPTS.walk_revisions() if script.revision not in compatibility.STEPS_OF_BEFORE]
        assert all(script.module.step in ("expand", "contract") for script in later)

    def test_one_that_says_nothing_is_refused(self) -> None:
        silent: Any = SimpleNamespace(revision="0", module=SimpleNamespace())
        with pytest.raises(ConfigurationError, match="does not say what it is"):
            step_of(silent)


class TestStanding:
    def test_of_what_has_no_schema_and_of_what_has_several(self) -> None:
        assert [schema_of(revision, None).standing for revision in (None, "", "a, b")] == [
            Standing.MISSING,
            Standing.MISSING,
            Standing.UNCLEAR,
        ]

    @pytest.mark.parametrize(
        "note",
        [
            Note("another", [NEWEST, FORMER, sql.HEAD_REVISION]).to_text(),
            json.dumps({"revision": "newer"}),
            json.dumps(["newer"]),
            "not for programs",
        ],
    )
    def test_a_note_that_does_not_count(self, note: str) -> None:
        assert schema_of("newer", note).standing is Standing.NEWER
        assert schema_of("newer", Note("newer", [sql.HEAD_REVISION]).to_text()).standing is Standing.COMPATIBLE

    def test_known_revisions_are_those_of_alembic(self) -> None:
        assert revisions.known_revisions() == {script.revision for script in SCRIPTS.walk_revisions()}
