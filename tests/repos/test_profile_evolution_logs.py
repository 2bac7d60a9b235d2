"""profile_evolution_logs: patches that lead from any version to the next, whatever the content; append-only."""

import json
from typing import Any

import jsonpatch
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from derwin_db import ProjectSession, repos
from derwin_db.errors import AppendOnlyViolation
from derwin_db.models import CriticalFlow, DomainOntology, OntologyEntity, OntologyRelation, PatchOperation
from derwin_db.repos.rules.patching import make_patch
from tests.repos.rows import a_profile

NAMES = st.sampled_from(["", "a", "b", "a/b", "~", "~1", "é", "0", "-", "A b"])
SHORT = st.sampled_from(["a", "b", "a/b", "~0", "é", "0", "-"])
SCORE = st.sampled_from([0, 0.5, 1, 1.0])
CONTENT = st.fixed_dictionaries(
    {
        "summary": NAMES,
        "domain_ontology": st.builds(
            DomainOntology,
            entities=st.lists(st.builds(OntologyEntity, name=SHORT, attributes=st.lists(SHORT, max_size=4)), max_size=4),
            relations=st.lists(st.builds(OntologyRelation, source=SHORT, name=SHORT, target=SHORT), max_size=3),
            invariants=st.lists(SHORT, max_size=5),
        ),
        "risk_weights": st.dictionaries(SHORT, SCORE, max_size=4),
        "critical_flows": st.lists(
            st.builds(CriticalFlow, name=SHORT, steps=st.lists(SHORT, max_size=5), risk=SCORE, owner=st.none() | SHORT),
            max_size=4,
        ),
        "glossary": st.dictionaries(SHORT, NAMES, max_size=4),
    }
).map(lambda values: json.loads(a_profile(**values).model_dump_json()))


class TestPatch:
    @settings(max_examples=300, deadline=None)
    @given(CONTENT, CONTENT)
    def test_leads_from_one_content_to_the_other(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        patch = [operation.model_dump() for operation in make_patch(before, after)]
        copied = json.loads(json.dumps(before))
        assert jsonpatch.apply_patch(copied, patch) == after
        assert (patch == []) == (before == after)

    def test_holds_what_rfc_6902_asks_for_and_no_more(self) -> None:
        (move,) = make_patch({"a": {"x": 1}}, {"b": {"x": 1}})
        assert move.model_dump() == {"op": "move", "from": "/a", "path": "/b"}
        (replace,) = make_patch({"a": 1}, {"a": None})
        assert replace.model_dump() == {"op": "replace", "path": "/a", "value": None}
        (remove,) = make_patch({"a": 1}, {})
        assert json.loads(remove.model_dump_json()) == {"op": "remove", "path": "/a"}

    def test_reads_what_it_wrote(self) -> None:
        for operation in make_patch({"a": 1, "b": [1, 2]}, {"c": 1, "b": [2, None]}):
            assert PatchOperation.model_validate_json(operation.model_dump_json()) == operation


class TestAppendOnly:
    @pytest.mark.parametrize("verb", ["UPDATE profile_evolution_logs SET actor = 'x'", "DELETE FROM profile_evolution_logs"])
    async def test_raw_sql_is_refused(self, session: ProjectSession, verb: str) -> None:
        await repos.project_profiles.create(session, a_profile(), actor="ada", reason="a test")
        with pytest.raises(AppendOnlyViolation):
            async with session.savepoint():
                await session.sql.execute(sa.text(verb))
        assert await repos.profile_evolution_logs.count(session) == 1
