"""Mutations of the code: each guard of this package taken out for a while, and the attacks that notice.

Together with `damage` (the database) these prove that the suite bites: what nothing notices is not guarded.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
from pydantic_settings import BaseSettings
from sqlalchemy.orm import Session

from derwin_db import session
from derwin_db.cli import output
from derwin_db.connection import pool
from derwin_db.deploy import rotation
from derwin_db.deploy.embedded import folder, postmaster
from derwin_db.errors import DerwinError, InvalidInput, NotFound
from derwin_db.isolation import preamble
from derwin_db.isolation.seal import Kind
from derwin_db.repos import base
from derwin_db.repos.conditions import Condition
from derwin_db.repos.rules import patching
from derwin_db.settings import Settings
from derwin_db.testing import TestServer
from derwin_db.testing.unfiltered import without_filters
from derwin_db.transfer import lines
from derwin_db.unit import lent, sqlalchemy_session, transaction
from derwin_db.workers import Job
from tests.isolation.admin_door import admin_scripts
from tests.isolation.arena import Arena, Ground, open_arena
from tests.isolation.callers import inputs
from tests.isolation.expressions import conditions, paused, recorded
from tests.isolation.fences import copied, patched
from tests.isolation.guarding import guard_scripts
from tests.isolation.matrix import Attack, Result, _run_one, all_attacks
from tests.isolation.methods import method_cases
from tests.isolation.states import Case

Patch = Callable[[], Any]

SILENT = logging.getLogger("nowhere")


@dataclass(frozen=True)
class Mutation:
    """One guard that is out, and what attacks are tried: titles that begin with one of these."""

    name: str
    patch: Patch
    attacks: tuple[str, ...]
    needs_a_database: bool = True


def everywhere(name: str, value: Any) -> Any:
    """Replace a function in every module of the package that has it by this name."""
    stack = contextlib.ExitStack()
    for module in [module for key, module in sys.modules.items() if key.startswith("derwin_db") and name in vars(module)]:
        stack.enter_context(patched(module, **{name: value}))
    return stack


def _no_role(_self: Any, _role: str, begin: Any, _puts: str = "") -> str:
    return str(begin)


def _nobodys_connections() -> Any:
    """Transactions take no role, and connections stand under none between them."""
    make = pool.Pool.__init__

    def made(self: Any, *arguments: Any, role: Any = None, **options: Any) -> None:
        make(self, *arguments, role=None, **options)

    stack = contextlib.ExitStack()
    stack.enter_context(patched(preamble.Preamble, _begin=_no_role))
    stack.enter_context(patched(pool.Pool, __init__=made))
    return stack


def _scope_of_nobody(self: Any, connection: Any, _project: Any) -> str:
    return self.seal.token(Kind.SCOPES, UUID(int=1), preamble._server_time(connection), connection.get_server_pid())


def _ended_unseen() -> Any:
    stack = contextlib.ExitStack()
    stack.enter_context(patched(lent, ends_transaction=lambda _: False))
    stack.enter_context(patched(lent.Lender, _see_transaction=lambda _: None))
    return stack


async def _no_scope(_self: Any, connection: Any, _project: Any, begin: Any) -> None:
    await connection.execute(f"{begin}; SET LOCAL ROLE derwin_app")


async def _short_preamble(self: Any, connection: Any, project: Any, begin: Any) -> None:
    token = self.seal.token(Kind.OPENS, project, preamble._server_time(connection), connection.get_server_pid())
    await connection.execute(f"/**/{begin}; SET LOCAL ROLE derwin_app; SELECT public.derwin_open('{token}')")


async def _unfinished(_connection: Any, *, wait_seconds: float = 0) -> None:
    """Leave the former key where it is."""


async def _no_cleaning(_connection: Any, _setup: str, **_: Any) -> None:
    pass


async def _telling_get(self: Any, session: Any, id: Any) -> Any:
    row = await self.find(session, id)
    if row is None:
        raise NotFound(f"There is no row {id} here.")
    return row


def _lent(self: Any, name: str) -> Any:
    return getattr(self._lender.connection, name)


def _goes_on(_self: Any) -> None:
    pass


def _no_release(_self: Any, *_: Any) -> None:
    pass


_known_filters = base.Repository._conditions_of


def _any_filter(self: Any, filters: Any) -> dict[str, Any]:
    """Take known filters as they are, and unknown ones as columns."""
    known = {name: value for name, value in filters.items() if name in self.filter_types}
    unknown = {name: Condition("one", value) for name, value in filters.items() if name not in known and value is not None}
    return {**_known_filters(self, known), **unknown}


def _type_alone(data: Any, kind: type[Any], *_: Any) -> None:
    if type(data) is not kind:
        raise InvalidInput("another type")


def _lenient_inputs() -> Any:
    stack = contextlib.ExitStack()
    for kind in inputs().values():
        kept = kind.model_config["extra"]
        kind.model_config["extra"] = "ignore"
        kind.model_rebuild(force=True)

        def back(kind: Any = kind, kept: Any = kept) -> None:
            kind.model_config["extra"] = kept
            kind.model_rebuild(force=True)

        stack.callback(back)
    return stack


async def _showing_ask(self: Any, statement: Any, values: Any) -> Any:
    """Ask with the token in the statement's text, where pg_stat_activity shows it."""
    await self._connected()
    sql = statement.sql.replace("$1", f"'{self._QueueSession__token}'", 1)
    numbers = {f"${number}": f"${number - 1}" for number in range(2, 9)}
    for old, new in numbers.items():
        sql = sql.replace(old, new)
    arguments = statement.arguments({**values, "token": ""})[1:]
    return [row[0] for row in await self._driver("fetch", sql, *arguments)]


