"""What the SQL box takes, by the text of a statement alone: it is read as the server's scanner reads it."""

import pytest

from derwin_db.errors import InvalidInput
from derwin_db.studio.statement import LONGEST, question


class TestTaken:
    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT 1",
            "select 1;",
            " -- why\n/* nested /* comment */ */ SELECT 1 ; ; ",
            "WITH t AS (SELECT 1) SELECT * FROM t",
            "VALUES (1), (2)",
            "TABLE qa_tickets",
            "((SELECT 1) UNION (SELECT 2))",
            "SHOW search_path",
            "EXPLAIN SELECT 1",
            "EXPLAIN (ANALYZE, COSTS OFF) WITH t AS (SELECT 1) SELECT * FROM t",
            "EXPLAIN ANALYZE VERBOSE SELECT 1",
            "EXPLAIN ANALYSE SELECT 1",
            'SELECT ";", "$" FROM t',
            "SELECT E'\\\n'",
            "EXPLAIN (SELECT 1)",
            "SELECT 'a;b', $$;$$, $x$ $$ ; $x$, E'\\';', \"in;to\" FROM t",
            "SELECT 'COMMIT; DELETE FROM t'",
            'SELECT "update", "delete" FROM t',
            "SELECT 'it''s'",
            "SELECT 1.5e3, 0x1f, 'x'::text",
        ],
    )
    def test_what_reads(self, sql: str) -> None:
        assert question(sql).sql

    def test_the_semicolon_is_left_out(self) -> None:
        assert question("SELECT ';' ; -- the end").sql == "SELECT ';'"

    @pytest.mark.parametrize(
        ("sql", "calls"),
        [
            ("SELECT pg_sleep(1)", {"pg_sleep"}),
            ("SELECT PG_Sleep /* - */ -- -\n (1)", {"pg_sleep"}),
            ("SELECT f/**/(1), g/*/**/*/(1), h/* * / */(1)", {"f", "g", "h"}),
            ('SELECT "pg_sleep"(1), pg_catalog."Set""x"(1)', {"pg_sleep", 'Set"x'}),
            ("SELECT 'pg_sleep(1)', $$pg_sleep(1)$$, E'\\'pg_sleep(1)' -- pg_sleep(1)", set()),
            ("SELECT 1+1pg_sleep(1)", {"pg_sleep"}),
            ("SELECT * FROM ROWS FROM (now(), a.b.set_config('a', 'b', true))", {"from", "now", "b", "set_config"}),
            ("SELECT $a$ $b$ f(1) $a$, g(1)", {"g"}),
            ("SELECT E'\\\\', f(1), '\\'", {"f"}),
            ("SELECT '\\', f(1), '\\'", {"f"}),
            ("SELECT abcE'\\', f(1), '\\'", {"f"}),
            ("SELECT a$b$(1), x$y$, f(1) -- $y$", {"a$b$", "f"}),
            ("SELECT b'1', X'1f', n'f(1)', f(1)", {"f"}),
            ("SELECT 1, (x).pg_sleep FROM t", {"pg_sleep"}),
            ('SELECT t . /* - */ "pg_sleep", (1.5e3).PG_Sleep FROM t', {"pg_sleep"}),
            ("SELECT t.*, 1.5 FROM public.t", {"t"}),
            ('SELECT 1, (x)."pg_sleep" FROM t', {"pg_sleep"}),
            ("SELECT 1 -- \r, pg_sleep(1)", {"pg_sleep"}),
            ("SELECT 1 -- \n, pg_sleep(1)", {"pg_sleep"}),
            (f'SELECT {"x" * 64}(1), "{"é" * 32}"(1)', {"x" * 63, "é" * 31}),
        ],
    )
    def test_what_is_called_is_seen(self, sql: str, calls: set[str]) -> None:
        assert question(sql).calls == calls


class TestRefused:
    @pytest.mark.parametrize(
        ("sql", "why"),
        [
            ("", "only reads"),
            ("-- nothing", "only reads"),
            ("DELETE FROM qa_tickets", "only reads"),
            ("SET ROLE none", "only reads"),
            ("DO $$ BEGIN END $$", "only reads"),
            ("CALL p()", "only reads"),
            ("COPY qa_tickets TO STDOUT", "only reads"),
            ("NOTIFY x", "only reads"),
            ("LOCK TABLE qa_tickets", "only reads"),
            ("PREPARE p AS SELECT 1", "only reads"),
            ("EXECUTE p", "only reads"),
            ("DECLARE c CURSOR FOR SELECT 1", "only reads"),
            ("BEGIN", "only reads"),
            ("COMMIT AND CHAIN", "only reads"),
            ("DISCARD ALL", "only reads"),
            ("(DELETE FROM qa_tickets)", "only reads"),
            ("(EXPLAIN SELECT 1)", "only reads"),
            ("'SELECT'", "only reads"),
            ("WITH d AS (DELETE FROM qa_tickets RETURNING 1) SELECT * FROM d", "DELETE"),
            ("SELECT 1 INTO t", "INTO"),
            ("EXPLAIN ANALYZE DELETE FROM qa_tickets", "EXPLAIN is for"),
            ("EXPLAIN (ANALYZE) UPDATE pg_settings SET setting = 'none' WHERE name = 'role'", "EXPLAIN is for"),
            ("EXPLAIN ANALYZE EXECUTE p", "EXPLAIN is for"),
            ("EXPLAIN (ANALYZE", "EXPLAIN is for"),
            ("EXPLAIN (ANALYZE) CREATE TABLE t AS SELECT 1", "EXPLAIN is for"),
            ("SELECT 1; SELECT 2", "One statement"),
            ("SELECT 1; COMMIT", "One statement"),
            ("SELECT '; -- '; DELETE FROM t", "One statement"),
            ("SELECT $1", "parameters"),
            ("SELECT 'open", "not closed"),
            ('SELECT "open', "not closed"),
            ("SELECT $a$ open $b$", "not closed"),
            ("SELECT /* /* */ 1", "not closed"),
            ("SELECT E'\\'", "not closed"),
            ('SELECT U&"\\0070g_sleep"(1)', "U&"),
            ("SELECT u&'x'", "U&"),
            ("SELECT E'a'\n'\\'' , pg_sleep(1), '' --'", "one piece"),
            ("SELECT E'a' -- c\n '\\''", "one piece"),
            ("SELECT '\0'", "NUL"),
            ("SELECT " + "1" * LONGEST, "At most"),
        ],
    )
    def test_says_why(self, sql: str, why: str) -> None:
        with pytest.raises(InvalidInput) as error:
            question(sql)
        assert why in error.value.message
