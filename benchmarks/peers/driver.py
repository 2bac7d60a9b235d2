"""Hand-written asyncpg: the wire's limit, the reference, and the same safety the naive way.

The reference is what somebody writes who cares and has time: prepared statements from the driver's cache, no reset query,
JSON decoded, rows as dicts, the same sealed opening as derwin-db in one round trip, an explicit COMMIT, a rollback where
anything fails, and the same timeout on statements. It waits for a free connection without a limit.
"""

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import asyncpg

from benchmarks.data import Workload
from benchmarks.peers.base import (
    COLUMNS,
    ENTRY_COLUMNS,
    LIST_LIMIT,
    POOL_SIZE,
    SEARCH_LIMIT,
    SIGNAL_COLUMNS,
    month_ago,
    new_ticket,
)
from benchmarks.server import connect
from derwin_db.fields.scalars import new_id
from derwin_db.settings import ConnectionInfo
from derwin_db.testing import TestDatabase

_NAMES = ("project_id", "id", *new_ticket(0))

GET = f"SELECT {', '.join(COLUMNS)} FROM public.qa_tickets WHERE project_id = $1 AND id = $2"
LIST = (
    f"SELECT {', '.join(COLUMNS)} FROM public.qa_tickets WHERE project_id = $1 "
    f"ORDER BY created_at DESC, id DESC LIMIT {LIST_LIMIT}"
)
INSERT = (
    f"INSERT INTO public.qa_tickets ({', '.join(_NAMES)}) VALUES ({', '.join(f'${n + 1}' for n in range(len(_NAMES)))}) "
    f"RETURNING {', '.join(COLUMNS)}"
)
UPDATE = (
    "UPDATE public.qa_tickets SET title = $3, updated_at = now(), version = version + 1 "
    f"WHERE project_id = $1 AND id = $2 RETURNING {', '.join(COLUMNS)}"
)
SPEND = "SELECT coalesce(sum(amount_usd), 0) FROM public.spend_ledger WHERE project_id = $1 AND occurred_at >= $2"
SEARCH = (
    f"SELECT {', '.join(ENTRY_COLUMNS)}, embedding <=> $2::real[]::vector(1536) AS distance FROM public.rag_corpus "
    f"WHERE project_id = $1 AND embedding IS NOT NULL ORDER BY embedding <=> $2::real[]::vector(1536) LIMIT {SEARCH_LIMIT}"
)
SEARCH_SETTINGS = (
    "SET LOCAL plan_cache_mode = force_custom_plan; "
    "SET LOCAL hnsw.iterative_scan = relaxed_order; SET LOCAL hnsw.ef_search = 64"
)
BULK = (
    f"INSERT INTO public.raw_signals ({', '.join(SIGNAL_COLUMNS)}) SELECT $1, * FROM "
    "unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::float8[], $9::jsonb[], "
    "$10::timestamptz[]) ON CONFLICT (project_id, run_id, fingerprint) DO NOTHING"
)


async def decode_json(connection: Any) -> None:
    """Have the driver encode and decode JSON; in binary form, which COPY needs: the version of jsonb's format, then text."""
    await connection.set_type_codec(
        "jsonb",
        encoder=lambda value: b"\x01" + json.dumps(value).encode(),
        decoder=lambda data: json.loads(data[1:]),
        schema="pg_catalog",
        format="binary",
    )


class _Driver(ABC):
    """The operations, on a connection in whatever state `unit` hands out."""

    async def open(self, database: TestDatabase, _workload: Workload) -> None:
        self._pool = await asyncpg.create_pool(
            **self._login(database).connect_arguments(),
            min_size=POOL_SIZE,
            max_size=POOL_SIZE,
            command_timeout=30,
            server_settings={"jit": "off"},
            init=decode_json,
            reset=_no_reset,
        )

    def _login(self, database: TestDatabase) -> ConnectionInfo:
        return database.service

    async def close(self) -> None:
        await self._pool.close()

    @abstractmethod
    def unit(self, project_id: UUID, *, settings: str = "") -> Any:
        """Return the block in which statements run."""

    async def get(self, project_id: UUID, ticket_id: UUID) -> Any:
        async with self.unit(project_id) as connection:
            return dict(await connection.fetchrow(GET, project_id, ticket_id))

    async def list(self, project_id: UUID) -> Any:
        async with self.unit(project_id) as connection:
            return [dict(row) for row in await connection.fetch(LIST, project_id)]

    async def insert(self, project_id: UUID, number: int) -> Any:
        async with self.unit(project_id) as connection:
            return dict(await connection.fetchrow(INSERT, project_id, new_id(), *new_ticket(number).values()))

    async def update(self, project_id: UUID, ticket_id: UUID, number: int) -> Any:
        async with self.unit(project_id) as connection:
            return dict(await connection.fetchrow(UPDATE, project_id, ticket_id, f"Totals drift, again {number}"))

    async def three_reads(self, project_id: UUID, ticket_id: UUID) -> Any:
        """One unit that reads three times."""
        async with self.unit(project_id) as connection:
            return [dict(await connection.fetchrow(GET, project_id, ticket_id)) for _ in range(3)]

    async def read_write(self, project_id: UUID, ticket_id: UUID, number: int) -> Any:
        """One unit that reads, then writes."""
        async with self.unit(project_id) as connection:
            row = dict(await connection.fetchrow(GET, project_id, ticket_id))
            return dict(await connection.fetchrow(UPDATE, project_id, row["id"], f"Totals drift, again {number}"))

    async def spend(self, project_id: UUID) -> Decimal:
        async with self.unit(project_id) as connection:
            total: Decimal = await connection.fetchval(SPEND, project_id, month_ago())
            return total

    async def search(self, project_id: UUID, embedding: Sequence[float]) -> Any:
        async with self.unit(project_id, settings=SEARCH_SETTINGS) as connection:
            return [dict(row) for row in await connection.fetch(SEARCH, project_id, embedding)]

    def signals(self, rows: Sequence[dict[str, Any]]) -> Any:
        return rows

    async def bulk(self, project_id: UUID, run_id: UUID, signals: Any) -> Any:
        columns = [list(column) for column in zip(*(row.values() for row in signals), strict=True)]
        ids, runs = [new_id() for _ in signals], [run_id] * len(signals)
        async with self.unit(project_id) as connection:
            return await connection.execute(BULK, project_id, ids, runs, *columns)


