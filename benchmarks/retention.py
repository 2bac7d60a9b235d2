"""`python -m benchmarks.retention --rows N`: does a table that turns over stay as large as what it holds?

raw_signals, audit_artifacts and spend_ledger, each filled to N rows in 100 projects. Then rounds, each a day: a fiftieth of the
rows comes, is triaged, and the oldest fiftieth goes: signals with their runs, evidence by `prune`; ledger entries only come. In
between autovacuum does its work, with naptime 1 s in place of 60 s. The same under the settings of the schema and under the
server's own, one after the other. Some ten minutes for a million rows.
"""

import argparse
import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.churn import Churn
from benchmarks.server import bench_server, set_server
from derwin_db import Database
from derwin_db.settings import Settings
from derwin_db.testing import TestDatabase

OUT = Path(__file__).resolve().parent / "out"
TABLES = ("raw_signals", "audit_artifacts", "spend_ledger")
SERVER = {"autovacuum_naptime": "1s", "autovacuum_max_workers": "3", "max_wal_size": "8GB"}
PATIENT = Settings(_env_file=None, statement_timeout=600, command_timeout=600, transaction_timeout=900)  # type: ignore[call-arg]

_SIZE = """
SELECT pg_table_size(t.oid) AS heap, pg_indexes_size(t.oid) AS indexes, s.n_live_tup AS live, s.n_dead_tup AS dead,
    s.autovacuum_count AS vacuums, t.relallvisible::float / greatest(t.relpages, 1) AS visible,
    (SELECT count(*) FROM pg_stat_progress_vacuum) AS running
FROM pg_class t JOIN pg_stat_all_tables s ON s.relid = t.oid WHERE t.oid = ('public.' || $1)::regclass
"""

_INDEXES = """
SELECT i.relname AS name, pg_relation_size(i.oid) AS bytes FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
WHERE x.indrelid = ('public.' || $1)::regclass ORDER BY 2 DESC
"""

_OWN_SETTINGS = (
    "SELECT option_name FROM pg_options_to_table((SELECT reloptions FROM pg_class WHERE oid = ('public.' || $1)::regclass))"
)


async def size(churn: Churn, table: str) -> dict[str, Any]:
    """Return what the table and its indexes take, and what of it is dead."""
    return dict((await churn.owner(_SIZE, table))[0])


async def settled(churn: Churn, table: str, *, quiet: float = 2.5, longest: float = 900) -> dict[str, Any]:
    """Wait until autovacuum has nothing to do for a while, and return the sizes then."""
    deadline = time.monotonic() + longest
    since = time.monotonic()
    while time.monotonic() - since < quiet and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        seen = await size(churn, table)
        if seen["running"]:
            since = time.monotonic()
    return await size(churn, table)


async def measure(database: TestDatabase, table: str, rows: int, rounds: int, *, is_own: bool) -> dict[str, Any]:
    """Fill one table, turn it over, and return what it took after the fill and after each round."""
    async with Database(**database.urls, settings=PATIENT) as db:
        churn = Churn(database, db, rows)
        await churn.found()
        if not is_own:
            for row in await churn.owner(_OWN_SETTINGS, table):
                await churn.owner(f"ALTER TABLE public.{table} RESET ({row['option_name']})")
        result: dict[str, Any] = {"rows": rows, "settings": "schema" if is_own else "server", "rounds": []}
        result["fill_rows_per_second"] = round(await churn.fill(table))
        await churn.owner(f"VACUUM (ANALYZE) public.{table}")
        full = await size(churn, table)
        result["filled"] = full
        result["heap_bytes_per_row"] = round(full["heap"] / rows, 1)
        result["index_bytes_per_row"] = round(full["indexes"] / rows, 1)
        result["indexes"] = {row["name"]: row["bytes"] for row in await churn.owner(_INDEXES, table)}
        _say(f"{table} {result['settings']}: filled, {result['heap_bytes_per_row']} + {result['index_bytes_per_row']} B/row")
        for number in range(1, rounds + 1):
            rates = await churn.turn(table)
            at_once = await size(churn, table)
            after = await settled(churn, table)
            grown = (after["heap"] + after["indexes"]) / (full["heap"] + full["indexes"])
            line = {
                "rows_per_second": {name: round(rate) for name, rate in rates.items()},
                "size": round(grown, 3),
                "heap": round(after["heap"] / full["heap"], 3),
                "indexes": round(after["indexes"] / full["indexes"], 3),
                "dead_at_once": at_once["dead"],
                "dead": after["dead"],
                "vacuums": after["vacuums"],
                "visible": round(after["visible"], 3),
            }
            result["rounds"].append(line)
            _say(f"{table} {result['settings']} round {number}: {line}")
        return result


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run, and write benchmarks/out/retention-<rows>.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retention", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--settings", nargs="+", choices=("schema", "server"), default=("schema", "server"))
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    results: dict[str, list[Any]] = {}
    with bench_server() as server:
        asyncio.run(set_server(server.owner, SERVER))
        for table in options.tables:
            for settings in options.settings:
                database = server.migrated()
                run = measure(database, table, options.rows, options.rounds, is_own=settings == "schema")
                results.setdefault(table, []).append(asyncio.run(run))
                server.drop(database)
    OUT.mkdir(exist_ok=True)
    (OUT / f"retention-{options.rows}.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
