"""Fence 1 alone: which statements compile, and which are refused before any SQL."""

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from derwin_db.models import Project, QATicket, RawSignal
from derwin_db.query.builders import scope_of, scoped, scoped_delete, scoped_update, table_of
from derwin_db.query.guard import PROJECT, UnscopedStatement, check_scope
from derwin_db.query.statement import command

T, S, P = table_of(QATicket), table_of(RawSignal), table_of(Project)
OTHER = sa.bindparam("other", type_=sa.Uuid())

BOUND = {
    "a scoped select": scoped(QATicket),
    "with more conditions": scoped(QATicket).where(T.c.title == "x", sa.or_(T.c.title == "a", T.c.title == "b")),
    "a join that binds both": sa.select(T.c.id).select_from(T.join(S, scope_of(S))).where(scope_of(T)),
    "an update": scoped_update(QATicket).values(title="x"),
    "a delete": scoped_delete(QATicket),
    "an insert of the project": sa.insert(T).values(project_id=PROJECT, title="x"),
    "an upsert": insert(T)
    .values(project_id=PROJECT, title="x")
    .on_conflict_do_update(index_elements=["project_id", "id"], set_={"title": insert(T).excluded.title}),
    "the root by its id": sa.select(P.c.slug).where(P.c.id == PROJECT),
    "the other way round": sa.select(T.c.id).where(T.c.project_id == PROJECT),
    "nothing of any table": sa.select(sa.func.now()),
}
UNBOUND = {
    "a select of all": sa.select(T),
    "another parameter": sa.select(T).where(T.c.project_id == OTHER),
    "a constant": sa.select(T).where(T.c.project_id == sa.literal(1)),
    "an or": sa.select(T).where(sa.or_(scope_of(T), T.c.title == "x")),
    "a negation": sa.select(T).where(~scope_of(T)),
    "an inequality": sa.select(T).where(T.c.project_id != PROJECT),
    "another column": sa.select(T).where(T.c.id == PROJECT),
    "the root by another column": sa.select(P).where(P.c.slug == PROJECT),
    "a join that binds one": sa.select(T.c.id, S.c.id).select_from(T.join(S, S.c.ticket_id == T.c.id)).where(scope_of(T)),
    "a product": sa.select(T.c.id, S.c.id).where(scope_of(T)),
    "a subquery": scoped(QATicket).where(T.c.id.in_(sa.select(S.c.ticket_id))),
    "an exists": scoped(QATicket).where(sa.exists(sa.select(S.c.id).where(S.c.ticket_id == T.c.id))),
    "a union": sa.union_all(scoped(QATicket, T.c.id), sa.select(S.c.id)),
    "a common table": sa.select(sa.select(S.c.id).cte("all").c.id),
    "an alias": sa.select(T.alias("again").c.id),
    "an update of all": sa.update(T).values(title="x"),
    "a delete of all": sa.delete(T),
    "an insert without a project": sa.insert(T).values(title="x"),
    "an insert of another project": sa.insert(T).values(project_id=OTHER, title="x"),
    "an insert from all": sa.insert(T).from_select(["project_id", "title"], sa.select(S.c.project_id, S.c.title)),
    "an order by": scoped(QATicket).order_by(sa.select(S.c.title).scalar_subquery()),
}


@pytest.mark.parametrize("name", BOUND)
def test_what_is_bound_compiles(name):
    check_scope(BOUND[name])
    assert command(name, BOUND[name]).sql


@pytest.mark.parametrize("name", UNBOUND)
def test_what_is_not_does_not(name):
    with pytest.raises(UnscopedStatement):
        check_scope(UNBOUND[name])
    with pytest.raises(UnscopedStatement):
        command(name, UNBOUND[name])


def test_the_admin_door_says_so():
    assert command("all", sa.select(T), is_scoped=False).sql
