"""The SQL box on a real server: what it answers, what it refuses, and that hostile SQL reaches nothing beyond its project."""

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape

import asyncpg
import httpx
import pytest

from derwin_db import Database, repos
from derwin_db.isolation.catalog.stores import CLOSED, OPEN
from derwin_db.models import Project
from derwin_db.studio import create_app, sql_box
from derwin_db.studio.sql_box import AT_ONCE, MOST_CHARACTERS, SECONDS, Column
from derwin_db.studio.statement import HARMLESS, LONGEST, Question
from derwin_db.studio.views import VIEWS
from derwin_db.testing import Filled, TestDatabase, create_filled
from tests.studio.test_pages import words

PAGE = "p/lifeline/sql"


async def ask(client: httpx.AsyncClient, sql: str, page: str = PAGE) -> httpx.Response:
    return await client.get(page, params={"statement": sql})


def answered(response: httpx.Response) -> list[list[str]]:
    """The cells of the answer."""
    body = response.text.partition("<tbody>")[2].partition("</tbody>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    return [[unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows]


@pytest.fixture
async def owner(database: TestDatabase, data: Database) -> AsyncIterator[asyncpg.Connection]:
    """The owner, who sees what the box must not."""
    opened = await asyncpg.connect(**database.owner.connect_arguments())
    yield opened
    await opened.close()


class TestAnswers:
    async def test_are_those_of_the_project(self, client: httpx.AsyncClient, data: Database) -> None:
        response = await ask(client, "SELECT status, count(*) AS tickets FROM qa_tickets GROUP BY 1 ORDER BY 2 DESC, 1;")
        async with data.project("lifeline", read_only=True) as session:
            counts = await repos.qa_tickets.counts_by_status(session)
        expected = sorted(((str(s), n) for s, n in counts.items() if n), key=lambda pair: (-pair[1], pair[0]))
        assert answered(response) == [[status, str(count)] for status, count in expected]
        assert "tickets int8" in words(response.text)

    @pytest.mark.parametrize(
        ("sql", "expected"),
        [
            ("VALUES (1, NULL), (2, 'x')", [["1", "\N{EN DASH}"], ["2", "x"]]),
            (
                "SELECT 'infinity'::timestamptz AS a, 'NaN'::numeric AS a, '{\"k\": [1]}'::jsonb",
                [["infinity", "NaN", '{"k": [1]}']],
            ),
            (
                "SELECT row(1, 'x'), ARRAY[1, 2], '\\x00ff'::bytea, true, '<script>'",
                [["(1,x)", "{1,2}", "\\x00ff", "true", "<script>"]],
            ),
            ("SHOW transaction_read_only", [["on"]]),
            ("SELECT random() BETWEEN 0 AND 1", [["true"]]),
        ],
    )
    async def test_every_value_is_its_text(self, client: httpx.AsyncClient, sql: str, expected: list[list[str]]) -> None:
        response = await ask(client, sql)
        assert (response.status_code, answered(response)) == (200, expected)

    async def test_are_cut_where_they_are_long(self, client: httpx.AsyncClient) -> None:
        many = await ask(client, "SELECT n FROM generate_series(1, 100000) AS n")
        wide = await ask(client, "SELECT repeat('x', 1000000)")
        assert (len(answered(many)), "the first 500 rows" in words(many.text)) == (500, True)
        whole = words((await ask(client, "SELECT n FROM generate_series(1, 500) AS n")).text)
        assert ("500 rows in" in whole, "the first" in whole) == (True, False)
        [[cell]] = answered(wide)
        assert cell == "x" * (MOST_CHARACTERS - 1) + "…"
        assert len(wide.text) < 20_000

    async def test_an_end_of_a_line_is_one_character(self, client: httpx.AsyncClient) -> None:
        """A browser counts it as one, and sends two."""
        sql = "SELECT 1" + "\r\n" * (LONGEST - 10) + "-"
        assert answered(await ask(client, f"{sql}1")) == [["0"]]
        assert f"At most {LONGEST:,} characters" in (await ask(client, f"{sql} 1")).text

    async def test_a_plan_is_shown(self, client: httpx.AsyncClient) -> None:
        response = await ask(client, "EXPLAIN SELECT * FROM qa_tickets WHERE title = 'x'")
        assert "Scan" in answered(response)[0][0]

    async def test_what_is_null_is_no_text(self, client: httpx.AsyncClient) -> None:
        text = (await ask(client, "VALUES (NULL, '')")).text
        assert text.count('aria-label="null"') == 1
        assert "No rows." in (await ask(client, "SELECT 1 WHERE false")).text

    async def test_numbers_stand_under_each_other(self, client: httpx.AsyncClient) -> None:
        text = (await ask(client, "SELECT 1 AS a, 1.5 AS b, 1::float4 AS c, 'x' AS d, now() AS e")).text
        found = [re.findall(rf'<{tag}[^>]*class="(\w+)"', text.partition('class="answer"')[2]) for tag in ("th", "td")]
        assert found == [["number"] * 3, [*["number"] * 3, "text", "text"]]

    async def test_what_the_server_says_is_cut_and_has_its_hint(self, client: httpx.AsyncClient) -> None:
        hint = words((await ask(client, "SELECT tittle FROM qa_tickets")).text)
        assert 'column "tittle" does not exist. Perhaps you meant to reference' in hint
        long = (await ask(client, f"SELECT '{'y' * 2000}'::int")).text
        assert long.partition('id="refusal"')[2].count("y") < 500

    async def test_what_the_server_says_is_shown_and_the_statement_stays(self, client: httpx.AsyncClient) -> None:
        response = await ask(client, "SELECT no_such_column FROM qa_tickets")
        assert response.status_code == 422
        assert 'column "no_such_column" does not exist' in words(response.text)
        assert "SELECT no_such_column FROM qa_tickets</textarea>" in response.text


class TestFences:
    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT set_config('role', 'none', true)",
            "SELECT set_config('derwin.project_id', '00000000-0000-0000-0000-000000000000', true), count(*) FROM qa_tickets",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity",
            "SELECT pg_advisory_lock(1)",
            "SELECT pg_notify('c', 'x')",
            "SELECT pg_sleep(1)",
            "SELECT 1 LIMIT pg_terminate_backend(1)::int",
            'SELECT 1 ORDER BY "pg_sleep"(1)',
            "SELECT (seconds).pg_sleep FROM (SELECT 1::float8) AS s (seconds)",
            "SELECT (pid).pg_terminate_backend FROM (SELECT pg_backend_pid()) AS p (pid)",
            "SELECT query_to_xml('SELECT pg_sleep(1)', true, true, '')",
            "SELECT cursor_to_xml('c', 1, true, true, '')",
            "SELECT * FROM ts_stat('SELECT pg_sleep(1)::text::tsvector')",
            "SELECT ts_rewrite('a'::tsquery, 'SELECT ''b''::tsquery, ''c''::tsquery WHERE pg_sleep(1) IS NULL')",
            "SELECT lo_creat(1)",
            "SELECT pg_export_snapshot()",
            "SELECT derwin_open('x')",
            "SELECT nextval('s')",
            "SELECT pg_logical_emit_message(true, 'a', 'b')",
            "EXPLAIN ANALYZE SELECT pg_sleep(1)",
        ],
    )
    async def test_functions_that_do_something_are_not_called(self, client: httpx.AsyncClient, sql: str) -> None:
        response = await ask(client, sql)
        assert (response.status_code, "VOLATILE" in response.text) == (422, True)

    async def test_functions_of_extensions_that_run_texts_are_not_called(
        self, client: httpx.AsyncClient, owner: asyncpg.Connection
    ) -> None:
        """Those of tablefunc are STABLE, and others may be made of them under names of their own: this one only looks so."""
        await owner.execute("SET check_function_bodies = off")
        await owner.execute("CREATE FUNCTION pivot_of(text) RETURNS text STABLE LANGUAGE sql AS 'crosstab'")
        try:
            response = await ask(client, "SELECT pivot_of('SELECT pg_sleep(1)')")
        finally:
            await owner.execute("DROP FUNCTION pivot_of")
        assert (response.status_code, "running SQL within a string" in words(response.text)) == (422, True)

    async def test_no_column_of_ours_has_the_name_of_one(self, owner: asyncpg.Connection) -> None:
        """`t.column` and a call are written alike."""
        names = {column.name for view in VIEWS.values() for column in view.table.c}
        found = await owner.fetch("SELECT proname FROM pg_proc WHERE provolatile = 'v' AND proname = ANY($1)", list(names))
        assert [row[0] for row in found] == []

    @pytest.mark.parametrize("sql", ["SELECT * FROM qa_tickets FOR UPDATE", "SELECT * FROM qa_tickets LIMIT 1 FOR KEY SHARE"])
    async def test_the_server_refuses_locks_and_writes(self, client: httpx.AsyncClient, sql: str) -> None:
        assert "It only reads" in (await ask(client, sql)).text

    async def test_nothing_of_another_project_is_seen(self, client: httpx.AsyncClient, ours: Filled, theirs: Filled) -> None:
        for table in ours.rows:
            ids = [cells[0] for cells in answered(await ask(client, f"SELECT id FROM {table}", f"p/{ours.slug}/sql"))]
            assert sorted(ids) == sorted(str(row.id) for row in ours.rows[table]), table
        for sql in (
            f"SELECT * FROM qa_tickets WHERE project_id = '{theirs.project_id}'",
            f"SELECT slug FROM projects WHERE slug = '{theirs.slug}'",
        ):
            response = await ask(client, sql, f"p/{ours.slug}/sql")
            assert (response.status_code, answered(response)) == (200, [])

    async def test_what_the_login_may_not_read_is_not_shown(self, client: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
        pads = [pad.hex() for pad in await owner.fetchrow("SELECT inner_pad, outer_pad FROM derwin.scope_key")]
        assert [len(pad) > 20 for pad in pads] == [True, True]
        for sql, what in (
            ("SELECT inner_pad, outer_pad FROM derwin.scope_key", "schema derwin"),
            ("SELECT * FROM pg_authid", "table pg_authid"),
            ("SELECT pg_read_file('/etc/passwd')", "pg_read_file"),
        ):
            response = await ask(client, sql)
            assert (response.status_code, what in words(response.text)) == (422, True), sql
            assert not any(pad in response.text for pad in pads)

    async def test_an_error_tells_nothing_of_another_project(
        self, client: httpx.AsyncClient, ours: Filled, theirs: Filled
    ) -> None:
        for order in ("title", "title DESC"):  # one of the two would meet theirs first
            response = await ask(client, f"SELECT title::int FROM qa_tickets ORDER BY {order}", f"p/{ours.slug}/sql")
            assert (response.status_code, ours.marker in response.text) == (422, True)
            assert theirs.marker not in response.text

    async def test_nothing_stays_behind(self, client: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
        for sql in ("SELECT 1", "SELECT 1 / 0", "SHOW role"):
            await ask(client, sql)
        stuck = await owner.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        )
        assert stuck == 0

    async def test_whatever_reaches_other_sessions_is_volatile(self, owner: asyncpg.Connection) -> None:
        functions = await owner.fetch(
            "SELECT DISTINCT proname FROM pg_proc WHERE provolatile <> 'v' AND proname = ANY($1)", list(OPEN | set(CLOSED))
        )
        harmless = await owner.fetch(
            "SELECT DISTINCT proname FROM pg_proc WHERE provolatile = 'v' AND proname = ANY($1)", list(HARMLESS)
        )
        assert [row[0] for row in functions] == []
        assert {row[0] for row in harmless} >= {"random", "clock_timestamp", "gen_random_uuid"}

    async def test_no_other_function_of_the_server_runs_a_text(self, owner: asyncpg.Connection) -> None:
        found = await owner.fetch(
            """
            SELECT oid::regprocedure::text FROM pg_proc
            WHERE pronamespace = 'pg_catalog'::regnamespace AND provolatile <> 'v'
            AND ('query' = ANY(proargnames[1:pronargs]) OR proname ~ '^(query|cursor)_to')
            """
        )
        assert [row[0] for row in found] == []

    async def test_no_operator_or_cast_calls_one(self, owner: asyncpg.Connection) -> None:
        """They are called without a name in front of a parenthesis or behind a dot."""
        found = await owner.fetch(
            """
            SELECT proname FROM pg_proc p WHERE provolatile = 'v' AND (
                EXISTS (SELECT FROM pg_operator WHERE oprcode = p.oid) OR EXISTS (SELECT FROM pg_cast WHERE castfunc = p.oid)
            )
            """
        )
        assert [row[0] for row in found] == []

    @pytest.mark.parametrize(("columns", "status"), [(0, 422), (1, 200), (50, 200), (51, 422)])
    async def test_as_many_columns_as_can_be_shown(self, client: httpx.AsyncClient, columns: int, status: int) -> None:
        response = await ask(client, f"SELECT {', '.join(['1'] * columns)} FROM qa_tickets")
        assert (response.status_code, "1 to 50 columns" in words(response.text)) == (status, status == 422)

    async def test_not_where_the_server_reads_backslashes(self, own_database: TestDatabase) -> None:
        """There the box would not see where a constant ends."""
        opened = await asyncpg.connect(**own_database.owner.connect_arguments())
        await opened.execute(f'ALTER DATABASE "{own_database.owner.database}" SET standard_conforming_strings = off')
        await opened.close()
        async with Database(**own_database.urls) as db:
            filled = await create_filled(db)
            transport = httpx.ASGITransport(app=create_app(db, token="secret", takes_sql=True))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost/secret/") as inside:
                response = await ask(inside, "SELECT 1", f"p/{filled.slug}/sql")
        assert (response.status_code, "standard_conforming_strings is off" in words(response.text)) == (422, True)

    async def test_it_ends_in_time(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, database: TestDatabase
    ) -> None:
        from derwin_db.studio import sql_box

        monkeypatch.setattr(sql_box, "SECONDS", 0.2)
        async with Database(**database.urls) as db:
            transport = httpx.ASGITransport(app=create_app(db, token="secret", takes_sql=True))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost/secret/") as inside:
                response = await ask(inside, "SELECT count(*) FROM generate_series(1, 1000000000)")
                again = await ask(inside, "SELECT 1")
        assert (response.status_code, "and was ended" in response.text) == (422, True)
        assert answered(again) == [["1"]]
        assert SECONDS == 5


class TestOff:
    async def test_it_is_off_unless_it_is_asked_for(self, database: TestDatabase, data: Database, empty: Project) -> None:
        async with Database(**database.urls) as db:
            transport = httpx.ASGITransport(app=create_app(db, token="secret"))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost/secret/") as inside:
                page = await inside.get(f"p/{empty.slug}/sql", params={"statement": "SELECT 1"})
                first = await inside.get(f"p/{empty.slug}/")
        assert page.status_code == 404
        assert "/sql" not in first.text
        assert "<textarea" not in first.text


class TestLimit:
    async def test_two_statements_run_at_a_time_and_pages_meanwhile(
        self, inside: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        running: list[str] = []
        both, go = asyncio.Event(), asyncio.Event()

        async def answer(_: object, asked: Question) -> tuple[list[Column], list[list[str]]]:
            running.append(asked.sql)
            if len(running) == AT_ONCE:
                both.set()
            await go.wait()
            return [Column("a", "text")], [[asked.sql]]

        monkeypatch.setattr(sql_box, "_answer", answer)
        asking = [asyncio.create_task(ask(inside, f"SELECT {number}")) for number in range(AT_ONCE + 2)]
        await both.wait()
        for page in ("p/lifeline/sql", "p/lifeline/tables"):
            assert (await inside.get(page)).status_code == 200
        meanwhile = len(running)
        go.set()
        answers = [answered(response) for response in await asyncio.gather(*asking)]
        assert (meanwhile, AT_ONCE) == (2, 2)
        assert answers == [[[f"SELECT {number}"]] for number in range(4)]

    async def test_a_statement_that_is_ended_before_it_runs(
        self, inside: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The limit of time holds for all that the unit of work does, what the box itself asks of the server too."""
        slow = "SELECT pg_sleep(9)::text WHERE $1::text[] IS NOT NULL AND $2::text[] IS NOT NULL"
        monkeypatch.setattr(sql_box, "_DO_MORE", slow)
        monkeypatch.setattr(sql_box, "SECONDS", 0.05)
        response = await inside.get("p/lifeline/sql", params={"statement": "SELECT 1"})
        assert (response.status_code, "and was ended" in response.text) == (422, True)
