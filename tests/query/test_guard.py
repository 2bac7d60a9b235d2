"""Fence 1 alone: which statements compile, and which are refused before any SQL."""

import ast
import inspect
import re

import pytest
import sqlalchemy as sa
from sqlalchemy import Insert, Select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.dml import UpdateBase, ValuesBase
from sqlalchemy.sql.selectable import HasPrefixes, HasSuffixes

from derwin_db.models import Project, QATicket, RawSignal
from derwin_db.query import guard
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
    "an insert from what is bound, by another name": sa.insert(T).from_select(
        ["project_id", "title"], sa.select(S.c.project_id.label("whose"), S.c.title).where(scope_of(S))
    ),
    "an outer join that binds its optional side": sa.select(T.c.id).select_from(T.outerjoin(S, scope_of(S))).where(scope_of(T)),
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
    "an outer join that binds its other side alone": sa.select(T.c.id)
    .select_from(T.outerjoin(S, scope_of(T)))
    .where(scope_of(S)),
    "a full join, which drops no row": sa.select(T.c.id).select_from(T.join(S, sa.and_(scope_of(T), scope_of(S)), full=True)),
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


TEXT = {
    "a hint of a table": scoped(QATicket).with_hint(T, "AS x, public.raw_signals"),
    "a hint of the statement": scoped(QATicket).with_statement_hint("UNION SELECT * FROM public.raw_signals"),
    "a hint of an update": scoped_update(QATicket).values(title="x").with_hint("x"),
    "a prefix": scoped(QATicket).prefix_with("(SELECT 1),"),
    "a prefix of a change": scoped_delete(QATicket).prefix_with("FROM public.raw_signals USING"),
    "a prefix of a CTE": sa.select(scoped(QATicket, T.c.id).cte("c").prefix_with("(SELECT 1),").c.id),
    "a suffix of a CTE": sa.select(scoped(QATicket, T.c.id).cte("c").suffix_with("SEARCH x").c.id),
    "a suffix": scoped(QATicket).suffix_with("UNION SELECT 1"),
    "an operator of words": scoped(QATicket).where(T.c.title.op("IS NOT NULL OR 1 =")(1)),
    "an operator of words alone": scoped(QATicket).where(
        sa.sql.operators.custom_op("EXISTS (SELECT 1) AND NOT")(T.c.id, T.c.id)
    ),
    "a text column": scoped(QATicket).add_columns(sa.text("1")),
    "a literal column": scoped(QATicket).order_by(sa.literal_column("(SELECT 1)")),
}
HIDDEN = {
    "a conflict's value": insert(T)
    .values(project_id=PROJECT, title="x")
    .on_conflict_do_update(index_elements=["project_id", "id"], set_={"title": sa.select(S.c.title).scalar_subquery()}),
    "a conflict's condition": insert(T)
    .values(project_id=PROJECT, title="x")
    .on_conflict_do_update(
        index_elements=["project_id", "id"], set_={"title": "x"}, where=T.c.id.in_(sa.select(S.c.ticket_id))
    ),
    "a conflict with a row of another project": insert(T)
    .values(project_id=PROJECT, title="x")
    .on_conflict_do_nothing(index_elements=["id"]),
    "a conflict with any row": insert(T).values(project_id=PROJECT, title="x").on_conflict_do_nothing(),
    **{
        f"a conflict that changes {name}": insert(T)
        .values(project_id=PROJECT, title="x")
        .on_conflict_do_update(index_elements=["project_id", "id"], set_={name: PROJECT})
        for name in ("project_id", "id")
    },
    "an update that names no column": sa.update(T).where(scope_of(T)),
    "an update of a part of a column": sa.update(T)
    .where(scope_of(T))
    .values({sa.cast(T.c.project_id, sa.ARRAY(sa.Text))[1]: "x"}),
    "an insert of what is called the project": sa.insert(T).from_select(
        ["project_id", "title"], sa.select(S.c.id.label("project_id"), S.c.title).where(scope_of(S))
    ),
    "an update of pairs that moves the row": sa.update(T).where(scope_of(T)).ordered_values((T.c.project_id, OTHER)),
    "an insert of many rows": sa.insert(T).values([{"project_id": PROJECT, "title": "x"}, {"title": "y"}]),
    "a CTE beside the statement": scoped(QATicket).add_cte(sa.select(S.c.id).cte("beside")),
    "a part of a date": scoped(QATicket, sa.extract("year FROM now()), (SELECT 1", T.c.created_at)),
    "a table of values": scoped(QATicket, T.c.id, sa.values(sa.column("n"), name="v").data([(1,)]).c.n),
    "a sample": sa.select(sa.tablesample(T, 10).c.id),
}


