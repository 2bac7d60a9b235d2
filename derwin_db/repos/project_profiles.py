"""project_profiles: what is known of the product, and its history by replay of the evolution log."""

import json
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Any, ClassVar, Unpack
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter

from derwin_db.errors import InvalidInput, NotFound, StaleWrite
from derwin_db.fields.scalars import ShortText, new_id
from derwin_db.models.profile_evolution_log import PatchOperation, ProfileChange, ProfileEvolutionLog
from derwin_db.models.project_profile import ProjectProfile, ProjectProfileCreate, ProjectProfileFields, ProjectProfileUpdate
from derwin_db.paging import Page
from derwin_db.query.builders import next_timestamp, param, scoped, table_of
from derwin_db.query.guard import PROJECT
from derwin_db.query.statement import Statement, command, entities, tuples
from derwin_db.repos.base import TimeFilters, WritableRepository
from derwin_db.repos.validation import check_id, check_input, check_version, checked
from derwin_db.session import ProjectSession, project_session

_PROFILES = table_of(ProjectProfile)
_LOG = table_of(ProfileEvolutionLog)
_CONTENT = tuple(ProjectProfileFields.model_fields)

_SHORT: TypeAdapter[str] = TypeAdapter(ShortText)
_CHANGE: TypeAdapter[ProfileChange] = TypeAdapter(ProfileChange)
_PATCH: TypeAdapter[list[PatchOperation]] = TypeAdapter(list[PatchOperation])


class ProjectProfileFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""


