"""audit_artifacts: evidence, its retention, and the pruning of what has expired."""

import inspect
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import Any, ClassVar, Literal, Unpack
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from derwin_db.errors import InvalidInput, NotFound, ProjectNotFound
from derwin_db.fields.scalars import Id, Timestamp, new_id
from derwin_db.filters import Filter, OptionalFilter
from derwin_db.models.audit_artifact import ArtifactKind, AuditArtifact, AuditArtifactCreate, PruneResult
from derwin_db.models.enums import ComplianceMode
from derwin_db.models.project import Project
from derwin_db.paging import Page, check_limit
from derwin_db.query.builders import array_param, newest_of_each, param, scope_of, scoped, scoped_update, table_of
from derwin_db.query.statement import Statement, entities, scalars, tuples
from derwin_db.repos.base import TimeFilters, WritableRepository
from derwin_db.repos.rules.retention import retention_end
from derwin_db.repos.validation import check_id, check_ids, check_limit_each
from derwin_db.session import AdminSession, ProjectSession, admin_session, project_session

logger: logging.Logger = logging.getLogger("derwin_db.retention")

_ARTIFACTS = table_of(AuditArtifact)
_PROJECTS = table_of(Project)
_TURN = _ARTIFACTS.alias("turn")
_ID = param("id", _ARTIFACTS.c.id)

DeleteBlob = Callable[[AuditArtifact], object | Awaitable[object]]
"""Removes what `storage_uri` points to. May be a coroutine function. If it raises, the row stays."""


class AuditArtifactFilters(TimeFilters, total=False):
    """Filters of `list`, `stream` and `count`."""

    run_id: OptionalFilter[Id]
    ticket_id: OptionalFilter[Id]
    fix_attempt_id: OptionalFilter[Id]
    kind: Filter[ArtifactKind]
    compliance_mode: Filter[ComplianceMode]
    min_retention_until: Timestamp | None
    max_retention_until: Timestamp | None


AuditArtifactOrder = Literal["-created_at", "created_at", "retention_until", "-retention_until", "byte_size", "-byte_size"]
"""Orders of `list`: `-` says that the greatest comes first."""


class AuditArtifacts(WritableRepository[AuditArtifact]):
    """Evidence. What it points to can't be deleted while it is kept."""

    model = AuditArtifact
    create_model: ClassVar[type[AuditArtifactCreate]] = AuditArtifactCreate
    filters = AuditArtifactFilters
    orders = AuditArtifactOrder

    async def list(
        self,
        session: ProjectSession,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: AuditArtifactOrder = "-created_at",
        with_total: bool = False,
        **filters: Unpack[AuditArtifactFilters],
    ) -> Page[AuditArtifact]:
        """Return a page of artifacts.

        Order:
            Newest first. `retention_until` goes through its index; `byte_size` has none: the artifacts that the filters select
            are sorted.

        Errors:
            InvalidInput, InvalidCursor.

        Cost:
            One statement; two with a total.
        """
        return await self._page(session, limit, cursor, filters, order=order, with_total=with_total)

    def stream(self, session: ProjectSession, **filters: Unpack[AuditArtifactFilters]) -> AsyncIterator[AuditArtifact]:
        """Iterate over all artifacts.

        Order:
            Newest first.

        Cost:
            A transaction, and a round trip for every 500 rows; constant memory.
        """
        return self._stream(session, filters)

    async def count(self, session: ProjectSession, **filters: Unpack[AuditArtifactFilters]) -> int:
        """Count artifacts.

        Cost:
            One statement, which counts the rows that the filters select one by one.
        """
        return await self._count(session, filters)

    async def of_tickets(
        self, session: ProjectSession, ticket_ids: Iterable[UUID], *, limit_each: int = 20
    ) -> dict[UUID, Sequence[AuditArtifact]]:
        """Return the newest artifacts of each of up to 1,000 tickets, by the ticket's id; an empty list where there are none.

        Order:
            Newest first.

        Errors:
            InvalidInput, TooLarge above 1,000.

        Cost:
            One statement, a probe of the index on `ticket_id` for each ticket.
        """
        session, wanted = project_session(session), check_ids(ticket_ids, "ticket_ids")
        found: dict[UUID, Sequence[AuditArtifact]] = {id: [] for id in wanted}
        values = {"ids": wanted, "limit_each": check_limit_each(limit_each)}
        rows = await session.fetch(_of_tickets_statement(), values) if wanted else []
        for ticket_id, group in groupby(rows, attrgetter("ticket_id")):
            found[ticket_id] = list(group)
        return found

    async def record(self, session: ProjectSession, data: AuditArtifactCreate) -> AuditArtifact:
        """Write evidence; the database computes how long it is kept, from its clock and the project's compliance mode.

        Errors:
            InvalidReference.

        Locks:
            The project's row in key-share mode, as every new row does. A change of the compliance mode at the same time waits,
            or is seen.

        Cost:
            One statement.
        """
        rows = await project_session(session).fetch(_record_statement(), {**self._create_values(data), "id": new_id()})
        if not rows:
            raise ProjectNotFound
        return rows[0]

    async def hold(self, session: ProjectSession, id: UUID) -> AuditArtifact:
        """Put the artifact under legal hold: nothing removes it, not even the deletion of its project.

        Errors:
            NotFound.

        Cost:
            One statement.
        """
        return await self._set_hold(session, id, is_held=True)

    async def release(self, session: ProjectSession, id: UUID) -> AuditArtifact:
        """End the legal hold.

        Errors:
            NotFound.

        Cost:
            One statement.
        """
        return await self._set_hold(session, id, is_held=False)

    async def expired(self, session: ProjectSession, *, limit: int = 100) -> Sequence[AuditArtifact]:
        """Return artifacts whose retention has ended and that are not on hold.

        Order:
            Expired longest first.

        Cost:
            One statement, through the index on retention_until.
        """
        return await project_session(session).fetch(_expired_statement(is_scoped=True), {"limit": check_limit(limit)})

    async def prune_expired(
        self, session: ProjectSession | AdminSession, *, limit: int = 100, delete_blob: DeleteBlob | None = None
    ) -> PruneResult:
        """Remove one batch of expired artifacts: each blob first, then its row. Through the admin door, of all projects.

        A hold that is set before it is the artifact's turn keeps it. An artifact whose `delete_blob` raises stays, and the
        next one follows.

        Locks:
            The rows that are being removed; rows that others hold are skipped, so that sweeps at the same time share the work.

        Cost:
            Two statements; with `delete_blob` three, and one for each artifact.
        """
        pruned = await prune_batch(session, limit, delete_blob)
        return PruneResult(pruned, await count_remaining(session))

    async def expired_by_project(self, session: AdminSession) -> dict[UUID, int]:
        """Count what may be pruned, by project, through the admin door. Projects without any are left out.

        Cost:
            One statement, an index probe for each project.
        """
        admin_session(session).note("audit_artifacts.expired_by_project")
        return dict(await session.fetch(_expired_by_project_statement(), {}))

    async def _set_hold(self, session: ProjectSession, id: UUID, *, is_held: bool) -> AuditArtifact:
        rows = await project_session(session).fetch(_hold_statement(is_held=is_held), {"id": check_id(id)})
        if not rows:
            raise NotFound
        return rows[0]


