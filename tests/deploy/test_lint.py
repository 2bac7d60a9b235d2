"""What squawk says about the SQL that each revision runs, in the transactions in which it runs it.

A rule that a revision breaks on purpose is excused for that revision alone, with the reason.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from derwin_db import sql
from derwin_db.deploy.compatibility import step_of
from derwin_db.deploy.migrations import alembic_config, upgrade
from derwin_db.settings import ConnectionInfo

from .conftest import ServerOf, settings_of

SQUAWK = shutil.which("squawk", path=str(Path(sys.executable).parent)) or "squawk"
OLDEST = "15"
EXCUSED = {
    "a1f0c3d95b27": {
        "prefer-text-field": "columns of enums are varchar(32) by contract, and their CHECK names the labels",
        "prefer-bigint-over-int": "versions and counts, none of them a key; byte_size is bigint",
    },
    "c3d58f0e7a42": {
        "ban-drop-function": "the trigger function that this very revision made",
        "ban-drop-column": "the bytes, each of them converted before: the point of the revision",
        "renaming-column": "the new column takes the old one's name, in the same transaction",
    },
    "e4b1d7a93c58": {
        "ban-drop-constraint": "the check on amounts comes back stricter, in the same transaction",
        "changing-column-type": "a scale that is taken away rewrites nothing",
    },
    "e4a7c05b91d3": {"renaming-object": "the new index takes the old one's name; no code names an index"},
    "d4b81e6fa935": {
        "ban-drop-constraint": "the index that stands by then keeps slugs unique as the constraint did",
        "renaming-object": "the new index takes the constraint's name, by which its errors are told",
    },
}


BREAKING = {
    "adding-not-nullable-field", "ban-drop-column", "ban-drop-database", "ban-drop-table", "changing-column-type",
    "renaming-column", "renaming-table",
}  # fmt: skip
"""Rules that no revision may be excused from that says of itself that code of before runs on it."""

NOTE = re.compile(r"""COMMENT ON TABLE public\.derwin_alembic_version IS '{"revision": "(\w+)\"""")
LIMIT = re.compile(r"SET (lock_timeout|statement_timeout) = ")

NOWHERE = ConnectionInfo(host="", port=0, user="", database="")


def complaints(script: str) -> set[str]:
    """Return the rules that a script breaks."""
    command = [SQUAWK, "--pg-version", OLDEST, "--reporter", "json", "--stdin-filepath", "revision.sql"]
    told = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert told.returncode in {0, 1}, told.stderr
    return {item["rule_name"] for item in json.loads(told.stdout)}


