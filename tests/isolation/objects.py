"""Attacks by SQLAlchemy's ORM and Core on `session.sql` (families 11 to 13), and by logins without a scope (family 22)."""

from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased, make_transient, make_transient_to_detached
from sqlmodel import SQLModel

from derwin_db import ProjectSession
from derwin_db.fields.scalars import new_id
from derwin_db.query.builders import table_of
from derwin_db.testing.filling import models_by_table
from derwin_db.testing.traces import fields_of
from tests.isolation.arena import World
from tests.isolation.statements import LATER, unordered
from tests.isolation.states import Attack, Case, titled
from tests.isolation.texts import READS, filled_in

ATTACKS: list[tuple[int, str, Callable[..., Any]]] = []


def attack(family: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register an attack on one model: it gets the AsyncSession, the model, its rows in A and in B, and the id of B."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        ATTACKS.append((family, titled(function), function))
        return function

    return register


def scope(model: Any) -> Any:
    return getattr(model, "project_id", None) if hasattr(model, "project_id") else model.id


def key_of(row: Any) -> Any:
    return row.id if type(row).__tablename__ == "projects" else (row.project_id, row.id)


def copied(row: Any, **changes: Any) -> Any:
    """Return a new instance with the columns of a row, as somebody can make who knows them all."""
    return type(row)(**{**fields_of(row), **changes})


@attack(13)
async def get_by_the_key_of_b(sql, model, own, foreign, b):
    return await sql.get(model, key_of(foreign[0]))


@attack(13)
async def get_with_a_lock(sql, model, own, foreign, b):
    return await sql.get(model, key_of(foreign[0]), with_for_update=True, populate_existing=True)


@attack(13)
async def refresh_a_detached_row_of_b(sql, model, own, foreign, b):
    row = copied(foreign[0], created_at=own[0].created_at)
    make_transient_to_detached(row)
    sql.add(row)
    await sql.refresh(row)
    return row


@attack(13)
async def merge_a_row_of_b(sql, model, own, foreign, b):
    merged = await sql.merge(copied(foreign[0]))
    await sql.flush()
    return merged


@attack(13)
async def merge_without_loading(sql, model, own, foreign, b):
    row = copied(foreign[0])
    make_transient_to_detached(row)
    merged = await sql.merge(row, load=False)
    merged.created_at = own[0].created_at
    await sql.flush()
    return "flushed"


@attack(13)
async def add_a_row_for_b(sql, model, own, foreign, b):
    row = copied(own[0], id=new_id(), **({} if model.__tablename__ == "projects" else {"project_id": b}))
    make_transient(row)
    sql.add(row)
    await sql.flush()


@attack(13)
async def flush_a_changed_project(sql, model, own, foreign, b):
    row = await sql.get(model, key_of(own[0]))
    setattr(row, "id" if model.__tablename__ == "projects" else "project_id", b)
    await sql.flush()


@attack(13)
async def delete_a_detached_row_of_b(sql, model, own, foreign, b):
    row = copied(foreign[0])
    make_transient_to_detached(row)
    await sql.delete(row)
    await sql.flush()


@attack(13)
async def change_a_detached_row_of_b(sql, model, own, foreign, b):
    row = copied(foreign[0])
    make_transient_to_detached(row)
    sql.add(row)
    row.created_at = own[0].created_at
    await sql.flush()


@attack(13)
async def expire_and_read_again(sql, model, own, foreign, b):
    row = await sql.get(model, key_of(own[0]))
    sql.expire_all()
    await sql.refresh(row, with_for_update=False)
    return row


@attack(11)
async def select_all(sql, model, own, foreign, b):
    return (await sql.execute(sa.select(model).order_by(model.id))).scalars().all()


@attack(11)
async def select_those_of_b(sql, model, own, foreign, b):
    return (await sql.execute(sa.select(model).where(sa.or_(scope(model) == b, model.id == foreign[0].id)))).scalars().all()


@attack(11)
async def select_an_alias(sql, model, own, foreign, b):
    other = aliased(model)
    query = sa.select(other.id).join_from(model, other, scope(model) != scope(other))
    return (await sql.execute(query)).all()


@attack(11)
async def select_from_text(sql, model, own, foreign, b):
    text = sa.text(f"SELECT * FROM public.{model.__tablename__}").columns(*table_of(model).c)
    return {row.id for row in (await sql.execute(sa.select(model).from_statement(text))).scalars()}


@attack(11)
async def select_a_subquery(sql, model, own, foreign, b):
    inner = sa.select(table_of(model)).where(scope(model) == b).subquery()
    return (await sql.execute(sa.select(sa.func.count()).select_from(inner))).scalar()


@attack(11)
async def union_of_both(sql, model, own, foreign, b):
    query = sa.union_all(sa.select(model.id), sa.select(model.id).where(scope(model) == b))
    return unordered((await sql.execute(query)).all())


@attack(11)
async def stream_all(sql, model, own, foreign, b):
    return {row.id async for row in await sql.stream_scalars(sa.select(model).execution_options(yield_per=2))}


@attack(11)
async def count_all(sql, model, own, foreign, b):
    return (await sql.execute(sa.select(sa.func.count(), sa.func.count(sa.distinct(scope(model)))).select_from(model))).all()


@attack(12)
async def core_update(sql, model, own, foreign, b):
    query = sa.update(table_of(model)).where(scope(model) == b).values(created_at=sa.func.now()).returning(model.id)
    return (await sql.execute(query)).all()


@attack(12)
async def orm_update_of_all(sql, model, own, foreign, b):
    query = sa.update(model).values(created_at=sa.func.now()).execution_options(synchronize_session=False)
    return (await sql.execute(query)).rowcount


@attack(12)
async def orm_delete_of_b(sql, model, own, foreign, b):
    return (await sql.execute(sa.delete(model).where(scope(model) == b))).rowcount


@attack(12)
async def bulk_insert_for_b(sql, model, own, foreign, b):
    name = "id" if model.__tablename__ == "projects" else "project_id"
    rows = [{**fields_of(row), "id": new_id(), name: b} for row in own]
    await sql.execute(sa.insert(model), rows)


@attack(12)
async def bulk_update_of_b(sql, model, own, foreign, b):
    keys = [column.name for column in sa.inspect(model).primary_key]
    rows = [{**{key: getattr(row, key) for key in keys}, "created_at": own[0].created_at} for row in foreign]
    await sql.execute(sa.update(model), rows)


@attack(12)
async def upsert_over_b(sql, model, own, foreign, b):
    keys = [column.name for column in sa.inspect(model).primary_key]
    query = insert(table_of(model)).values(fields_of(foreign[0]))
    query = query.on_conflict_do_update(index_elements=keys, set_={"created_at": sa.func.now()}).returning(model.id)
    return (await sql.execute(query)).all()


@attack(12)
async def insert_from_select(sql, model, own, foreign, b):
    columns = list(table_of(model).c)
    values = [sa.literal(b) if column is scope(table_of(model).c) else column for column in columns]
    query = sa.insert(table_of(model)).from_select([column.name for column in columns], sa.select(*values))
    await sql.execute(query)


def on(model: type[SQLModel], function: Callable[..., Any]) -> Attack:
    table = table_of(model).name

    async def run(world: World, session: ProjectSession, brought: list[Any]) -> Any:
        foreign = world.b.rows[table]
        brought += [[foreign], world.b.project_id]
        return await function(session.sql, model, world.a.rows[table], foreign, world.b.project_id)

    return run


def object_cases() -> Iterator[Case]:
    """Yield all attacks by ORM and Core, on every model."""
    for table, model in models_by_table().items():
        for family, name, function in ATTACKS:
            for state in ("fresh", LATER):
                yield Case(family, f"{name}: {table}", on(model, function), state)


# --- family 22: a login without a unit of work ------------------------------------------------------------------------

PREPARATIONS = {
    "the login alone": (),
    "the role without a scope": ("SET ROLE derwin_app",),
    "the role with an empty scope": ("SET ROLE derwin_app", "SET derwin.project_id = ''"),
    "the role with garbage": ("SET ROLE derwin_app", "SET derwin.project_id = 'garbage'"),
    "the role with the id of B": ("SET ROLE derwin_app", "SET derwin.project_id = '{B}'"),
    "the role with a made-up seal": (
        "SET ROLE derwin_app",
        "SELECT set_config('derwin.project_id', '{B}.' || repeat('0', 64), false)",
    ),
    "the admin's role": ("SET ROLE derwin_admin",),
    "everything in a transaction": ("BEGIN", "SET LOCAL ROLE derwin_app", "SET LOCAL derwin.project_id = '{B}'"),
}


def logged_in(table: str, statements: tuple[str, ...]) -> Attack:
    """Return the attack of somebody who has the service's password and a client of his own."""

    async def run(world: World, _session: ProjectSession, brought: list[Any]) -> Any:
        connection = await asyncpg.connect(**world.database.service.connect_arguments())
        try:
            brought.append(world.b.project_id)
            outcomes: list[Any] = []
            for statement in (*statements, READS["everything"], READS["by key"], "UPDATE {t} SET created_at = now()"):
                text = filled_in(statement, world, table)
                brought.append(text)
                try:
                    outcomes.append(unordered(await connection.fetch(text)))
                except asyncpg.PostgresError as error:
                    outcomes.append(error)
            return outcomes
        finally:
            await connection.close()

    return run


def login_cases() -> Iterator[Case]:
    """Yield what a login gets that opens no unit of work, on every table."""
    for table in models_by_table():
        for name, statements in PREPARATIONS.items():
            yield Case(22, f"{name}: {table}", logged_in(table, statements))
