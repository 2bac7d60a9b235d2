"""What follows from the facts of a server, without one."""

from dataclasses import replace

import pytest

from derwin_db.connection.facts import ServerFacts
from derwin_db.errors import DerwinError, ExtensionMissing, IsolationNotEnforced, SchemaOutOfDate
from derwin_db.isolation.preamble import ScopeForm
from derwin_db.settings.url import ConnectionInfo
from derwin_db.sql import HEAD_REVISION

FACTS = ServerFacts(
    backend_pid=1,
    is_standby=False,
    version=170002,
    activity_query_size=1024,
    is_distributed=False,
    vector_version="0.8.0",
    vector_schema="public",
    has_vector_grant=True,
    is_sealed=True,
    is_sharded=False,
    has_schema=True,
    has_fences=True,
    has_grants=True,
    has_former_grants=False,
    schema_note=None,
    is_privileged=False,
    stored_settings=(),
    own_settings={},
    revision=HEAD_REVISION,
    may_become_admin=False,
    missing_fences=(),
    is_behind_pooler=False,
    keeps_statements=True,
)


class TestFences:
    @pytest.mark.parametrize("version", ["0.8.0", "0.8", "0.8.1", "0.10.0", "1.0.0"])
    def test_stand_with_every_pgvector_from_0_8_on(self, version: str) -> None:
        replace(FACTS, vector_version=version).require_fences()

    @pytest.mark.parametrize(
        ("changed", "error", "said"),
        [
            ({"vector_version": "0.7.4"}, ExtensionMissing, "pgvector 0.7.4 is installed"),
            ({"vector_version": None}, ExtensionMissing, ""),
            ({"has_vector_grant": False, "vector_schema": "extensions"}, ExtensionMissing, "in the schema extensions"),
            ({"missing_fences": ("one", "another")}, IsolationNotEnforced, "one; another"),
            ({"has_grants": False, "missing_fences": ("all",)}, IsolationNotEnforced, "all"),
            ({"has_grants": False, "has_former_grants": True, "revision": "0001"}, SchemaOutOfDate, ""),
            ({"has_fences": False, "has_grants": False, "revision": None}, SchemaOutOfDate, ""),
        ],
    )
    def test_are_asked_for_in_the_order_of_what_mends_them(
        self, changed: dict[str, object], error: type[DerwinError], said: str
    ) -> None:
        with pytest.raises(error) as refused:
            replace(FACTS, **changed).require_fences()  # type: ignore[arg-type]
        assert type(refused.value) is error
        assert said in refused.value.message


class TestWhatFollows:
    @pytest.mark.parametrize(
        ("sealed", "sharded", "form"),
        [
            (False, False, ScopeForm.PLAIN),
            (False, True, ScopeForm.PLAIN),
            (True, False, ScopeForm.SEALED),
            (True, True, ScopeForm.SHARDED),
        ],
    )
    def test_is_how_the_scope_is_held(self, sealed: bool, sharded: bool, form: ScopeForm) -> None:
        assert replace(FACTS, is_sealed=sealed, is_sharded=sharded).scope is form

    @pytest.mark.parametrize(
        ("schema", "path"),
        [(None, None), ("public", None), ("extensions", '"$user", public, "extensions"'), ('a"b', '"$user", public, "a""b"')],
    )
    def test_is_where_operators_are_looked_for(self, schema: str | None, path: str | None) -> None:
        assert replace(FACTS, vector_schema=schema).search_path() == path

    @pytest.mark.parametrize(("version", "major"), [(160000, 16), (169999, 16), (180001, 18)])
    def test_is_said_in_one_line(self, version: int, major: int) -> None:
        place = ConnectionInfo("db.example.com", 5433, "service", "derwin")
        said = replace(FACTS, version=version).summary(place)
        assert said == f"PostgreSQL {major}, {place.place}, project scope sealed"
        assert "PLAIN" in replace(FACTS, is_sealed=False).summary(place)

    def test_is_warned_of_and_of_the_owner_only_once(self) -> None:
        assert FACTS.warnings() == []
        said = replace(FACTS, is_standby=True, stored_settings=("a", "b"), is_privileged=True, may_become_admin=True).warnings()
        assert [word for one in said for word in ("standby", "(a, b)", "privileged", "derwin_admin too") if word in one] == [
            "standby", "(a, b)", "privileged"
        ]  # fmt: skip
        (both,) = replace(FACTS, may_become_admin=True).warnings()
        assert "may become derwin_admin too" in both