class ProjectProfiles(WritableRepository[ProjectProfile]):
    """The profile of the project: at most one row, whose every version can be read back."""

    model = ProjectProfile
    create_model: ClassVar[type[ProjectProfileCreate]] = ProjectProfileCreate
    update_model: ClassVar[type[ProjectProfileUpdate]] = ProjectProfileUpdate
    filters = ProjectProfileFilters

    async def list(
        self, session: ProjectSession, *, limit: int = 50, cursor: str | None = None, **filters: Unpack[ProjectProfileFilters]
    ) -> Page[ProjectProfile]:
        """Return a page.

        Order:
            Newest first.
        """
        return await self._page(session, limit, cursor, filters)

    def stream(self, session: ProjectSession, **filters: Unpack[ProjectProfileFilters]) -> AsyncIterator[ProjectProfile]:
        """Iterate over all rows.

        Order:
            Newest first.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[ProjectProfileFilters]) -> int:
        """Count the rows."""
        return await self._count(session, filters)

    async def create(self, session: ProjectSession, data: ProjectProfileCreate, *, actor: str, reason: str) -> ProjectProfile:
        """Write the first version, and its CREATED entry in the evolution log.

        Errors:
            Conflict where there is a profile.
        """
        who = _who(actor, reason)
        row = await self._insert(session, data, version=1)
        await _log(session, row.id, ProfileChange.CREATED, {}, _content(row), to_version=1, who=who)
        return row

    async def current(self, session: ProjectSession) -> ProjectProfile:
        """Return the profile at its newest version.

        Errors:
            NotFound.

        Cost:
            One statement.
        """
        rows = await project_session(session).fetch(_current_statement(), {})
        if not rows:
            raise NotFound("The project has no profile yet.")
        return rows[0]

    async def evolve(
        self,
        session: ProjectSession,
        data: ProjectProfileUpdate,
        *,
        change: ProfileChange,
        actor: str,
        reason: str,
        expected_version: int,
        doc_id: UUID | None = None,
    ) -> ProjectProfile:
        """Change the fields that are set: a new version, and a JSON Patch in the log. Nothing new changes and logs nothing.

        Errors:
            NotFound, StaleWrite, InvalidReference (doc_id), InvalidInput for CREATED and ROLLBACK, which have verbs of their
            own.

        Locks:
            The profile's row, until the end of the unit.
        """
        why = checked(_CHANGE, change, "change")
        if why in (ProfileChange.CREATED, ProfileChange.ROLLBACK):
            raise InvalidInput("change: CREATED and ROLLBACK are written by `create` and `roll_back`.")
        check_input(data, ProjectProfileUpdate)
        who = _who(actor, reason)
        source = None if doc_id is None else check_id(doc_id, "doc_id")
        row = await self._locked(session, expected_version)
        changed = {name: getattr(data, name) for name in _CONTENT if name in data.model_fields_set}
        return await self._write(session, row, changed, why, who, source)

    async def roll_back(
        self, session: ProjectSession, to_version: int, *, actor: str, reason: str, expected_version: int
    ) -> ProjectProfile:
        """Take the content of a former version as a new version.

        Errors:
            NotFound, StaleWrite.

        Locks:
            As `evolve`.
        """
        who = _who(actor, reason)
        version = check_version(to_version, "to_version")
        row = await self._locked(session, expected_version)
        former = await self.at_version(session, version)
        changed = {name: getattr(former, name) for name in _CONTENT}
        return await self._write(session, row, changed, ProfileChange.ROLLBACK, who, None)

    async def at_version(self, session: ProjectSession, version: int) -> ProjectProfile:
        """Return the profile as it was at a version, replayed from the log.

        Errors:
            NotFound.

        Cost:
            Two statements, and the log up to that version.
        """
        import jsonpatch

        wanted = check_version(version, "version")
        row = await self.current(session)
        entries = await project_session(session).fetch(_history_statement(), {"version": wanted})
        if not entries or entries[-1][0] != wanted:
            raise NotFound("The profile has no such version.")
        content: Any = {}
        for _, patch, _ in entries:
            content = jsonpatch.apply_patch(content, _PATCH.dump_python(patch, mode="json"), in_place=True)
        fields = ProjectProfileCreate.model_validate(content)
        for name in _CONTENT:
            setattr(row, name, getattr(fields, name))
        row.version, row.updated_at = wanted, entries[-1][2]
        return row

    async def _locked(self, session: ProjectSession, expected_version: int) -> ProjectProfile:
        expected = check_version(expected_version)
        rows = await project_session(session).fetch(_lock_statement(), {})
        if not rows:
            raise NotFound("The project has no profile yet.")
        if rows[0].version != expected:
            raise StaleWrite
        return rows[0]

    async def _write(
        self,
        session: ProjectSession,
        row: ProjectProfile,
        changed: dict[str, Any],
        why: ProfileChange,
        who: dict[str, str],
        doc_id: UUID | None,
    ) -> ProjectProfile:
        before = _content(row)
        after = {**before, **_content(ProjectProfileUpdate(**changed), changed)}
        if before == after and json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True):
            return row
        written = await project_session(session).fetch(
            self._update_statement(frozenset(changed), guarded=True),
            {**changed, "id": row.id, "expected_version": row.version},
        )
        await _log(session, row.id, why, before, after, to_version=row.version + 1, doc_id=doc_id, who=who)
        return written[0]


def _who(actor: str, reason: str) -> dict[str, str]:
    return {"actor": checked(_SHORT, actor, "actor"), "reason": checked(_SHORT, reason, "reason")}


def _content(row: Any, names: Any = _CONTENT) -> dict[str, Any]:
    """Return the fields as JSON: what the patches of the log are about."""
    shapes = {name: _PROFILES.c[name].type for name in names}
    return {
        name: json.loads(shape.adapter.dump_json(getattr(row, name))) if hasattr(shape, "adapter") else getattr(row, name)
        for name, shape in shapes.items()
    }


def make_patch(before: dict[str, Any], after: dict[str, Any]) -> Sequence[PatchOperation]:
    """Return the JSON Patch (RFC 6902) that leads from one content to the other."""
    import jsonpatch

    return _PATCH.validate_python(list(jsonpatch.make_patch(before, after)))


async def _log(
    session: ProjectSession,
    profile_id: UUID,
    change: ProfileChange,
    before: dict[str, Any],
    after: dict[str, Any],
    *,
    to_version: int,
    who: dict[str, str],
    doc_id: UUID | None = None,
) -> None:
    values = {
        "id": new_id(),
        "profile_id": profile_id,
        "from_version": to_version - 1,
        "to_version": to_version,
        "change": change,
        **who,
        "patch": make_patch(before, after),
        "doc_id": doc_id,
    }
    await project_session(session).execute(_log_statement(), values)


@cache
def _current_statement() -> Statement[ProjectProfile]:
    return entities("project_profiles.current", scoped(ProjectProfile), ProjectProfile)


@cache
def _lock_statement() -> Statement[ProjectProfile]:
    return entities("project_profiles.evolve", scoped(ProjectProfile).with_for_update(key_share=True), ProjectProfile)


@cache
def _history_statement() -> Statement[tuple[Any, ...]]:
    query = scoped(ProfileEvolutionLog, _LOG.c.to_version, _LOG.c.patch, _LOG.c.created_at)
    query = query.where(_LOG.c.to_version <= param("version", _LOG.c.to_version)).order_by(_LOG.c.to_version)
    return tuples("project_profiles.at_version", query)


@cache
def _log_statement() -> Statement[None]:
    names = ("id", "profile_id", "from_version", "to_version", "change", "actor", "reason", "patch", "doc_id")
    values = {name: param(name, _LOG.c[name]) for name in names}
    query = sa.insert(_LOG).values(project_id=PROJECT, created_at=next_timestamp(ProfileEvolutionLog), **values)
    return command("project_profiles.evolve", query)