async def prune_batch(session: ProjectSession | AdminSession, limit: int, delete_blob: DeleteBlob | None) -> int:
    """Remove one batch as `prune_expired` does, without counting what is left."""
    is_scoped = type(session) is not AdminSession
    if delete_blob is not None and not callable(delete_blob):
        raise InvalidInput("delete_blob: a function of one artifact.")
    if isinstance(session, AdminSession):
        session.note("audit_artifacts.prune_expired")
    else:
        session = project_session(session)
    size = {"limit": check_limit(limit)}
    if delete_blob is None:
        gone = await session.fetch(_prune_batch_statement(is_scoped=is_scoped), size)
    else:
        batch = await session.fetch(_expired_statement(is_scoped=is_scoped), size)
        batch = [row for row in batch if await _delete_blob(session, row, delete_blob, is_scoped=is_scoped)]
        chosen = {"project_ids": [row.project_id for row in batch], "ids": [row.id for row in batch]}
        gone = await session.fetch(_prune_chosen_statement(is_scoped=is_scoped), chosen) if batch else []
    for rule, number in sorted(Counter(gone).items()):
        logger.info("pruned %d artifacts whose retention under %s has ended", number, rule)
    return len(gone)


async def count_remaining(session: ProjectSession | AdminSession) -> int:
    """Count what has expired and is still there."""
    return (await session.fetch(_remaining_statement(is_scoped=type(session) is not AdminSession), {}))[0]


async def _delete_blob(
    session: ProjectSession | AdminSession, row: AuditArtifact, delete_blob: DeleteBlob, *, is_scoped: bool
) -> bool:
    """Lock the row, unless a hold came meanwhile, and remove its blob."""
    values = {"id": row.id} if is_scoped else {"id": row.id, "project_id": row.project_id}
    if not await session.fetch(_turn_statement(is_scoped=is_scoped), values):
        return False
    try:
        result = delete_blob(row)
        if inspect.isawaitable(result):
            await result
    except Exception:
        logger.exception("the blob of artifact %s could not be deleted; it stays", row.id)
        return False
    return True


def _whose(table: Any = _ARTIFACTS, *, is_scoped: bool) -> sa.ColumnElement[bool]:
    return scope_of(table) if is_scoped else sa.true()


def _may_go(table: Any = _ARTIFACTS) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.retention_until <= sa.func.now(), ~table.c.legal_hold)