class Script:
    """Statements that are sent, with BEGIN and COMMIT where transactions begin and end, after what the session was told."""

    def __init__(self, before: Iterable[str] = ()) -> None:
        self._lines = list(before)
        self._is_open = False

    def note(self, connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        self._turn(is_open=connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT")
        self._lines.append(statement.strip().rstrip(";") + ";")

    def _turn(self, *, is_open: bool) -> None:
        if is_open != self._is_open:
            self._lines.append("BEGIN;" if is_open else "COMMIT;")
        self._is_open = is_open

    def text(self) -> str:
        self._turn(is_open=False)
        return "\n".join(self._lines)


@pytest.fixture(scope="module")
def scripts(server_of: ServerOf) -> dict[str, str]:
    """What each revision sends to the server on its way up. The last that it does is to leave a note."""
    settings = settings_of(server_of("18").empty().owner)
    found: dict[str, str] = {}
    limits: dict[str, str] = {}
    script = Script()

    def note(connection: Connection, cursor: object, statement: str, *more: object) -> None:
        nonlocal script
        script.note(connection, cursor, statement, *more)
        if ended := NOTE.match(statement):
            found[ended[1]], script = script.text(), Script(limits.values())
        elif limit := LIMIT.match(statement):
            limits[limit[1]] = f"{statement};"

    event.listen(Engine, "before_cursor_execute", note)
    try:
        upgrade(settings)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    steps = ScriptDirectory.from_config(alembic_config(settings)).walk_revisions()
    assert list(found) == [step.revision for step in steps][::-1]
    return found


class TestRevisions:
    def test_break_no_rule_that_is_not_excused(self, scripts: dict[str, str]) -> None:
        broken = {revision: complaints(script) for revision, script in scripts.items()}
        assert {revision: rules for revision, rules in broken.items() if rules} == {
            revision: set(rules) for revision, rules in EXCUSED.items()
        }

    def test_their_scripts_are_whole(self, scripts: dict[str, str]) -> None:
        words = {
            "a1f0c3d95b27": "CREATE TABLE public.qa_tickets",
            "b7e24a8c6d10": "CREATE POLICY",
            "c3d58f0e7a42": "embedding_new vector(1536)",
            "d92b6c41e8f5": "CREATE INDEX CONCURRENTLY",
            "e4b1d7a93c58": "NOT VALID",
            "e5a1c0947b3f": "FUNCTION public.derwin_open",
            "f7c2a90e6b14": "CREATE FUNCTION public.derwin_stamp_evidence",
            "e41a7c93d0b6": "ADD COLUMN bits bit(1536)",
            "f52b8da4e1c7": "CREATE INDEX CONCURRENTLY",
            "063c9eb5f2d8": "DROP INDEX CONCURRENTLY",
            "a8d3e51c7f26": "SET STATISTICS 0",
            "f5c2e8b04d69": "derwin_scope",
            "b9f4c62d8e37": "lo_create",
            "c1a7e94f3b60": "derwin_check_profile_log",
            "e4a7c05b91d3": "text_pattern_ops",
            "f3c9a1e07b52": "derwin_alembic_version",
            "a7d20c5e91f4": "start_key_rotation",
            "a6e0f4b82d15": "derwin_signs",
            "b5d27f1ce934": "derwin_check_status",
            "a6d18e52c0f7": "CREATE TABLE derwin.open_runs",
            "b8e4d02f6a17": "CREATE INDEX CONCURRENTLY",
            "d7b3f1a96c24": "derwin_end_process",
            "e81c5a37f0d2": "is_over",
            "c7f3a90d5e28": "FUNCTION public.derwin_words",
            "d4b81e6fa935": "lower(slug)",
            "e9d25c7b14f0": "derwin_check_profile_log",
            "b2f8d60a93e7": "is_of_this_unit",
        }
        assert words.keys() == scripts.keys()
        assert [revision for revision, word in words.items() if word not in scripts[revision]] == []


class TestFunctions:
    def test_hold_no_literal_that_a_setting_reads_otherwise(self) -> None:
        """The server reads them once a session, and keeps that: a backslash stands in literals alone that say so themselves."""
        bodies = {name: "".join(text.partition("AS $$")[2] for text in sql.read_current(name)) for name in sql.CURRENT}
        plain = re.compile(r"(?<!\bE)'(?:[^'\\]|'')*\\")
        code = {name: re.sub(r"--[^\n]*", "", re.sub(r"\bE'[^']*'", "", body)) for name, body in bodies.items()}
        assert [name for name, body in code.items() if plain.search(body)] == []


class TestExpanding:
    def test_takes_nothing_away_that_code_of_before_uses(self) -> None:
        steps = ScriptDirectory.from_config(alembic_config(settings_of(NOWHERE)))
        expanding = {step.revision for step in steps.walk_revisions() if step_of(step) == "expand"}
        assert {revision: set(rules) & BREAKING for revision, rules in EXCUSED.items() if revision in expanding} == {
            revision: set() for revision in expanding & EXCUSED.keys()
        }


class TestTheLint:
    """It sees what holds up traffic; a lint that says nothing would pass everything."""

    @pytest.mark.parametrize(
        ("script", "rule"),
        [
            ("BEGIN; CREATE INDEX ix ON public.qa_tickets (title); COMMIT;", "require-concurrent-index-creation"),
            (
                "BEGIN; CREATE INDEX CONCURRENTLY ix ON public.qa_tickets (title); COMMIT;",
                "ban-concurrent-index-creation-in-transaction",
            ),
            ("BEGIN; ALTER TABLE public.qa_tickets ALTER COLUMN title TYPE varchar(5); COMMIT;", "changing-column-type"),
            ("BEGIN; ALTER TABLE public.qa_tickets ALTER COLUMN title SET NOT NULL; COMMIT;", "adding-not-nullable-field"),
            (
                "BEGIN; ALTER TABLE public.qa_tickets ADD CONSTRAINT c CHECK (title <> ''); COMMIT;",
                "constraint-missing-not-valid",
            ),
            ("BEGIN; DROP TABLE public.qa_tickets; COMMIT;", "ban-drop-table"),
        ],
        ids=lambda value: value if " " not in value else "",
    )
    def test_sees(self, script: str, rule: str) -> None:
        assert rule in complaints(script)