class Wire(_Driver):
    """No transaction, no scope: each statement alone, as the owner. What the wire can do, safe for nobody."""

    name: ClassVar[str] = "asyncpg_autocommit"

    def _login(self, database: TestDatabase) -> ConnectionInfo:
        return database.owner

    @asynccontextmanager
    async def unit(self, project_id: UUID, *, settings: str = "") -> AsyncIterator[Any]:
        async with self._pool.acquire() as connection:
            if settings:
                await connection.execute(settings.replace("SET LOCAL", "SET"))
            yield connection


class Reference(_Driver):
    """The safe preamble in one round trip, the statement, COMMIT: 1.0 in every table."""

    name: ClassVar[str] = "asyncpg"

    async def open(self, database: TestDatabase, workload: Workload) -> None:
        self._key = await scope_key(database)
        await super().open(database, workload)
        self._owner = await connect(database.owner)
        await decode_json(self._owner)

    async def close(self) -> None:
        await self._owner.close()
        await super().close()

    @asynccontextmanager
    async def unit(self, project_id: UUID, *, settings: str = "") -> AsyncIterator[Any]:
        async with self._pool.acquire() as connection:
            sealed = token(self._key, project_id, connection.get_server_pid())
            await connection.execute(
                f"{_PAD}BEGIN; SET LOCAL ROLE derwin_app; SELECT public.derwin_open('{sealed}'); {settings}"
            )
            try:
                yield connection
            except BaseException:
                await connection.execute("ROLLBACK")
                raise
            await connection.execute("COMMIT")

    async def bulk(self, project_id: UUID, run_id: UUID, signals: Any) -> Any:
        """COPY as the owner, without policies and without looking for duplicates: what bulk is measured against."""
        records = [(project_id, new_id(), run_id, *row.values()) for row in signals]
        async with self._owner.transaction():
            return await self._owner.copy_records_to_table(
                "raw_signals", schema_name="public", records=records, columns=SIGNAL_COLUMNS
            )


class Bare(Reference):
    """The reference without asyncpg's pool: a list of connections, and nothing between it and them."""

    name: ClassVar[str] = "asyncpg_no_pool"

    async def open(self, database: TestDatabase, workload: Workload) -> None:
        await super().open(database, workload)
        login = self._login(database)
        self._free = [await connect(login, command_timeout=30) for _ in range(POOL_SIZE)]
        for connection in self._free:
            await connection.execute("SET jit = off")
            await decode_json(connection)

    async def close(self) -> None:
        for connection in self._free:
            await connection.close()
        await super().close()

    @asynccontextmanager
    async def unit(self, project_id: UUID, *, settings: str = "") -> AsyncIterator[Any]:
        connection = self._free.pop()  # as many as there are callers
        try:
            sealed = token(self._key, project_id, connection.get_server_pid())
            await connection.execute(
                f"{_PAD}BEGIN; SET LOCAL ROLE derwin_app; SELECT public.derwin_open('{sealed}'); {settings}"
            )
            try:
                yield connection
            except BaseException:
                await connection.execute("ROLLBACK")
                raise
            await connection.execute("COMMIT")
        finally:
            self._free.append(connection)


class Naive(Reference):
    """The same safety in five round trips: BEGIN, the role, the scope, the statement, COMMIT."""

    name: ClassVar[str] = "asyncpg_naive"

    @asynccontextmanager
    async def unit(self, project_id: UUID, *, settings: str = "") -> AsyncIterator[Any]:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL ROLE derwin_app")
            await connection.execute("SELECT public.derwin_open($1)", token(self._key, project_id, connection.get_server_pid()))
            if settings:
                await connection.execute(settings)
            yield connection

    async def bulk(self, project_id: UUID, run_id: UUID, signals: Any) -> Any:
        return await _Driver.bulk(self, project_id, run_id, signals)


_PAD = f"/*{'.' * 1024}*/"


def token(key: tuple[bytes, bytes], project_id: UUID, backend_pid: int) -> str:
    """Return what opens the sealed scope."""
    inner_pad, outer_pad = key
    body = f"{project_id}.1{time.time_ns() // 1000:015x}"  # this machine's clock is the server's
    inner = hashlib.sha256(inner_pad + body.encode() + backend_pid.to_bytes(4, "big")).digest()
    return body + hashlib.sha256(outer_pad + inner).hexdigest()[:48]


async def scope_key(database: TestDatabase) -> tuple[bytes, bytes]:
    """Return the seal's key, read as the owner."""
    connection = await connect(database.owner)
    try:
        row = await connection.fetchrow("SELECT inner_pad, outer_pad FROM derwin.scope_key")
        return row["inner_pad"], row["outer_pad"]
    finally:
        await connection.close()


async def _no_reset(_connection: Any) -> None:
    """Send nothing: the unit has ended its transaction."""
