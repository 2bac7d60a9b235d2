"""project_profiles: one profile, every change of it in the log, every version read back by replay."""

from typing import Any

import jsonpatch
import pytest
from pydantic import ValidationError

from derwin_db import Database, ProjectSession, repos
from derwin_db.errors import Conflict, InvalidInput, InvalidReference, NotFound, StaleWrite
from derwin_db.fields.scalars import new_id
from derwin_db.models import (
    CriticalFlow,
    DomainOntology,
    OntologyEntity,
    ProfileChange,
    ProfileEvolutionLog,
    Project,
    ProjectProfile,
    ProjectProfileCreate,
    ProjectProfileUpdate,
)
from derwin_db.models.project_profile import ProjectProfileFields
from tests.repos.rows import a_doc, a_profile

WHO = {"actor": "ada", "reason": "a test"}
EDIT = {"change": ProfileChange.HUMAN_EDIT, **WHO}
CONTENT = set(ProjectProfileFields.model_fields)

NEW_VALUES = {
    "summary": "Another",
    "domain_ontology": DomainOntology(entities=[OntologyEntity(name="Invoice", attributes=["total"])]),
    "risk_weights": {"billing": 0.1, "reports": 0.2},
    "critical_flows": [CriticalFlow(name="pay", steps=[], risk=1.0), CriticalFlow(name="invoice", steps=["draft"], risk=0.8)],
    "glossary": {},
}


def content(row: ProjectProfile | ProjectProfileCreate) -> dict[str, Any]:
    return row.model_dump(mode="json", include=CONTENT)


async def entries(session: ProjectSession) -> list[ProfileEvolutionLog]:
    return (await repos.profile_evolution_logs.list(session)).items


@pytest.fixture
async def profile(session: ProjectSession) -> ProjectProfile:
    return await repos.project_profiles.create(session, a_profile(), **WHO)


class TestCreate:
    async def test_writes_version_1(self, session: ProjectSession, profile: ProjectProfile) -> None:
        assert profile.version == 1
        assert content(profile) == content(a_profile())
        assert profile.critical_flows[0].name == "invoice"
        assert await repos.project_profiles.current(session) == profile

    async def test_begins_the_log_with_a_patch_from_nothing(self, session: ProjectSession, profile: ProjectProfile) -> None:
        (entry,) = await entries(session)
        assert (entry.change, entry.from_version, entry.to_version) == (ProfileChange.CREATED, 0, 1)
        assert (entry.profile_id, entry.doc_id, entry.actor, entry.reason) == (profile.id, None, "ada", "a test")
        patch = [operation.model_dump() for operation in entry.patch]
        assert jsonpatch.apply_patch({}, patch) == content(profile)

    async def test_a_second_profile_conflicts(self, session: ProjectSession, profile: ProjectProfile) -> None:
        with pytest.raises(Conflict):
            async with session.savepoint():
                await repos.project_profiles.create(session, a_profile(), **WHO)
        assert len(await entries(session)) == 1

    @pytest.mark.parametrize("bad", [{"actor": ""}, {"reason": None}, {"data": ProjectProfileUpdate(summary="x")}])
    async def test_bad_input_is_refused(self, session: ProjectSession, bad: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput):
            await repos.project_profiles.create(session, **{"data": a_profile(), **WHO, **bad})


class TestCurrent:
    async def test_before_the_first_is_not_found(self, session: ProjectSession) -> None:
        with pytest.raises(NotFound):
            await repos.project_profiles.current(session)


class TestEvolve:
    @pytest.mark.parametrize("field", sorted(NEW_VALUES))
    async def test_changes_what_is_set_and_logs_the_patch(
        self, session: ProjectSession, profile: ProjectProfile, field: str
    ) -> None:
        data = ProjectProfileUpdate(**{field: NEW_VALUES[field]})
        row = await repos.project_profiles.evolve(session, data, expected_version=1, **EDIT)
        assert content(row) == {**content(profile), **data.model_dump(mode="json", include={field})}
        assert (row.version, row.id) == (2, profile.id)
        assert await repos.project_profiles.current(session) == row
        entry = (await entries(session))[0]
        assert (entry.change, entry.from_version, entry.to_version) == (ProfileChange.HUMAN_EDIT, 1, 2)
        assert {operation.path.split("/")[1] for operation in entry.patch} == {field}
        patch = [operation.model_dump() for operation in entry.patch]
        assert jsonpatch.apply_patch(content(profile), patch) == content(row)

    async def test_nothing_new_changes_and_logs_nothing(self, session: ProjectSession, profile: ProjectProfile) -> None:
        for data in (ProjectProfileUpdate(), ProjectProfileUpdate(**{name: getattr(profile, name) for name in CONTENT})):
            assert await repos.project_profiles.evolve(session, data, expected_version=1, **EDIT) == profile
        assert len(await entries(session)) == 1

    async def test_a_number_that_only_looks_the_same_is_nothing_new(self, session: ProjectSession) -> None:
        first = await repos.project_profiles.create(session, a_profile(risk_weights={"a": 1, "b": 0}), **WHO)
        data = ProjectProfileUpdate(risk_weights={"b": 0.0, "a": 1.0})
        assert (await repos.project_profiles.evolve(session, data, expected_version=1, **EDIT)).version == first.version

    async def test_names_the_document(self, session: ProjectSession, profile: ProjectProfile) -> None:
        doc = await repos.ingested_docs.ingest(session, a_doc())
        change = {**EDIT, "change": ProfileChange.DOC_INGESTED}
        data = ProjectProfileUpdate(summary="from the guide")
        await repos.project_profiles.evolve(session, data, expected_version=1, doc_id=doc.id, **change)
        assert (await entries(session))[0].doc_id == doc.id

    async def test_an_unknown_document_is_an_invalid_reference(self, session: ProjectSession, profile: ProjectProfile) -> None:
        data = ProjectProfileUpdate(summary="new")
        with pytest.raises(InvalidReference):
            async with session.savepoint():
                await repos.project_profiles.evolve(session, data, expected_version=1, doc_id=new_id(), **EDIT)
        assert await repos.project_profiles.current(session) == profile

    @pytest.mark.parametrize("version", [2, 7])
    async def test_another_version_is_stale(self, session: ProjectSession, profile: ProjectProfile, version: int) -> None:
        with pytest.raises(StaleWrite):
            await repos.project_profiles.evolve(session, ProjectProfileUpdate(summary="x"), expected_version=version, **EDIT)
        assert await repos.project_profiles.current(session) == profile

    async def test_without_a_profile_is_not_found(self, session: ProjectSession) -> None:
        with pytest.raises(NotFound):
            await repos.project_profiles.evolve(session, ProjectProfileUpdate(summary="x"), expected_version=1, **EDIT)

    @pytest.mark.parametrize(
        "bad",
        [
            {"change": ProfileChange.CREATED},
            {"change": ProfileChange.ROLLBACK},
            {"change": "EDIT"},
            {"expected_version": 0},
            {"expected_version": True},
            {"expected_version": None},
            {"doc_id": "x"},
            {"actor": " " * 501},
            {"data": a_profile()},
        ],
    )
    async def test_bad_input_is_refused_before_any_sql(self, db: Database, project: Project, bad: dict[str, Any]) -> None:
        async with db.project(project.id) as unit:
            given = {"data": ProjectProfileUpdate(summary="x"), "expected_version": 1, **EDIT, **bad}
            with pytest.raises(InvalidInput):
                await repos.project_profiles.evolve(unit, **given)
            assert unit._connection is None

    @pytest.mark.parametrize("field", sorted(CONTENT))
    def test_none_is_refused(self, field: str) -> None:
        with pytest.raises(ValidationError):
            ProjectProfileUpdate(**{field: None})


