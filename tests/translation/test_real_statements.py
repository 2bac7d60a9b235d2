"""Every class of SQLSTATEs, raised by a real server: what is said of it is true, names what it may, and holds no value."""

import inspect
import traceback
from collections.abc import AsyncIterator

import asyncpg
import pytest

from derwin_db import Database
from derwin_db.errors import (
    AppendOnlyViolation,
    ConfigurationError,
    Conflict,
    DatabaseTimeout,
    DatabaseUnavailable,
    DerwinError,
    ExtensionMissing,
    InvalidInput,
    InvalidReference,
    InvalidStatement,
    SchemaOutOfDate,
    ScopeError,
    TooLarge,
)
from derwin_db.models import Project
from derwin_db.testing import TestDatabase
from derwin_db.translation.debug import show_causes
from derwin_db.translation.driver_errors import raise_translated, translate

SECRET = "canary"
STATES = sorted(
    {
        kind.sqlstate
        for _, kind in inspect.getmembers(asyncpg.exceptions, inspect.isclass)
        if issubclass(kind, asyncpg.PostgresError) and len(getattr(kind, "sqlstate", None) or "") == 5
    }
)
"""All that the driver knows, from PostgreSQL's appendix A."""

TABLES = """
CREATE SCHEMA shop;
CREATE TABLE shop.orders (
    id int PRIMARY KEY, title varchar(5) NOT NULL, price numeric CONSTRAINT dear CHECK (price > 0),
    span int4range, CONSTRAINT apart EXCLUDE USING gist (span WITH &&)
);
CREATE TABLE shop.lines (order_id int CONSTRAINT belongs REFERENCES shop.orders, firm int);
CREATE TABLE shop.notes (order_id int CONSTRAINT restricted REFERENCES shop.orders ON DELETE RESTRICT);
CREATE VIEW shop.cheap AS SELECT * FROM shop.orders WHERE price < 10 WITH CHECK OPTION;
CREATE TABLE shop.spend_ledger (id int);
CREATE DOMAIN shop.grade AS int CONSTRAINT graded CHECK (VALUE < 6);
CREATE SEQUENCE shop.numbers;
CREATE FUNCTION shop.refuse() RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'canary'; END$$;
CREATE FUNCTION shop.ends() RETURNS int LANGUAGE plpgsql AS $$BEGIN COMMIT; RETURN 1; END$$;
CREATE FUNCTION shop.deep(int) RETURNS int LANGUAGE plpgsql AS $$BEGIN RETURN shop.deep($1); END$$;
INSERT INTO shop.orders VALUES (1, 'first', 5, '[1,5)');
INSERT INTO shop.lines VALUES (1, 1);
INSERT INTO shop.orders VALUES (2, 'noted', 5, '[6,7)');
INSERT INTO shop.notes VALUES (2);
CREATE ROLE canary_nobody;
GRANT USAGE ON SCHEMA shop TO canary_nobody;
"""