@cache
def _record_statement() -> Statement[AuditArtifact]:
    names = ("id", *AuditArtifactCreate.model_fields)
    source = (
        scoped(
            Project,
            _PROJECTS.c.id,
            _PROJECTS.c.compliance_mode,
            retention_end(sa.func.now(), _PROJECTS.c.compliance_mode),
            *(param(name, _ARTIFACTS.c[name]) for name in names),
        )
    ).with_for_update(read=True, key_share=True)
    query = insert(_ARTIFACTS).from_select(["project_id", "compliance_mode", "retention_until", *names], source)
    query = query.on_conflict_do_nothing(index_elements=["project_id", "id"])  # a distributed server wants one: rule 15
    return entities("audit_artifacts.record", query.returning(*_ARTIFACTS.c), AuditArtifact)


@cache
def _of_tickets_statement() -> Statement[AuditArtifact]:
    query = newest_of_each(AuditArtifact, _ARTIFACTS.c.ticket_id, _ARTIFACTS.c.created_at.desc(), _ARTIFACTS.c.id.desc())
    return entities("audit_artifacts.of_tickets", query, AuditArtifact)


@cache
def _hold_statement(*, is_held: bool) -> Statement[AuditArtifact]:
    query = scoped_update(AuditArtifact).where(_ARTIFACTS.c.id == _ID).values(legal_hold=is_held)
    return entities(
        "audit_artifacts.hold" if is_held else "audit_artifacts.release", query.returning(*_ARTIFACTS.c), AuditArtifact
    )


@cache
def _expired_statement(*, is_scoped: bool) -> Statement[AuditArtifact]:
    query = sa.select(*_ARTIFACTS.c).where(_whose(is_scoped=is_scoped), _may_go())
    query = query.order_by(_ARTIFACTS.c.retention_until, _ARTIFACTS.c.id).limit(sa.bindparam("limit", type_=sa.Integer()))
    return entities("audit_artifacts.expired", query, AuditArtifact, is_scoped=is_scoped)


@cache
def _turn_statement(*, is_scoped: bool) -> Statement[UUID]:
    query = scoped(AuditArtifact, _ARTIFACTS.c.id).where(_ARTIFACTS.c.id == _ID, _may_go()).with_for_update(skip_locked=True)
    return scalars("audit_artifacts.prune_expired", query, is_scoped=is_scoped)


def _pruned(turns: sa.Select[Any, Any], *, is_scoped: bool) -> Statement[ComplianceMode]:
    """Delete what can be locked at once: to wait for a hold that is being set would hold up the sweep."""
    locked = turns.where(_whose(_TURN, is_scoped=is_scoped), _may_go(_TURN)).with_for_update(skip_locked=True, of=_TURN)
    chosen = locked.cte("chosen")
    query = sa.delete(_ARTIFACTS).where(
        _whose(is_scoped=is_scoped), _ARTIFACTS.c.project_id == chosen.c.project_id, _ARTIFACTS.c.id == chosen.c.id
    )
    return scalars("audit_artifacts.prune_expired", query.returning(_ARTIFACTS.c.compliance_mode), is_scoped=is_scoped)


@cache
def _prune_batch_statement(*, is_scoped: bool) -> Statement[ComplianceMode]:
    turns = sa.select(_TURN.c.project_id, _TURN.c.id).order_by(_TURN.c.retention_until, _TURN.c.id)
    return _pruned(turns.limit(sa.bindparam("limit", type_=sa.Integer())), is_scoped=is_scoped)


@cache
def _prune_chosen_statement(*, is_scoped: bool) -> Statement[ComplianceMode]:
    given = (
        sa.func.unnest(array_param("project_ids", _TURN.c.project_id), array_param("ids", _TURN.c.id))
        .table_valued(sa.column("project_id", sa.Uuid()), sa.column("id", sa.Uuid()))
        .render_derived(name="given")
    )
    is_given = sa.and_(_TURN.c.project_id == given.c.project_id, _TURN.c.id == given.c.id)
    turns = sa.select(_TURN.c.project_id, _TURN.c.id).select_from(_TURN.join(given, is_given))
    return _pruned(turns, is_scoped=is_scoped)


@cache
def _remaining_statement(*, is_scoped: bool) -> Statement[int]:
    query = sa.select(sa.func.count()).select_from(_ARTIFACTS).where(_whose(is_scoped=is_scoped), _may_go())
    return scalars("audit_artifacts.prune_expired", query, is_scoped=is_scoped)


@cache
def _expired_by_project_statement() -> Statement[tuple[Any, ...]]:
    of_project = sa.and_(_ARTIFACTS.c.project_id == _PROJECTS.c.id, _may_go())
    counted = sa.select(sa.func.count().label("expired")).select_from(_ARTIFACTS).where(of_project).lateral("counted")
    query = sa.select(_PROJECTS.c.id, counted.c.expired).select_from(_PROJECTS.join(counted, sa.true()))
    query = query.where(counted.c.expired > 0).order_by(_PROJECTS.c.id)
    return tuples("audit_artifacts.expired_by_project", query, is_scoped=False)