def _named_by_its_row() -> Any:
    return patched(Job, project_id=property(lambda job: job.run.project_id))


def _believing_lines() -> Any:
    def believe(self: Any, end: Any) -> None:
        self._end_rows = end.get("rows")

    return patched(lines.Lines, _check_end=believe, check_counts=lambda *_: None)


def _any_postmaster() -> Any:
    """Whoever has the number is the server; `end` waits for no server's farewell."""
    return patched(postmaster, _is_postmaster=lambda *_: True)


@contextlib.contextmanager
def _in_place(path: Any) -> Any:
    with path.open("wb") as file:
        yield file


def _mixed_settings() -> Any:
    """Each URL comes from the first source that has it, as pydantic-settings has it."""
    return patched(Settings, settings_customise_sources=BaseSettings.__dict__["settings_customise_sources"])


UNIT, LENT = transaction.Transaction, lent.Borrowed
SQL = sqlalchemy_session.UnitSession

MUTATIONS = (
    Mutation("connections are under no role", _nobodys_connections, ("own calls",)),
    Mutation(
        "a statement alone has another scope",
        lambda: patched(preamble.Preamble, scope_of_one=_scope_of_nobody),
        ("own calls",),
    ),
    Mutation("SQL ends transactions unseen", _ended_unseen, ("17. an end by hand",)),
    Mutation("the preamble opens no scope", lambda: patched(preamble.Preamble, for_project=_no_scope), ("own calls",)),
    Mutation(
        "the preamble shows its token", lambda: patched(preamble.Preamble, for_project=_short_preamble), ("14. the token",)
    ),
    Mutation(
        "a rotation leaves the former key", lambda: patched(rotation, finish_rotation=_unfinished), ("14. a key of before",)
    ),
    Mutation("connections are not cleaned", lambda: patched(pool, clean=_no_cleaning), ("15. a setting",)),
    Mutation("the driver's connection is lent whole", lambda: patched(LENT, __getattr__=_lent), ("15. a listener",)),
    Mutation("what was kept of the connection goes on", lambda: patched(UNIT, _check_lent=_goes_on), ("19. a task",)),
    Mutation("what the driver made goes on", lambda: patched(asyncpg.Connection, _on_release=_no_release), ("20. a task",)),
    Mutation("cursors know no project", lambda: everywhere("query_digest", lambda *_: b"x" * 12), ("7. qa_tickets.list",)),
    Mutation("filters take unknown names", lambda: patched(base.Repository, _conditions_of=_any_filter), ("7. ",)),
    Mutation("inputs take unknown fields", _lenient_inputs, ("4. ",)),
    Mutation("inputs take slipped-in fields", lambda: everywhere("check_input", _type_alone), ("4. audit_artifacts.record",)),
    Mutation("anything is a session", lambda: everywhere("project_session", lambda given: given), ("1. ",)),
    Mutation("anything opens the admin door", lambda: everywhere("admin_session", lambda given: given), ("1. ",)),
    Mutation("a unit goes on after its end", lambda: patched(UNIT, _check_usable=lambda _: None), ("1. ", "17. ")),
    Mutation("sessions are copied", lambda: patched(session.UnitOfWork, __reduce__=object.__reduce__), ("2. ",)),
    Mutation("sessions commit by hand", lambda: patched(SQL, commit=Session.commit), ("2. ",)),
    Mutation("sessions roll back by hand", lambda: patched(SQL, rollback=Session.rollback), ("2. ",)),
    Mutation("errors repeat what was asked for", lambda: patched(base.Repository, get=_telling_get), ("3. ",)),
    Mutation("the guard passes everything", lambda: everywhere("check_scope", lambda _: None), ("24. the guard",)),
    Mutation(
        "a worker shows its token", lambda: patched(session.QueueSession, ask=_showing_ask), ("36. the token of a worker",)
    ),
    Mutation("a job believes its row", _named_by_its_row, ("36. a job whose row",)),
    Mutation("an import proves nothing of its file", _believing_lines, ("31. a file altered", "31. a file of fewer")),
    Mutation("patches grow without a bound", lambda: patched(patching, _measure=lambda *_: 0), ("32. a patch",), False),
    Mutation("reasons take line ends", lambda: everywhere("check_reason", lambda given: given), ("32. a reason",), False),
    Mutation("a number is taken for the server", _any_postmaster, ("33. a pid",), False),
    Mutation("a link is taken for a folder", lambda: patched(folder, _is_ours=lambda *_: True), ("33. a socket",), False),
    Mutation("files are written in place", lambda: patched(output, replacing=_in_place), ("34. a file",), False),
    Mutation("settings are mixed", _mixed_settings, ("35. ",), False),
    Mutation("the admin door is not logged", lambda: patched(session, admin_log=SILENT), ("10. admin door",)),
)


