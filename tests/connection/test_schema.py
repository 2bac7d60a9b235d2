"""How a revision, and the note at its table, stand to this code. No server is asked."""

import json

import pytest

from derwin_db import sql
from derwin_db.connection.schema import Note, Standing, schema_of
from derwin_db.errors import SchemaOutOfDate
from derwin_db.sql.revisions import known_revisions

HEAD = sql.HEAD_REVISION
OLDER = min(known_revisions() - {HEAD})
FUNCTIONS = {"derwin_open": "1f2e"}


def note(**changed: object) -> str:
    return json.dumps({"revision": "later", "runs": ["another", HEAD], "functions": FUNCTIONS, **changed})


class TestStanding:
    @pytest.mark.parametrize(
        ("revision", "text", "standing"),
        [
            (None, None, Standing.MISSING),
            ("", None, Standing.MISSING),
            (f"{OLDER}, {HEAD}", None, Standing.UNCLEAR),
            (HEAD, None, Standing.SAME),
            (HEAD, note(revision=HEAD, runs=[]), Standing.SAME),
            (OLDER, note(revision=OLDER), Standing.OLDER),
            ("later", note(), Standing.COMPATIBLE),
            ("later", None, Standing.NEWER),
            ("later", note(revision="another"), Standing.NEWER),
            ("later", note(runs=["another"]), Standing.NEWER),
        ],
    )
    def test_is_told_by_the_revision_and_its_note(self, revision: str | None, text: str | None, standing: Standing) -> None:
        schema = schema_of(revision, text)
        assert schema.standing is standing
        assert schema.functions == (FUNCTIONS if standing is Standing.COMPATIBLE else {})
        assert schema.serves is (standing in (Standing.SAME, Standing.COMPATIBLE))
        if schema.serves:
            schema.require()
        else:
            with pytest.raises(SchemaOutOfDate) as refused:
                schema.require()
            assert refused.value.message == schema.sentence
        assert "{" not in schema.sentence
        assert revision is None or revision in schema.sentence

    @pytest.mark.parametrize(
        "text",
        [
            *("", "no JSON", "5", '"later"', "[]", "{}", '{"revision": "later"}', '{"runs": []}'),
            *(note(runs=None), note(runs=5), note(functions=5), note(functions=["derwin_open"]), note(functions=None)),
        ],
    )
    def test_of_a_note_that_can_not_be_understood_is_that_of_none(self, text: str) -> None:
        assert Note.parse(text) is None
        assert schema_of("later", text).standing is Standing.NEWER


class TestNote:
    def test_is_read_as_it_was_written(self) -> None:
        written = Note("later", ["another", HEAD], FUNCTIONS)
        assert Note.parse(written.to_text()) == written

    def test_of_before_functions_were_noted_has_none(self) -> None:
        assert Note.parse(json.dumps({"revision": "later", "runs": [HEAD]})) == Note("later", [HEAD], {})