@pytest.mark.parametrize("name", TEXT)
def test_sql_as_text_is_refused_wherever_it_stands(name):
    with pytest.raises(UnscopedStatement):
        check_scope(TEXT[name])


@pytest.mark.parametrize("name", HIDDEN)
def test_no_part_of_a_statement_is_out_of_sight(name):
    with pytest.raises(UnscopedStatement):
        check_scope(HIDDEN[name])


def test_an_element_that_is_not_known_is_refused():
    class Unknown(sa.ColumnElement[int]):
        inherit_cache = True

    compiles(Unknown)(lambda *_, **__: "(SELECT count(*) FROM public.raw_signals)")

    class Derived(sa.Select[tuple[int]]):
        inherit_cache = True

    class Function(sa.sql.functions.GenericFunction[int]):
        inherit_cache = True
        name = "of_somebody"

    for expression in (
        scoped(QATicket, Unknown()),
        Derived(T.c.id).where(scope_of(T)),
        scoped(QATicket, Function()),
    ):
        with pytest.raises(UnscopedStatement, match="does not know"):
            check_scope(expression)


CTE = sa.select(scoped(QATicket, T.c.id).cte("c").c.id)
UPSERT = BOUND["an upsert"]
READ_BY_THE_GUARD = {
    (Select, "_auto_correlate"): (BOUND["a scoped select"],),
    (Select, "_hints"): (BOUND["a scoped select"],),
    (HasPrefixes, "_prefixes"): (BOUND["a scoped select"], BOUND["an update"], BOUND["an insert of the project"], CTE),
    (HasSuffixes, "_suffixes"): (BOUND["a scoped select"], CTE),
    (Select, "_statement_hints"): (BOUND["a scoped select"],),
    (UpdateBase, "_hints"): (BOUND["an update"], BOUND["a delete"], BOUND["an insert of the project"]),
    (ValuesBase, "_values"): (BOUND["an update"], BOUND["an insert of the project"], UPSERT),
    (ValuesBase, "_multi_values"): (BOUND["an update"], BOUND["an insert of the project"], UPSERT),
    (ValuesBase, "_select_names"): (
        sa.insert(T).from_select(["project_id", "title"], sa.select(S.c.project_id, S.c.title).where(scope_of(S))),
    ),
    (Insert, "_post_values_clause"): (BOUND["an insert of the project"], UPSERT),
}
"""The private names of SQLAlchemy that the guard reads, with statements that need each of them."""


class _Renamed:
    """Stands in the class where an attribute was: it is there no more."""

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner):
        raise AttributeError("renamed")

    def __set__(self, instance, value):
        raise AttributeError("renamed")


@pytest.mark.parametrize(("owner", "name"), READ_BY_THE_GUARD, ids=lambda part: getattr(part, "__name__", part))
def test_a_private_name_that_is_gone_refuses_everything_that_needs_it(monkeypatch, owner, name):
    statements = READ_BY_THE_GUARD[owner, name]
    for statement in statements:
        check_scope(statement)
    monkeypatch.setattr(owner, name, _Renamed(), raising=False)
    for statement in statements:
        with pytest.raises((AttributeError, UnscopedStatement)):
            check_scope(statement)


def test_every_private_name_that_the_guard_reads_is_tried():
    tree = ast.parse(inspect.getsource(guard))
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr)}

    assert read - {"_OffsetLimitParam"} == {name for _, name in READ_BY_THE_GUARD}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in {"getattr", "hasattr", "vars"}]