async def every_attack(arena: Arena) -> list[Attack]:
    """Return what mutations are tried with: attacks do not depend on the arena that they were made in."""
    return [*await all_attacks(arena), *guard_scripts(), *admin_scripts()]


async def caught(server: TestServer, ground: Ground, mutation: Mutation, attacks: Sequence[Attack]) -> str | None:
    """Return the first attack that notices the mutation, or None."""
    if not mutation.needs_a_database:
        with mutation.patch():
            nowhere: Any = None
            return await first_failure(nowhere, [one for one in attacks if one.title.startswith(mutation.attacks)])
    with paused(), mutation.patch():
        async with own_arena(server, ground) as arena:
            if mutation.attacks != ("own calls",):
                return await first_failure(arena, [one for one in attacks if one.title.startswith(mutation.attacks)])
            try:
                await method_cases(arena)
            except (AssertionError, DerwinError):
                return "own calls: every method succeeds in its own project"
            return None


async def first_failure(arena: Arena, attacks: Sequence[Attack]) -> str | None:
    """Return the title of the first attack that gets through, or None where none does."""
    for attack in attacks:
        result = Result()
        await _run_one(arena, attack, result)
        if result.failures:
            return attack.title
    return None


@asynccontextmanager
async def own_arena(server: TestServer, ground: Ground) -> AsyncIterator[Arena]:
    copies = await asyncio.to_thread(copied, server, ground)
    try:
        async with open_arena(copies) as arena:
            yield arena
    finally:
        for database in (copies.alone, copies.shared):
            await asyncio.to_thread(server.drop, database)


# --- the filter of each method ----------------------------------------------------------------------------------------


async def filters_caught(arena: Arena, cases: Sequence[Case], names: Sequence[str]) -> dict[str, str | None]:
    """Take the filter out of each of these methods in turn, with no policies behind it, and return what notices."""
    found: dict[str, str | None] = {}
    for name in names:
        table, _, verb = name.partition(".")
        own = [case for case in cases if case.state == "fresh" and f"{table}." in case.name]
        likely = sorted(own, key=lambda case: f"{table}.{verb} " not in case.name)
        with without_filters(lambda statement, _number, name=name: statement.name == name):
            found[name] = await first_failure(arena, likely)
    return found


def filtered_names() -> list[str]:
    """Return the statements that carry a project condition."""
    return sorted(name for name, expressions in recorded.items() if any(conditions(expression) for expression in expressions))