class TestAtVersion:
    async def test_every_version_is_read_back(self, session: ProjectSession, profile: ProjectProfile) -> None:
        versions = [profile]
        for field, value in NEW_VALUES.items():
            data = ProjectProfileUpdate(**{field: value})
            versions.append(await repos.project_profiles.evolve(session, data, expected_version=len(versions), **EDIT))
        for number, expected in enumerate(versions, start=1):
            row = await repos.project_profiles.at_version(session, number)
            assert (row.version, row.id) == (number, profile.id)
            assert content(row) == content(expected)
            assert isinstance(row.domain_ontology, DomainOntology)

    async def test_is_stamped_with_its_entry(self, session: ProjectSession, profile: ProjectProfile) -> None:
        await repos.project_profiles.evolve(session, ProjectProfileUpdate(summary="x"), expected_version=1, **EDIT)
        first = (await entries(session))[-1]
        assert (await repos.project_profiles.at_version(session, 1)).updated_at == first.created_at

    async def test_an_unknown_version_is_not_found(self, session: ProjectSession, profile: ProjectProfile) -> None:
        with pytest.raises(NotFound):
            await repos.project_profiles.at_version(session, 2)

    async def test_without_a_profile_is_not_found(self, session: ProjectSession) -> None:
        with pytest.raises(NotFound):
            await repos.project_profiles.at_version(session, 1)

    @pytest.mark.parametrize("version", [0, -1, True, "1", None, 2**31])
    async def test_what_is_no_version_is_refused(self, session: ProjectSession, version: Any) -> None:
        with pytest.raises(InvalidInput):
            await repos.project_profiles.at_version(session, version)


class TestRollBack:
    async def test_takes_the_former_content_as_a_new_version(self, session: ProjectSession, profile: ProjectProfile) -> None:
        for version, field in enumerate(NEW_VALUES, start=1):
            data = ProjectProfileUpdate(**{field: NEW_VALUES[field]})
            await repos.project_profiles.evolve(session, data, expected_version=version, **EDIT)
        third = await repos.project_profiles.at_version(session, 3)
        row = await repos.project_profiles.roll_back(session, 3, expected_version=6, **WHO)
        assert (row.version, content(row)) == (7, content(third))
        entry = (await entries(session))[0]
        assert (entry.change, entry.from_version, entry.to_version) == (ProfileChange.ROLLBACK, 6, 7)
        assert content(await repos.project_profiles.at_version(session, 7)) == content(third)
        assert content(await repos.project_profiles.at_version(session, 6)) != content(third)

    async def test_to_what_it_is_already_changes_and_logs_nothing(
        self, session: ProjectSession, profile: ProjectProfile
    ) -> None:
        assert await repos.project_profiles.roll_back(session, 1, expected_version=1, **WHO) == profile
        assert len(await entries(session)) == 1

    async def test_errors(self, session: ProjectSession, profile: ProjectProfile) -> None:
        with pytest.raises(StaleWrite):
            await repos.project_profiles.roll_back(session, 1, expected_version=2, **WHO)
        with pytest.raises(NotFound):
            await repos.project_profiles.roll_back(session, 2, expected_version=1, **WHO)
        with pytest.raises(InvalidInput):
            await repos.project_profiles.roll_back(session, 0, expected_version=1, **WHO)

    async def test_without_a_profile_is_not_found(self, session: ProjectSession) -> None:
        with pytest.raises(NotFound):
            await repos.project_profiles.roll_back(session, 1, expected_version=1, **WHO)