REAL = [
    ("SELECT FROM orders_of_yesterday", "42P01", InvalidStatement, "table that does not exist (orders_of_yesterday)"),
    ("DROP TABLE shop.orders_of_yesterday", "42P01", InvalidStatement, "orders_of_yesterday"),
    ("SELECT colour FROM shop.orders", "42703", InvalidStatement, "column that does not exist (colour)"),
    ("SELECT o.colour FROM shop.orders o", "42703", InvalidStatement, "o.colour"),
    ("UPDATE shop.orders SET colour = 'canary'", "42703", InvalidStatement, "column colour of table orders|colour"),
    ('SELECT "canary" FROM shop.orders', "42703", InvalidStatement, "column that does not exist."),
    ("SELECT 'canary'::regclass", "42P01", InvalidStatement, "table that does not exist."),
    ("SELECT priced(price, 'canary') FROM shop.orders", "42883", InvalidStatement, "priced"),
    ("SELECT 'canary'::colour", "42704", InvalidStatement, "colour"),
    ("SELECT price + title FROM shop.orders", "42883", InvalidStatement, "function or operator"),
    ("SELEC 'canary'", "42601", InvalidStatement, "syntax error (at character 1)"),
    ("SELECT * FROM shop.orders WHERE title = 'it's canary'", "42601", InvalidStatement, "syntax error (at character"),
    ("SELECT id FROM shop.orders, shop.orders o", "42702", InvalidStatement, "several of its tables have (id)"),
    ("SELECT title, count(*) FROM shop.orders", "42803", InvalidStatement, "groups"),
    ("UPDATE shop.orders SET price = false", "42804", InvalidStatement, "of one type"),
    ("CREATE TABLE shop.orders ()", "42P07", InvalidStatement, "exists already (orders)"),
    ("INSERT INTO shop.orders VALUES (1) ON CONFLICT (price) DO NOTHING", "42P10", InvalidStatement, "ON CONFLICT"),
    ("SELECT nothing.f()", "3F000", InvalidStatement, "schema that does not exist (nothing)"),
    ("EXECUTE canaries", "26000", InvalidStatement, "prepared statement"),
    ("FETCH FROM canaries", "34000", InvalidStatement, "no such cursor"),
    ("ROLLBACK TO SAVEPOINT canaries", "3B001", InvalidStatement, "no such savepoint"),
    ("SELECT 1 / 0", "22012", InvalidInput, "divides by zero"),
    ("SELECT 'canary'::int", "22P02", InvalidInput, "does not read as a value of its type"),
    ("SELECT 'canary'::date", "22007", InvalidInput, "date or time"),
    ("SELECT 2147483647 + 1", "22003", InvalidInput, "outside of its type's range"),
    ("INSERT INTO shop.orders VALUES (7, 'a canary')", "22001", InvalidInput, "longer than its column takes"),
    ("SELECT 'a' ~ '(canary'", "2201B", InvalidInput, "regular expression"),
    ("SELECT ln(-1)", "2201E", InvalidInput, "logarithm"),
    ("SELECT 1 LIMIT -1", "2201W", InvalidInput, "LIMIT is negative"),
    ("SELECT 1 OFFSET -1", "2201X", InvalidInput, "OFFSET is negative"),
    ("SELECT '\"\\u0000canary\"'::jsonb", "22P05", InvalidInput, "can't be converted"),
    ("SELECT set_config('work_mem', 'canary', true)", "22023", InvalidInput, "argument or a setting"),
    ("SELECT jsonb_path_query('[1]', 'strict $.canary')", "2203A", InvalidInput, "no member"),
    ("INSERT INTO shop.orders VALUES (8, NULL)", "23502", InvalidInput, "no value (column title of table orders)"),
    ("INSERT INTO shop.orders VALUES (1, 'again')", "23505", Conflict, "exists already (table orders, constraint orders_pkey)"),
    ("INSERT INTO shop.orders VALUES (9, 'free', -1)", "23514", InvalidInput, "(table orders, constraint dear)"),
    ("SELECT 7::shop.grade", "23514", InvalidInput, "constraint graded, type grade"),
    ("INSERT INTO shop.lines VALUES (77)", "23503", InvalidReference, "does not exist in this project (table lines"),
    (
        "DELETE FROM shop.orders WHERE id = 1",
        "23503",
        Conflict,
        "Other rows refer to this one (table lines, constraint belongs)",
    ),
    ("UPDATE shop.orders SET id = 4 WHERE id = 1", "23503", Conflict, "Other rows refer to this one (table lines"),
    ("DELETE FROM shop.orders WHERE id = 2", "23001", Conflict, "Other rows refer to this one (table notes"),
    ("INSERT INTO shop.orders VALUES (5, 'x', 1, '[2,3)')", "23P01", Conflict, "excludes this one"),
    ("INSERT INTO shop.cheap VALUES (6, 'x', 99)", "44000", ScopeError, "outside of the view"),
    ("SELECT (SELECT id FROM shop.orders)", "21000", InvalidInput, "several rows where one is wanted"),
    ("VACUUM", "25001", ScopeError, "present state"),
    ("SET TRANSACTION READ ONLY;; DELETE FROM shop.lines", "25006", ScopeError, "read-only"),
    ("DROP TABLE shop.orders", "2BP01", Conflict, "depend on this one"),
    ("SELECT shop.ends()", "2D000", ScopeError, "can't end its transaction"),
    ("SELECT shop.refuse()", "P0001", Conflict, "refused this"),
    ("SELECT lastval()", "55000", InvalidStatement, "not in the state"),
    ("COPY shop.orders FROM '/nowhere/canary'", "58P01", DatabaseUnavailable, "file that the server needs"),
    ("CREATE INDEX CONCURRENTLY ON shop.orders (price)", "25001", ScopeError, "present state"),
    ("COMMENT ON TABLE shop.orders IS 'x';; SELECT currval('shop.numbers')", "55000", InvalidStatement, "not in the state"),
    ("SELECT * FROM shop.orders FOR UPDATE OF o", "42P01", InvalidStatement, "table that does not exist"),
    ("SELECT array_agg(id) OVER (PARTITION BY (count(*) OVER ())) FROM shop.orders", "42P20", InvalidStatement, "window"),
    ("SELECT price, sum(price) FILTER (WHERE true) FROM shop.cheap GROUP BY 1 FOR UPDATE", "0A000", InvalidStatement, ""),
    ("SET LOCAL statement_timeout = 20;; SELECT pg_sleep(5)", "57014", DatabaseTimeout, "DERWIN_STATEMENT_TIMEOUT"),
    ("SET LOCAL ROLE canary_nobody;; SELECT * FROM shop.orders", "42501", ScopeError, "(orders)"),
    ("SET LOCAL ROLE canary_nobody;; SELECT * FROM shop.spend_ledger", "42501", ScopeError, "spend_ledger"),
    ("SET LOCAL ROLE derwin_app;; DELETE FROM public.spend_ledger", "42501", AppendOnlyViolation, "append-only"),
    ("SELECT shop.deep(1)", "54001", TooLarge, "nested deeper"),
    ("SET LOCAL search_path = shop;; SELECT '[1]'::vector", "42704", ExtensionMissing, "moved to another schema"),
    (
        "SET LOCAL search_path = shop;; SELECT embedding <=> embedding FROM public.rag_corpus",
        "42883",
        ExtensionMissing,
        "pgvector",
    ),
    ("SELECT derwin_of_tomorrow()", "42883", SchemaOutOfDate, "derwin-db migrate"),
    (
        "ALTER TABLE qa_tickets DROP COLUMN title CASCADE;; SELECT qa_tickets.title FROM public.qa_tickets",
        "42703",
        SchemaOutOfDate,
        "",
    ),
    ("ALTER TABLE rag_corpus RENAME TO gone;; SELECT FROM public.rag_corpus", "42P01", SchemaOutOfDate, "derwin-db migrate"),
    (
        "ALTER TABLE qa_tickets DROP COLUMN title CASCADE;; UPDATE public.qa_tickets SET title = 'x'",
        "42703",
        SchemaOutOfDate,
        "derwin-db migrate",
    ),
    ("SELECT qa_tickets.canary_colour FROM qa_tickets", "42703", InvalidStatement, "qa_tickets.canary_colour"),
    ("UPDATE qa_tickets SET canary_colour = 1", "42703", InvalidStatement, "canary_colour"),
    ("INSERT INTO public.qa_tickets (canary_colour) VALUES (1)", "42703", InvalidStatement, "canary_colour"),
]


