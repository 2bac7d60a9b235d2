"""Attacks by writing (families 28, 29): evidence, logs and ledger by hand, and values that nobody could read back.

Each runs in a unit of A that is rolled back, and looks at what the database made of it.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import asyncpg
import sqlalchemy as sa

from derwin_db import repos
from derwin_db.errors import InvalidInput
from derwin_db.fields.table import PydanticJson
from derwin_db.models.audit_artifact import RETENTION
from derwin_db.query.builders import table_of
from derwin_db.testing.filling import models_by_table
from tests.isolation.arena import Arena
from tests.isolation.statements import raw_connection
from tests.isolation.units import Script

EVIDENCE = """
INSERT INTO public.audit_artifacts
    (project_id, kind, storage_uri, mime_type, byte_size, content_hash, compliance_mode, retention_until,
     created_at, updated_at)
VALUES ($1, 'LOG', 's3://x/y', 'text/plain', 1, repeat('0', 64), 'GDPR', now() - interval '1 second',
        '1999-01-01', '1999-01-01')
RETURNING compliance_mode, retention_until, created_at, updated_at, now() AS now
"""
MODE = "UPDATE public.projects SET mode = $1"
MODE_LOG = """
INSERT INTO public.project_mode_logs (project_id, from_mode, to_mode, actor, reason, created_at)
VALUES ($1, $2, $3, 'the board', 'approved', $4::timestamptz) RETURNING created_at, now() AS now
"""
EVOLUTION_LOG = """
INSERT INTO public.profile_evolution_logs (project_id, {columns}, created_at)
SELECT project_id, {values}, '1999-01-01' FROM public.profile_evolution_logs ORDER BY created_at LIMIT 1
RETURNING created_at, now() AS now
"""
ENTRY = """
INSERT INTO public.spend_ledger
    (project_id, project_slug, kind, source, amount_usd, idempotency_key, occurred_at, details{columns})
