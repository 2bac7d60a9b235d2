"""All SQL that the repositories send, taken down where it leaves: on the roads to the driver, with a transaction and alone."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args
from uuid import UUID

from derwin_db import Database, repos
from derwin_db.connection.driver import PooledConnection
from derwin_db.filters import not_
from derwin_db.query.statement import Statement
from derwin_db.session import AdminSession
from derwin_db.unit.alone import Reader
from derwin_db.unit.transaction import Transaction
from tests.contract.verbs import ADMIN_CALLS, PROJECT_CALLS
from tests.repos.filling import REPOSITORIES, fill
from tests.repos.test_projects import a_project

STRING = re.compile(r"'(?:[^']|'')*'")


@dataclass(frozen=True)
class Sent:
    """One statement, and the call that sent it."""

    verb: str
    sql: str
    is_admin: bool

    @property
    def text(self) -> str:
        """The statement without its string constants."""
        return STRING.sub("''", self.sql)


class Record:
    """What was sent, each statement of a call once."""

    def __init__(self) -> None:
        self.sent: dict[Sent, None] = {}
        self.verb = ""
        self.is_listening = False
        self._is_admin = False

    def add(self, sql: str, *, is_admin: bool | None = None) -> None:
        """Take a statement down. A cursor belongs to the unit that sent something last."""
        self._is_admin = self._is_admin if is_admin is None else is_admin
        if self.is_listening:
            self.sent[Sent(self.verb, sql, self._is_admin)] = None

    @contextmanager
    def of(self, verb: str) -> Iterator[None]:
        """Listen during one call."""
        self.verb, self.is_listening = verb, True
        try:
            yield
        finally:
            self.is_listening = False


async def record_all(db: Database, monkeypatch: Any) -> list[Sent]:
    """Call every verb of every repository, with every filter, and return what was sent."""
    record = Record()
    send, cursor, read = Transaction._driver, PooledConnection.cursor, Reader.read

    async def recorded(unit: Transaction, method: str, sql: str, *arguments: Any, **options: Any) -> Any:
        record.add(sql, is_admin=isinstance(unit, AdminSession))
        return await send(unit, method, sql, *arguments, **options)

    def recorded_cursor(connection: Any, sql: str, *arguments: Any, **options: Any) -> Any:
        record.add(sql, is_admin=False)
        return cursor(connection, sql, *arguments, **options)

    async def recorded_alone(reader: Reader, source: Any, statement: Statement[Any], arguments: list[Any]) -> Any:
        record.add(statement.sql, is_admin=False)  # what is sent is this, and the gate that brings its scope along
        return await read(reader, source, statement, arguments)

    monkeypatch.setattr(Transaction, "_driver", recorded)
    monkeypatch.setattr(Reader, "read", recorded_alone)
    monkeypatch.setattr(PooledConnection, "cursor", recorded_cursor)

    async def new_project() -> UUID:
        async with db.admin(reason="a test") as admin:
            return (await repos.projects.create(admin, a_project())).id

    for call in PROJECT_CALLS:
        project = await new_project()
        async with db.project(project) as session:
            made = await call.prepare(session)
        async with db.project(project) as session:
            with record.of(str(call)):
                await call.run(session, made)
    for call in ADMIN_CALLS:
        project = await new_project()
        async with db.admin(reason="a test") as admin:
            with record.of(str(call)):
                await call.run(admin, project)
    await _record_reads(db, await new_project(), record)
    return list(record.sent)


async def _record_reads(db: Database, project: UUID, record: Record) -> None:
    """The reads that all repositories share: by id, and lists with each filter that has a value in what was written."""
    await fill(db, project)
    for table, repo in REPOSITORIES.items():
        async with db.project(project, read_only=True) as session:
            page = await repo.list(session, limit=1)
            row = page.items[0]
            names = [name for name in repo.filters.__annotations__ if getattr(row, name, None) is not None]
            times = {"since": row.created_at, "until": row.created_at}
            values = {name: getattr(row, name) for name in names}
            chosen: list[dict[str, Any]] = [{}, times, *({name: value} for name, value in values.items())]
            chosen += [{name: form} for name, value in values.items() for form in ([value], not_(value), not_([value]))]
            chosen += [{"since": row.created_at, "order": order, "with_total": True} for order in get_args(repo.orders)]
            with record.of(f"{table} reads"):
                await repo.get(session, row.id)
                await repo.get_many(session, [row.id])
                await repo.exists(session, row.id)
                for options in chosen:
                    filters = {name: value for name, value in options.items() if name not in {"order", "with_total"}}
                    await repo.count(session, **filters)
                    found = await repo.list(session, limit=1, **options)
                    if found.next_cursor is not None:
                        await repo.list(session, limit=1, cursor=found.next_cursor, **options)
                    async for _ in repo.stream(session, **filters):
                        break
