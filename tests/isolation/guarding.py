"""Fence 1 tried directly: statements that bind a table to no project, which must not compile, and those that do."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from derwin_db.models import Project, QARun, QATicket
from derwin_db.query import statement as statement_module
from derwin_db.query.builders import scope_of, scoped, scoped_delete, scoped_update, table_of
from derwin_db.query.guard import PROJECT, UnscopedStatement
from tests.isolation.arena import Arena
from tests.isolation.units import Script

T, R, P = table_of(QATicket), table_of(QARun), table_of(Project)
ALIAS = T.alias("other")
B = sa.bindparam("project_id", value=UUID(int=7), type_=sa.Uuid())
"""A parameter of the right name that brings a project of its own."""

UNSCOPED: dict[str, Callable[[], Any]] = {
    "a select": lambda: sa.select(T),
    "a select by id": lambda: sa.select(T).where(T.c.id == sa.bindparam("id")),
    "an OR": lambda: sa.select(T).where(sa.or_(scope_of(T), T.c.status == "OPEN")),
    "a NOT": lambda: sa.select(T).where(~sa.and_(scope_of(T), T.c.status == "OPEN")),
    "another project": lambda: sa.select(T).where(T.c.project_id != PROJECT),
    "a project of the caller's": lambda: sa.select(T).where(T.c.project_id == B),
    "a constant project": lambda: sa.select(T).where(T.c.project_id == UUID(int=7)),
    "the wrong column": lambda: sa.select(T).where(T.c.id == PROJECT),
    "the root by another column": lambda: sa.select(P).where(P.c.slug == "acme"),
    "an alias": lambda: sa.select(ALIAS).where(scope_of(T)),
    "a join": lambda: sa.select(T.c.id).select_from(T.join(R, R.c.id == T.c.run_id)).where(scope_of(T)),
    "a join by the other's project": lambda: (
        sa.select(T.c.id).select_from(T.join(R, R.c.project_id == T.c.project_id)).where(scope_of(T))
    ),
    "the kept side of an outer join": lambda: sa.select(T.c.id).select_from(T.outerjoin(R, sa.and_(scope_of(T), scope_of(R)))),
    "a full join": lambda: sa.select(T.c.id).select_from(T.join(R, sa.and_(scope_of(T), scope_of(R)), full=True)),
    "a cross join": lambda: sa.select(T.c.id, R.c.id).where(scope_of(T)),
    "a subquery alone": lambda: scoped(QATicket).where(T.c.run_id.in_(sa.select(R.c.id))),
    "a subquery of the same table": lambda: (
        scoped(QATicket).where(T.c.duplicate_of_id.in_(sa.select(T.c.id).where(T.c.status == "OPEN").correlate(None)))
    ),
    "the outer query alone": lambda: sa.select(T).where(T.c.id.in_(scoped(QATicket, T.c.id).correlate(None))),
    "a scalar subquery": lambda: scoped(QATicket, sa.select(sa.func.count(R.c.id)).scalar_subquery()),
    "an EXISTS": lambda: scoped(QATicket).where(sa.exists(sa.select(R.c.id))),
    "a lateral": lambda: sa.select(T.c.id).select_from(T, sa.select(R.c.id).lateral("r")).where(scope_of(T)),
    "a subquery in FROM": lambda: sa.select(sa.select(T).subquery().c.id),
    "a CTE": lambda: sa.select(sa.select(T).cte("c").c.id),
    "a step of a recursive CTE": lambda: _recursive(is_bound=False),
    "one side of a union": lambda: sa.union_all(scoped(QATicket, T.c.id), sa.select(T.c.id)),
    "text": lambda: sa.text("SELECT * FROM public.qa_tickets"),
    "text in a condition": lambda: scoped(QATicket).where(sa.text("id IN (SELECT id FROM public.qa_runs)")),
    "a literal column": lambda: scoped(QATicket, sa.literal_column("(SELECT count(*) FROM public.qa_runs)")),
    "text with columns": lambda: sa.text("SELECT id FROM public.qa_tickets").columns(T.c.id),
    "a table made up": lambda: sa.select(sa.table("qa_tickets", sa.column("id"))),
    "an update": lambda: sa.update(T).values(status="OPEN"),
    "an update by id": lambda: sa.update(T).where(T.c.id == sa.bindparam("id")).values(status="OPEN"),
    "an update from": lambda: scoped_update(QATicket).where(T.c.run_id == R.c.id),
    "an update that sets from": lambda: scoped_update(QATicket).values(run_id=R.c.id),
    "an update that moves a row": lambda: scoped_update(QATicket).values(project_id=sa.bindparam("to", type_=sa.Uuid())),
    "an update that renames a row": lambda: scoped_update(QATicket).values(id=sa.bindparam("to", type_=sa.Uuid())),
    "a delete": lambda: sa.delete(T).where(T.c.id == sa.bindparam("id")),
    "a delete using": lambda: scoped_delete(QATicket).where(T.c.run_id == R.c.id),
    "an insert": lambda: sa.insert(T).values(id=sa.bindparam("id")),
    "an insert for somebody": lambda: sa.insert(T).values(project_id=sa.bindparam("whose"), id=sa.bindparam("id")),
    "an insert with a project of the caller's": lambda: sa.insert(T).values(project_id=B, id=sa.bindparam("id")),
    "an insert from an unbound select": lambda: sa.insert(T).from_select(
        ["project_id", "run_id"], sa.select(R.c.project_id, R.c.id)
    ),
    "an insert without the project": lambda: sa.insert(T).from_select(["run_id"], scoped(QARun, R.c.id)),
    "an insert of another column": lambda: sa.insert(T).from_select(["project_id", "run_id"], scoped(QARun, R.c.id, R.c.id)),
    "an upsert over another key": lambda: _upsert(["id"], {"status": "OPEN"}),
    "an upsert without a key": lambda: insert(T).values(project_id=PROJECT).on_conflict_do_nothing(),
    "an upsert that moves a row": lambda: _upsert(["project_id", "id"], {"project_id": sa.bindparam("to", type_=sa.Uuid())}),
    "a CTE that deletes": lambda: sa.select(sa.delete(T).returning(T.c.id).cte("gone").c.id),
}  # fmt: skip

SCOPED: dict[str, Callable[[], Any]] = {
    "a select": lambda: scoped(QATicket),
    "an alias": lambda: sa.select(ALIAS).where(scope_of(ALIAS)),
    "the root": lambda: scoped(Project),
    "a join": lambda: sa.select(T.c.id).select_from(T.join(R, sa.and_(scope_of(R), R.c.id == T.c.run_id))).where(scope_of(T)),
    "an outer join": lambda: sa.select(T.c.id).select_from(T.outerjoin(R, scope_of(R))).where(scope_of(T)),
    "a correlated subquery": lambda: scoped(QATicket).where(
        sa.exists(scoped(QARun, sa.literal(1)).where(R.c.id == T.c.run_id))
    ),
    "a recursive CTE": lambda: _recursive(is_bound=True),
    "a union": lambda: sa.union_all(scoped(QATicket, T.c.id), scoped(QARun, R.c.id)),
    "an update": lambda: scoped_update(QATicket).values(status="OPEN"),
    "an update from": lambda: scoped_update(QATicket).where(scope_of(R), T.c.run_id == R.c.id),
    "a delete": lambda: scoped_delete(QATicket),
    "an insert": lambda: sa.insert(T).values(project_id=PROJECT, id=sa.bindparam("id")),
    "an insert from a select": lambda: sa.insert(T).from_select(
        ["project_id", "run_id"], scoped(QARun, R.c.project_id, R.c.id)
    ),
    "an upsert": lambda: _upsert(["project_id", "id"], {"status": "OPEN"}),
    "no table at all": lambda: sa.select(sa.func.now()),
}


def _recursive(*, is_bound: bool) -> Any:
    chain = scoped(QATicket, T.c.duplicate_of_id).cte("chain", recursive=True)
    step = sa.select(ALIAS.c.duplicate_of_id).where(ALIAS.c.id == chain.c.duplicate_of_id)
    return sa.select(chain.union(step.where(scope_of(ALIAS)) if is_bound else step).c.duplicate_of_id)


def _upsert(target: list[str], changed: dict[str, Any]) -> Any:
    query = insert(T).values(project_id=PROJECT, id=sa.bindparam("id"))
    return query.on_conflict_do_update(index_elements=target, set_=changed)


def refusing(build: Callable[[], Any]) -> Callable[[Arena], Any]:
    async def run(_arena: Arena) -> None:
        try:
            statement_module.command("a test", build())
        except UnscopedStatement:
            return
        raise AssertionError("it compiles")

    return run


def accepting(build: Callable[[], Any]) -> Callable[[Arena], Any]:
    async def run(_arena: Arena) -> None:
        statement_module.command("a test", build())

    return run


def guard_scripts() -> Iterator[Script]:
    for name, build in UNSCOPED.items():
        yield Script(24, f"the guard refuses {name}", refusing(build))
    for name, build in SCOPED.items():
        yield Script(24, f"the guard takes {name}", accepting(build))