VALUES ($1, {slug}, 'CHARGE', 'OTHER', {amount}, 'by-hand', now(), '{{}}'{values})
RETURNING amount_usd
"""


class Undone(Exception):
    """Ends the unit of an attack, so that nothing of it stays."""


async def in_a_unit(arena: Arena, attack: Any) -> None:
    """Run the attack in a unit of A, and undo it."""
    try:
        async with arena.shared.narrow.project(arena.a.project_id) as session:
            await attack(session, await raw_connection(session))
            raise Undone
    except Undone:
        return


async def refused(raw: Any, sql: str, *arguments: Any, constraint: str | None = None) -> None:
    """See to it that the server refuses the statement, and go on."""
    await raw.execute("SAVEPOINT tried")
    try:
        got = await raw.fetch(sql, *arguments)
    except asyncpg.PostgresError as error:
        await raw.execute("ROLLBACK TO tried")
        named = f"{getattr(error, 'constraint_name', None)} {error}"  # a shard's error has the name in its text alone
        if constraint is not None and constraint not in named:
            raise AssertionError(f"refused for another reason: {error!r}") from None
        return
    raise AssertionError(f"not refused: {sql} {arguments}: {got}")


# --- family 28 --------------------------------------------------------------------------------------------------------


async def evidence_is_kept_as_the_rule_says(arena: Arena) -> None:
    async def attack(session: Any, raw: Any) -> None:
        row = await raw.fetchrow(EVIDENCE, session.project_id)
        rule = (await repos.projects.current(session)).compliance_mode
        kept = await raw.fetchval(f"SELECT (now() AT TIME ZONE 'UTC' + interval '{RETENTION[rule]}') AT TIME ZONE 'UTC'")
        assert (row["compliance_mode"], row["retention_until"]) == (rule, kept), row
        assert row["created_at"] == row["updated_at"] == row["now"], row
        assert not (await repos.audit_artifacts.prune_expired(session, limit=500)).remaining

    await in_a_unit(arena, attack)


async def a_log_is_written_now_and_says_what_happened(arena: Arena) -> None:
    async def attack(session: Any, raw: Any) -> None:
        mode = (await repos.projects.current(session)).mode
        other = "AUTHOR" if mode != "AUTHOR" else "OBSERVE"
        lies = ((mode, mode), (mode, other), (None, other))
        for lie in lies:
            await refused(raw, MODE_LOG, session.project_id, *lie, None, constraint="ck_project_mode_logs_is_true")
        changes = ((mode, other), (other, mode))
        for change, at in zip(changes, ("1999-01-01 00:00:00+00", "2999-01-01 00:00:00+00"), strict=True):
            await raw.execute(MODE, change[1])
            row = await raw.fetchrow(MODE_LOG.replace("$4", f"'{at}'"), session.project_id, *change)
            assert row["now"] <= row["created_at"] < row["now"].replace(year=row["now"].year + 1), row
        names = ", ".join(
            c.name for c in table_of(repos.profile_evolution_logs.model).c if c.name not in ("project_id", "id", "created_at")
        )
        values = names.replace("to_version", "to_version + 1000")
        forged = EVOLUTION_LOG.format(columns=names, values=values)
        await refused(raw, forged, constraint="ck_profile_evolution_logs_is_true")
        await raw.execute("UPDATE public.project_profiles SET version = (SELECT to_version + 1000 FROM "
                          "public.profile_evolution_logs ORDER BY created_at LIMIT 1)")  # fmt: skip
        row = await raw.fetchrow(forged)
        assert row["created_at"] >= row["now"], row

    await in_a_unit(arena, attack)


async def a_mode_that_changes_without_its_entry(arena: Arena) -> None:
    try:
        async with arena.shared.narrow.project(arena.a.project_id) as session:
            raw = await raw_connection(session)
            await raw.execute("UPDATE public.projects SET mode = CASE mode WHEN 'AUTHOR' THEN 'OBSERVE' ELSE 'AUTHOR' END")
            await refused(raw, "SET CONSTRAINTS ALL IMMEDIATE", constraint="ck_projects_mode_is_logged")
    except InvalidInput:
        return
    raise AssertionError("the mode changed, and its log does not say so")


async def an_entry_of_a_change_that_was_none(arena: Arena) -> None:
    async def attack(session: Any, raw: Any) -> None:
        mode = (await repos.projects.current(session)).mode
        other, third, *_ = (each for each in ("OBSERVE", "TRIAGE", "AUTHOR") if each != mode)
        for lie in ((other, mode), (third, mode)):
            await refused(raw, MODE_LOG, session.project_id, *lie, None, constraint="ck_project_mode_logs_is_true")
        await raw.execute(MODE, other)
        await refused(raw, MODE_LOG, session.project_id, None, other, None, constraint="ck_project_mode_logs_is_true")
        await raw.fetchrow(MODE_LOG, session.project_id, mode, other, None)
        for lie in ((mode, other), (third, other), (None, other)):
            await refused(raw, MODE_LOG, session.project_id, *lie, None, constraint="ck_project_mode_logs_is_true")
        await raw.execute(MODE, third)
        for lie in ((mode, third), (None, third)):
            await refused(raw, MODE_LOG, session.project_id, *lie, None, constraint="ck_project_mode_logs_is_true")
        await raw.fetchrow(MODE_LOG, session.project_id, other, third, None)
        await raw.execute("SET CONSTRAINTS ALL IMMEDIATE")

    await in_a_unit(arena, attack)


async def a_mode_to_and_fro_whose_last_change_has_no_entry(arena: Arena) -> None:
    async def attack(session: Any, raw: Any) -> None:
        mode = (await repos.projects.current(session)).mode
        other = "AUTHOR" if mode != "AUTHOR" else "OBSERVE"
        for before, after in ((mode, other), (other, mode)):
            await raw.execute(MODE, after)
            await raw.fetchrow(MODE_LOG, session.project_id, before, after, None)
        await raw.execute(MODE, other)
        await refused(raw, "SET CONSTRAINTS ALL IMMEDIATE", constraint="ck_projects_mode_is_logged")
        await raw.fetchrow(MODE_LOG, session.project_id, mode, other, None)
        await raw.execute("SET CONSTRAINTS ALL IMMEDIATE")

    await in_a_unit(arena, attack)


async def an_entry_under_another_name(arena: Arena) -> None:
    async def attack(session: Any, raw: Any) -> None:
        for slug in (f"'{arena.b.slug}'", "'nobody'", "upper('x')"):
            for way in (ENTRY, f"WITH booked AS ({ENTRY}) SELECT * FROM booked"):
                sql = way.format(slug=slug, amount=1, columns="", values="")
                await refused(raw, sql, session.project_id, constraint="ck_spend_ledger_project_slug")
        await raw.fetch(ENTRY.format(slug=f"'{arena.a.slug}'", amount=1, columns="", values=""), session.project_id)

    await in_a_unit(arena, attack)


async def an_entry_of_another_day(arena: Arena) -> None:
    async def attack(session: Any, raw: Any) -> None:
        for at in ("1999-01-01", "2099-01-01"):
            sql = ENTRY.format(slug=f"'{arena.a.slug}'", amount=1, columns=", created_at", values=f", '{at}'")
            await refused(raw, sql, session.project_id, constraint="ck_spend_ledger_written_now")

    await in_a_unit(arena, attack)


async def money_that_would_be_rounded(arena: Arena) -> None:
    async def attack(session: Any, raw: Any) -> None:
        for amount in ("1.2345678", "0.0000005", "0.1::float8 / 3", "100000000", "'NaN'", "'Infinity'", "1e-30", "1e30"):
            sql = ENTRY.format(slug=f"'{arena.a.slug}'", amount=amount, columns="", values="")
            await refused(raw, sql, session.project_id, constraint="ck_spend_ledger_amount_usd")
        for amount in ("99999999.999999", "0.000001"):
            sql = ENTRY.format(slug=f"'{arena.a.slug}'", amount=amount, columns="", values="").replace("by-hand", amount)
            assert await raw.fetchval(sql, session.project_id) == Decimal(amount)
        await refused(raw, "UPDATE public.qa_fix_attempts SET cost_usd = 0.0000001", constraint="ck_qa_fix_attempts_cost_usd")

    await in_a_unit(arena, attack)


async def the_past_of_a_project(arena: Arena) -> None:
    async def attack(session: Any, raw: Any) -> None:
        await refused(raw, "INSERT INTO derwin.restoring (id) VALUES ($1)", session.project_id)
        await refused(raw, "SELECT * FROM derwin.restoring")

    await in_a_unit(arena, attack)


# --- family 29 --------------------------------------------------------------------------------------------------------

EXTREMES = {
    "time": ("'infinity'", "'-infinity'", "'4713-01-01 BC'", "'0001-01-01 00:00:00+00'", "'10000-01-01 00:00:00+00'",
             "'294276-12-31'", "'9999-12-31 23:59:59.999999+00'"),
    "json": ("'1e400'", "'-1e400'", "'[1e301]'", "repeat('[', 200) || repeat(']', 200)",
             "repeat('[', 3000) || repeat(']', 3000)", "'{\"a\": ' || repeat('9', 5000) || '}'",
             "'[\"' || repeat('x', 20000000) || '\"]'"),
    "text": ("repeat('x', 4000001)",),
}  # fmt: skip
"""Values at and beyond the ends of a type, as SQL."""

ODD_JSON = ("null", "[]", "{}", '"text"', "1", "true", '{"unknown": {"deep": [1, null]}}', "[[1]]", '[{"op": "?"}]')
"""JSON that fits no shape, or another one."""


def kind_of(column: Any) -> str | None:
    if isinstance(column.type, sa.DateTime):
        return "time"
    if isinstance(column.type, PydanticJson):
        return "json"
    return "text" if type(column.type) is sa.Text else None


CAST = {"time": "timestamptz", "json": "jsonb", "text": "text"}


def extreme_script(table: str, column: Any, kind: str) -> Any:
    async def run(arena: Arena) -> None:
        """The owner stores it, so that no privilege stands in the way of the type."""
        owner = arena.shared.owner
        transaction = owner.transaction()
        await transaction.start()
        try:
            await owner.execute(f"ALTER TABLE public.{table} DISABLE TRIGGER USER")
            await owner.execute(f"ALTER TABLE public.{table} NO FORCE ROW LEVEL SECURITY")
            scope = "id" if table == "projects" else "project_id"
            for value in EXTREMES[kind]:
                update = f"UPDATE public.{table} SET {column.name} = ({value})::{CAST[kind]} WHERE {scope} = $1"
                await refused(owner, update, arena.a.project_id)
        finally:
            await transaction.rollback()

    return run


def odd_script(table: str, column: Any) -> Any:
    async def run(arena: Arena) -> None:
        """Whatever JSON a row holds, every row of the table is listed, streamed and found."""
        world, repository = arena.shared, getattr(repos, table)
        scope = "id" if table == "projects" else "project_id"
        kept = await world.owner.fetch(
            f"SELECT id, {column.name}::text AS was FROM public.{table} WHERE {scope} = $1", arena.a.project_id
        )
        change = f"UPDATE public.{table} SET {column.name} = $2::text::jsonb WHERE {scope} = $1"
        triggers = await world.owner.fetch(
            f"SELECT tgname FROM pg_trigger WHERE tgrelid = 'public.{table}'::regclass AND NOT tgisinternal"
        )
        await world.owner.execute(f"ALTER TABLE public.{table} DISABLE TRIGGER USER")
        try:
            for odd in ODD_JSON:
                await world.owner.execute(change, arena.a.project_id, odd)
                async with world.narrow.project(arena.a.project_id, read_only=True) as session:
                    listed = {row.id for row in (await repository.list(session, limit=500)).items}
                    assert {row["id"] for row in kept} >= listed > set(), f"{odd} is not read back"
                    assert await repository.find(session, next(iter(listed))) is not None
        finally:
            for row in kept:
                await world.owner.execute(f"{change} AND id = $3", arena.a.project_id, row["was"], row["id"])
            for trigger in triggers:
                await world.owner.execute(f"ALTER TABLE public.{table} ENABLE ALWAYS TRIGGER {trigger['tgname']}")

    return run


def writing_scripts() -> Iterator[Script]:
    for run in (
        evidence_is_kept_as_the_rule_says, a_log_is_written_now_and_says_what_happened, a_mode_that_changes_without_its_entry,
        an_entry_of_a_change_that_was_none, a_mode_to_and_fro_whose_last_change_has_no_entry, an_entry_under_another_name,
        an_entry_of_another_day, money_that_would_be_rounded, the_past_of_a_project,
    ):  # fmt: skip
        yield Script(28, run.__name__.replace("_", " "), run)
    for table, model in models_by_table().items():
        for column in table_of(model).c:
            kind = kind_of(column)
            if kind is not None:
                yield Script(29, f"{table}.{column.name} beyond its ends", extreme_script(table, column, kind))
            if kind == "json":
                yield Script(29, f"{table}.{column.name} in another shape", odd_script(table, column))
