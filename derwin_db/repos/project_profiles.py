"""project_profiles: what is known of the product, and its history by replay of the evolution log."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Any, ClassVar, Literal, Unpack
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter

from derwin_db.errors import InvalidInput, NotFound, StaleWrite
from derwin_db.fields.scalars import ShortText, new_id
from derwin_db.models.profile_evolution_log import PatchOperation, ProfileChange, ProfileEvolutionLog
from derwin_db.models.project_profile import ProjectProfile, ProjectProfileCreate, ProjectProfileFields, ProjectProfileUpdate
from derwin_db.paging import Page
from derwin_db.query.builders import insert_of_project, next_timestamp, param, scoped, table_of
from derwin_db.query.statement import Statement, command, entities, tuples
from derwin_db.repos.base import TimeFilters, WritableRepository
from derwin_db.repos.rules.patching import Replay, make_patch, refused_log
from derwin_db.repos.validation import check_id, check_input, check_version, checked
from derwin_db.session import ProjectSession, project_session

_PROFILES = table_of(ProjectProfile)
_LOG = table_of(ProfileEvolutionLog)
_CONTENT = tuple(ProjectProfileFields.model_fields)

_SHORT: TypeAdapter[str] = TypeAdapter(ShortText)
_CHANGE: TypeAdapter[ProfileChange] = TypeAdapter(ProfileChange)

_HISTORY_ENTRIES = 500
_HISTORY_BYTES = 16 * 1024 * 1024
"""What is read of the log at once. No change that this package writes is larger."""


class ProjectProfileFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""


ProjectProfileOrder = Literal["-created_at", "created_at"]
"""Orders of `list`: `-` says that the greatest comes first."""


class ProjectProfiles(WritableRepository[ProjectProfile]):
    """The profile of the project: at most one row, whose every version can be read back."""

    model = ProjectProfile
    create_model: ClassVar[type[ProjectProfileCreate]] = ProjectProfileCreate
    update_model: ClassVar[type[ProjectProfileUpdate]] = ProjectProfileUpdate
    filters = ProjectProfileFilters
    orders = ProjectProfileOrder

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: ProjectProfileOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[ProjectProfileFilters],
    ) -> Page[ProjectProfile]:
        """Return a page.

        Order:
            Newest first.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page(session, limit, cursor, filters, order=order, with_total=with_total)

    def stream(self, session: ProjectSession, **filters: Unpack[ProjectProfileFilters]) -> AsyncIterator[ProjectProfile]:
        """Iterate over all rows.

        Order:
            Newest first.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[ProjectProfileFilters]) -> int:
        """Count the rows.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        return await self._count(session, filters)

    async def create(self, session: ProjectSession, data: ProjectProfileCreate, *, actor: str, reason: str) -> ProjectProfile:
        """Write the first version, and its CREATED entry in the evolution log.

        Errors:
            Conflict where there is a profile.

        Cost:
            Two statements.
        """
        who = _who(actor, reason)
        row = await self._insert(session, data, version=1)
        patch = await asyncio.to_thread(lambda: make_patch({}, _content(row)))
        await _log(session, row.id, ProfileChange.CREATED, patch, to_version=1, who=who)
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

        Cost:
            Three statements; one where nothing is new.
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

        Cost:
            Those of `at_version`, and three.
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
            NotFound; DerwinError for a log that holds what this package does not write.

        Cost:
            Two statements, one more for every 500 versions or 16 MB of changes, and the log up to that version.
        """
        wanted = check_version(version, "version")
        row = await self.current(session)
        if wanted > row.version:
            raise NotFound("The profile has no such version.")
        replay, reached = Replay(), 0
        while reached < wanted:
            entries = await project_session(session).fetch(_history_statement(), {"after": reached, "version": wanted})
            if not entries:
                raise refused_log()
            await asyncio.to_thread(replay.apply_texts, [patch for _, patch, _ in entries])
            reached, _, row.updated_at = entries[-1]
        fields = await asyncio.to_thread(_fields_of, replay.content)
        for name in _CONTENT:
            setattr(row, name, getattr(fields, name))
        row.version = wanted
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
        patch = await asyncio.to_thread(_difference, row, changed)
        if patch is None:
            return row
        written = await project_session(session).fetch(
            self._update_statement(frozenset(changed), guarded=True),
            {**changed, "id": row.id, "expected_version": row.version},
        )
        await _log(session, row.id, why, patch, to_version=row.version + 1, doc_id=doc_id, who=who)
        return written[0]


def _difference(row: ProjectProfile, changed: dict[str, Any]) -> Sequence[PatchOperation] | None:
    """Return the patch that the changed fields make, or None where they change nothing. Long for a large profile."""
    before = _content(row)
    after = {**before, **_content(ProjectProfileUpdate(**changed), changed)}
    if before == after and json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True):
        return None
    return make_patch(before, after)


def _fields_of(content: Any) -> ProjectProfileCreate:
    """Return what a replayed content says.

    Errors:
        DerwinError.
    """
    try:
        return ProjectProfileCreate.model_validate(content)
    except ValueError:
        raise refused_log() from None


def _who(actor: str, reason: str) -> dict[str, str]:
    return {"actor": checked(_SHORT, actor, "actor"), "reason": checked(_SHORT, reason, "reason")}


def _content(row: Any, names: Any = _CONTENT) -> dict[str, Any]:
    """Return the fields as JSON: what the patches of the log are about."""
    shapes = {name: _PROFILES.c[name].type for name in names}
    return {
        name: json.loads(shape.adapter.dump_json(getattr(row, name))) if hasattr(shape, "adapter") else getattr(row, name)
        for name, shape in shapes.items()
    }


async def _log(
    session: ProjectSession,
    profile_id: UUID,
    change: ProfileChange,
    patch: Sequence[PatchOperation],
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
        "patch": patch,
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
    """Select the next entries of the log, as text, as many as fit into what one call may take."""
    text = sa.cast(_LOG.c.patch, sa.Text)
    page = scoped(ProfileEvolutionLog, _LOG.c.to_version, text.label("patch"), _LOG.c.created_at)
    page = page.where(
        _LOG.c.to_version > param("after", _LOG.c.to_version), _LOG.c.to_version <= param("version", _LOG.c.to_version)
    )
    entries = page.order_by(_LOG.c.to_version).limit(_HISTORY_ENTRIES).subquery("entries")
    size = sa.func.sum(sa.func.octet_length(entries.c.patch)).over(order_by=entries.c.to_version)
    sized = sa.select(entries, size.label("size")).subquery("sized")
    query = sa.select(sized.c.to_version, sized.c.patch, sized.c.created_at).where(sized.c.size <= _HISTORY_BYTES)
    return tuples("project_profiles.at_version", query.order_by(sized.c.to_version))


@cache
def _log_statement() -> Statement[None]:
    names = ("id", "profile_id", "from_version", "to_version", "change", "actor", "reason", "patch", "doc_id")
    values: dict[str, Any] = {name: param(name, _LOG.c[name]) for name in names}
    values["created_at"] = next_timestamp(ProfileEvolutionLog)
    return command("project_profiles.evolve", insert_of_project(ProfileEvolutionLog, values))