@pytest.fixture
async def owner(owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection to a database with tables of a service."""
    await owner.execute(TABLES)
    yield owner
    await owner.execute("DROP OWNED BY canary_nobody; DROP ROLE canary_nobody")


async def error_of(connection: asyncpg.Connection, statement: str) -> asyncpg.PostgresError:
    """What the server says to the statement, in a transaction that is undone."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        with pytest.raises(asyncpg.PostgresError) as caught:
            for part in statement.split(";; "):
                await connection.fetch(part)
        return caught.value
    finally:
        await transaction.rollback()


def assert_no_value(error: DerwinError) -> None:
    shown = str(error) + repr(error) + "".join(traceback.format_exception(error))
    assert SECRET not in shown.replace("canary_nobody", "").replace("canary_colour", "")


class TestRealStatements:
    async def test_each_is_told_truly(self, owner: asyncpg.Connection) -> None:
        wrong = []
        for statement, state, kind, said in REAL:
            raised = await error_of(owner, statement)
            error = translate(raised)
            assert error is not None
            assert_no_value(error)
            fits = any(part in error.message for part in said.split("|"))
            if (state, kind) != (error.sqlstate, type(error)) or not fits:
                wrong.append((statement[:80], raised.sqlstate, type(error).__name__, error.message))
        assert not wrong, wrong

    async def test_every_state_has_a_sentence_of_its_class(self, owner: asyncpg.Connection) -> None:
        """A function of a service may raise any of them."""
        silent = []
        for state in STATES:
            if state[:2] in ("00", "01", "02"):
                continue  # success, warnings, no data: nothing is raised
            raised = await error_of(owner, f"DO $$BEGIN RAISE EXCEPTION 'canary' USING ERRCODE = '{state}'; END$$")
            error = translate(raised)
            assert error is not None
            assert error.sqlstate == state
            assert_no_value(error)
            if type(error) is DerwinError:
                silent.append(state)
        assert not silent, silent

    async def test_a_value_that_the_driver_can_not_encode_is_told_by_its_number(self, owner: asyncpg.Connection) -> None:
        with pytest.raises(asyncpg.DataError) as one:
            await owner.fetch("SELECT $1::int, $2::date", 1, SECRET)
        with pytest.raises(asyncpg.DataError) as many:
            await owner.executemany("SELECT $1::int, $2::int", [(1, 1), (1, SECRET)])
        with pytest.raises(asyncpg.InterfaceError) as short:
            await owner.fetch("SELECT $1::int, $2::date", 1)
        messages = [translate(caught.value) for caught in (one, many, short)]
        assert "argument 2" in str(messages[0])
        assert "argument 2 of row 1" in str(messages[1])
        assert str(messages[2]) == "The statement has 2 parameters, and was given 1 values."
        assert [type(error) for error in messages] == [InvalidInput, InvalidInput, InvalidStatement]
        for error in messages:
            assert_no_value(error)

    async def test_a_lost_statement_of_the_driver_is_the_poolers(self, owner: asyncpg.Connection) -> None:
        await owner.fetch("SELECT 1")
        error = translate(await error_of(owner, "EXECUTE __asyncpg_stmt_77__"))
        assert isinstance(error, ConfigurationError)
        assert "pgbouncer=true" in error.message


class TestCauses:
    async def test_stay_behind_unless_an_operator_asks(self, db: Database, project: Project) -> None:
        import sqlalchemy as sa

        async def failing() -> DerwinError:
            with pytest.raises(InvalidInput) as caught:
                async with db.project(project.id) as session:
                    await session.sql.execute(sa.text("SELECT CAST(:given AS int)"), {"given": SECRET})
            return caught.value

        assert_no_value(await failing())
        show_causes()
        try:
            assert SECRET in str((await failing()).__cause__)
        finally:
            show_causes(on=False)

    def test_of_classes_and_attributes_are_shown(self) -> None:
        from sqlalchemy.exc import MissingGreenlet

        with pytest.raises(InvalidStatement, match="selectinload") as caught:
            raise_translated(MissingGreenlet("greenlet_spawn has not been called"))
        assert isinstance(caught.value.__cause__, MissingGreenlet)

    async def test_a_unit_that_was_idle_for_too_long_says_so_and_runs_once(
        self, migrated: TestDatabase, project: Project
    ) -> None:
        import asyncio

        from derwin_db import repos
        from derwin_db.settings import Settings
        from derwin_db.testing.factories import create_ticket

        calls = 0
        async with Database(**migrated.urls, settings=Settings(idle_in_transaction_timeout=0.2)) as impatient:

            async def thinks(session) -> None:
                nonlocal calls
                calls += 1
                await create_ticket(session)
                closed = session._connection.is_closed
                while not closed():
                    await asyncio.sleep(0.01)
                await repos.qa_tickets.count(session)

            with pytest.raises(DatabaseUnavailable, match="DERWIN_IDLE_IN_TRANSACTION_TIMEOUT") as caught:
                await impatient.run(project.id, thinks)
        assert (caught.value.sqlstate, calls) == ("25P03", 1)
