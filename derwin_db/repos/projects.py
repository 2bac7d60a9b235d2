"""projects: the root. Written through the admin door; a project's own session reads it and changes its mode."""

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import cache
from typing import Any, Literal, Unpack
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter

from derwin_db.errors import Conflict, ProjectNotFound
from derwin_db.fields.scalars import ShortText, Slug, new_id, project_id_of
from derwin_db.filters import Filter
from derwin_db.models.audit_artifact import AuditArtifact
from derwin_db.models.enums import ComplianceMode, ProjectMode
from derwin_db.models.project import Project, ProjectCreate, ProjectType, ProjectUpdate
from derwin_db.models.project_mode_log import ProjectModeLog
from derwin_db.models.spend_ledger import SpendLedger
from derwin_db.paging import Page
from derwin_db.query.builders import insert_of_project, next_timestamp, param, scoped, scoped_update, table_of
from derwin_db.query.guard import PROJECT
from derwin_db.query.statement import Statement, command, entities, scalars
from derwin_db.repos.base import Reads, TimeFilters
from derwin_db.repos.rules import deletion
from derwin_db.repos.rules.retention import raised, retention_end
from derwin_db.repos.validation import check_flag, check_id, check_input, checked
from derwin_db.session import AdminSession, ProjectSession, admin_session, project_session

_PROJECTS = table_of(Project)
_ARTIFACTS = table_of(AuditArtifact)
_LEDGER = table_of(SpendLedger)
_MODE_LOG = table_of(ProjectModeLog)
_OPERATOR = "derwin_admin"

_MODE: TypeAdapter[ProjectMode] = TypeAdapter(ProjectMode)
_SHORT: TypeAdapter[str] = TypeAdapter(ShortText)
_SLUG: TypeAdapter[str] = TypeAdapter(Slug)

AnySession = ProjectSession | AdminSession
"""Reads take both: a project's session sees its own row, the admin door all."""


class ProjectFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    type: Filter[ProjectType]
    mode: Filter[ProjectMode]
    compliance_mode: Filter[ComplianceMode]


ProjectOrder = Literal["-created_at", "created_at", "slug", "-slug"]
"""Orders of `list`: `-` says that the greatest comes first."""


class _Reads(Reads[Project]):
    """Reads of a project's session: its own row."""

    model = Project
    filters = ProjectFilters
    orders = ProjectOrder

    def _listed(self) -> Sequence[sa.ColumnElement[bool]]:
        return (_PROJECTS.c.archived_at.is_(None),)


class _AdminReads(_Reads):
    """Reads of the admin door: all rows."""

    _is_scoped = False

    def _session(self, session: Any) -> Any:
        return admin_session(session)

    def _select(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        return sa.select(*(columns or _PROJECTS.c)).select_from(_PROJECTS)


class Projects:
    """The projects. Reads take both kinds of session; what writes says which."""

    model = Project
    filters = ProjectFilters
    orders = ProjectOrder

    def __init__(self) -> None:
        self._reads = _Reads()
        self._admin_reads = _AdminReads()

    def _reads_of(self, session: AnySession, verb: str) -> Any:
        if type(session) is AdminSession:
            session.note(f"projects.{verb}")
            return self._admin_reads
        project_session(session)
        return self._reads

    # --- reads --------------------------------------------------------------------------------------------------------

    async def get(self, session: AnySession, id: UUID) -> Project:
        """Return the project.

        Errors:
            ProjectNotFound.

        Cost:
            One statement, primary key.
        """
        row = await self.find(session, id)
        if row is None:
            raise ProjectNotFound
        return row

    async def find(self, session: AnySession, id: UUID) -> Project | None:
        """Return the project, or None.

        Cost:
            One statement, primary key.
        """
        found: Project | None = await self._reads_of(session, "find").find(session, id)
        return found

    async def get_many(self, session: AnySession, ids: Iterable[UUID]) -> dict[UUID, Project]:
        """Return the projects of up to 1,000 ids, by id; those that are not there are left out.

        Errors:
            InvalidInput, TooLarge above 1,000.

        Cost:
            One statement, primary key; none for no ids.
        """
        found: dict[UUID, Project] = await self._reads_of(session, "get_many").get_many(session, ids)
        return found

    async def exists(self, session: AnySession, id: UUID) -> bool:
        """Tell whether the project exists.

        Cost:
            One statement, primary key.
        """
        found: bool = await self._reads_of(session, "exists").exists(session, id)
        return found

    async def get_by_slug(self, session: AnySession, slug: str) -> Project:
        """Return the project of this slug.

        Errors:
            ProjectNotFound, InvalidInput.

        Cost:
            One statement, primary key.
        """
        return await self.get(session, project_id_of(checked(_SLUG, slug, "slug")))

    async def list(
        self,
        session: AnySession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: ProjectOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[ProjectFilters],
    ) -> Page[Project]:
        """Return a page of projects that are not archived.

        Order:
            Newest first, or by `slug`, through its index.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        page: Page[Project] = await self._reads_of(session, "list").list(
            session, limit, cursor, filters, order=order, with_total=with_total
        )
        return page

    def stream(self, session: AnySession, **filters: Unpack[ProjectFilters]) -> AsyncIterator[Project]:
        """Iterate over all projects, archived ones too.

        Order:
            Newest first.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        rows: AsyncIterator[Project] = self._reads_of(session, "stream").stream(session, filters)
        return rows

    async def count(self, session: AnySession, **filters: Unpack[ProjectFilters]) -> int:
        """Count projects, archived ones too.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        total: int = await self._reads_of(session, "count").count(session, filters)
        return total

    # --- a project's own session --------------------------------------------------------------------------------------

    async def current(self, session: ProjectSession) -> Project:
        """Return the session's project.

        Cost:
            One statement, primary key.
        """
        session = project_session(session)
        return await self.get(session, session.project_id)

    async def set_mode(self, session: ProjectSession, mode: ProjectMode, *, actor: str, reason: str) -> Project:
        """Change the mode and write the log of it. The mode that it has already changes nothing and logs nothing.

        Locks:
            The project's row, until the end of the unit.

        Cost:
            Three statements; one where the mode is the same.
        """
        session = project_session(session)
        wanted = checked(_MODE, mode, "mode")
        log = {"actor": checked(_SHORT, actor, "actor"), "reason": checked(_SHORT, reason, "reason")}
        present = await session.fetch(_lock_statement(), {})
        if not present:
            raise ProjectNotFound
        if present[0].mode == wanted:
            return present[0]
        row = (await session.fetch(_set_mode_statement(), {"mode": wanted}))[0]
        await session.execute(
            _log_mode_statement(is_scoped=True), {"log_id": new_id(), "from_mode": present[0].mode, "to_mode": wanted, **log}
        )
        return row

    # --- the admin door -----------------------------------------------------------------------------------------------

    async def create(self, session: AdminSession, data: ProjectCreate) -> Project:
        """Create a project and the first entry of its mode log.

        Errors:
            Conflict for a slug that is taken, or whose ledger is still on the books.

        Cost:
            Three statements.
        """
        admin_session(session).note("projects.create")
        check_input(data, ProjectCreate)
        project_id = project_id_of(data.slug)
        if await session.fetch(_has_ledger_statement(), {"id": project_id}):
            reads: Any = self._admin_reads  # they take this kind of session
            if await reads.exists(session, project_id):
                raise Conflict("A project with this slug exists already.")
            raise Conflict("The ledger of a former project with this slug is still on the books. Choose another slug.")
        values = {name: getattr(data, name) for name in ProjectCreate.model_fields}
        row = (await session.fetch(_create_statement(), {**values, "id": project_id}))[0]
        entry = {"from_mode": None, "to_mode": row.mode, "actor": _OPERATOR, "reason": session.reason}
        await session.execute(_log_mode_statement(is_scoped=False), {"log_id": new_id(), "project_id": project_id, **entry})
        return row

    async def update(self, session: AdminSession, id: UUID, data: ProjectUpdate) -> Project:
        """Change the fields that are set. A compliance mode that keeps longer raises the retention of what is there.

        Errors:
            ProjectNotFound.

        Locks:
            The project's row; with a compliance mode also against new rows of any kind, so that evidence which is recorded
            meanwhile waits and gets the new mode.

        Cost:
            One statement; four with a compliance mode.
        """
        admin_session(session).note("projects.update")
        project_id = check_id(id)
        check_input(data, ProjectUpdate)
        fields = tuple(name for name in ProjectUpdate.model_fields if name in data.model_fields_set)
        if not fields:
            return await self.get(session, project_id)
        values = {name: getattr(data, name) for name in fields}
        if "compliance_mode" in fields:
            await session.allow_long_statements()
            await deletion.lock_whole(session, project_id)
        rows = await session.fetch(_update_statement(fields), {**values, "id": project_id})
        if not rows:
            raise ProjectNotFound
        if "compliance_mode" in fields:
            await session.execute(_raise_retention_statement(), {"id": project_id, "compliance_mode": data.compliance_mode})
        return rows[0]

    async def archive(self, session: AdminSession, id: UUID) -> Project:
        """Leave the project out of `list`, and nothing else. Again, it changes nothing.

        Errors:
            ProjectNotFound.

        Cost:
            One statement.
        """
        admin_session(session).note("projects.archive")
        project_id = check_id(id)
        rows = await session.fetch(_archive_statement(), {"id": project_id})
        return rows[0] if rows else await self.get(session, project_id)

    async def delete(self, session: AdminSession, id: UUID, *, despite_retention: bool = False) -> dict[str, int]:
        """Delete the project and everything of it but the spend ledger. Returns how many rows went, by table.

        Errors:
            ProjectNotFound; RetentionLocked while evidence is on hold, or must be kept and `despite_retention` is not said.

        Cost:
            About 5 s for 300,000 rows; the limit is the setting delete_timeout.

        Locks:
            The project's row, so nothing is added meanwhile.
        """
        admin_session(session).note("projects.delete")
        may_go = check_flag(despite_retention, "despite_retention")
        gone = await deletion.remove(session, check_id(id), despite_retention=may_go)
        session.forget_project(id)
        return gone


# --- statements of a project's own session ----------------------------------------------------------------------------


@cache
def _lock_statement() -> Statement[Project]:
    return entities("projects.set_mode", scoped(Project).with_for_update(key_share=True), Project)


@cache
def _set_mode_statement() -> Statement[Project]:
    query = scoped_update(Project).values(mode=param("mode", _PROJECTS.c.mode), version=_PROJECTS.c.version + 1)
    return entities("projects.set_mode", query.returning(*_PROJECTS.c), Project)


@cache
def _log_mode_statement(*, is_scoped: bool) -> Statement[None]:
    names = ("from_mode", "to_mode", "actor", "reason")
    values: dict[str, Any] = {"id": param("log_id", _MODE_LOG.c.id), **{name: param(name, _MODE_LOG.c[name]) for name in names}}
    if not is_scoped:
        return command("projects.create", sa.insert(_MODE_LOG).values(project_id=PROJECT, **values), is_scoped=False)
    values["created_at"] = next_timestamp(ProjectModeLog)
    return command("projects.set_mode", insert_of_project(ProjectModeLog, values))


# --- statements of the admin door -------------------------------------------------------------------------------------

_ID = param("id", _PROJECTS.c.id)


@cache
def _has_ledger_statement() -> Statement[int]:
    query = sa.select(sa.literal(1)).select_from(_LEDGER).where(_LEDGER.c.project_id == _ID).limit(1)
    return scalars("projects.create", query, is_scoped=False)


@cache
def _create_statement() -> Statement[Project]:
    values = {name: param(name, _PROJECTS.c[name]) for name in ProjectCreate.model_fields}
    query = sa.insert(_PROJECTS).values(id=_ID, **values).returning(*_PROJECTS.c)
    return entities("projects.create", query, Project, is_scoped=False)


def _change(verb: str, *conditions: sa.ColumnElement[bool], **values: Any) -> Statement[Project]:
    query = sa.update(_PROJECTS).where(_PROJECTS.c.id == _ID, *conditions)
    query = query.values(version=_PROJECTS.c.version + 1, updated_at=sa.func.now(), **values)
    return entities(f"projects.{verb}", query.returning(*_PROJECTS.c), Project, is_scoped=False)


@cache
def _update_statement(fields: tuple[str, ...]) -> Statement[Project]:
    return _change("update", **{name: param(name, _PROJECTS.c[name]) for name in fields})


@cache
def _archive_statement() -> Statement[Project]:
    return _change("archive", _PROJECTS.c.archived_at.is_(None), archived_at=sa.func.now())


@cache
def _raise_retention_statement() -> Statement[None]:
    end = retention_end(_ARTIFACTS.c.created_at, param("compliance_mode", _PROJECTS.c.compliance_mode))
    query = (
        sa.update(_ARTIFACTS)
        .where(_ARTIFACTS.c.project_id == _ID, _ARTIFACTS.c.retention_until < end)
        .values(retention_until=raised(_ARTIFACTS.c.retention_until, end), updated_at=sa.func.now())
    )
    return command("projects.update", query, is_scoped=False)
