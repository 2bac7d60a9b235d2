"""`python -m benchmarks.vectors`: search in projects of 20 to 100,000 entries that share one table. Ten to twenty minutes.

For each index and each project: recall@10 against the exact answer, latency, and whether too few rows came, by the settings
that were tried; then `repos.rag_corpus.search` as it is. Latency is that of the whole unit of work, the median.
"""

import argparse
import asyncio
import json
import logging
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.peers.driver import ENTRY_COLUMNS, Reference
from benchmarks.server import bench_database, connect
from benchmarks.vector_data import VectorSource, copy_vectors
from derwin_db import Database, repos
from derwin_db.fields.scalars import project_id_of
from derwin_db.testing import TestDatabase

FULL = (20, 500, 1500, 5000, 20_000, 100_000)
QUICK = (20, 500, 5000, 20_000)
WANTED = 10
OUT = Path(__file__).resolve().parent / "out"

_VECTOR, _HALF = "$2::real[]::vector(1536)", "$2::real[]::vector(1536)::halfvec(1536)"


@dataclass(frozen=True)
class Index:
    """One way to index: the expression and its operator class, and the storage parameters."""

    expression: str
    m: int
    ef_construction: int

    @property
    def name(self) -> str:
        return f"{'halfvec' if 'halfvec' in self.expression else 'vector'} m={self.m} ef_construction={self.ef_construction}"

    @property
    def distance(self) -> str:
        half = "halfvec" in self.expression
        return f"{'embedding::halfvec(1536)' if half else 'embedding'} <=> {_HALF if half else _VECTOR}"

    async def build(self, owner: Any) -> dict[str, Any]:
        """Make it the only vector index. Return what it costs."""
        await owner.execute("DROP INDEX IF EXISTS public.ix_rag_corpus_embedding")
        began = time.perf_counter()
        await owner.execute(
            f"CREATE INDEX ix_rag_corpus_embedding ON public.rag_corpus USING hnsw {self.expression} "
            f"WITH (m = {self.m}, ef_construction = {self.ef_construction})"
        )
        seconds = time.perf_counter() - began
        size = await owner.fetchval("SELECT pg_relation_size('public.ix_rag_corpus_embedding')")
        return {"build_seconds": round(seconds, 1), "megabytes": round(size / 1e6)}


INDEXES = (
    Index("(embedding vector_cosine_ops)", 16, 64),
    Index("((embedding::halfvec(1536)) halfvec_cosine_ops)", 24, 128),
    Index("(embedding vector_cosine_ops)", 24, 128),
)
"""Tried in this order; the last one is what the migrations make, so that the repository is measured on it."""

SCANS = (
    ("off", 100),
    ("strict_order", 40),
    ("strict_order", 100),
    ("relaxed_order", 40),
    ("relaxed_order", 64),
    ("relaxed_order", 100),
    ("relaxed_order", 200),
    ("forced", 100),
    ("forced", 200),
)
"""hnsw.iterative_scan and hnsw.ef_search; forced is a relaxed scan without leaving the choice to the planner."""


def query(distance: str, candidates: int) -> str:
    """Return the search as the repository has it, with the distance of this index."""
    return (
        f"SELECT * FROM (SELECT {', '.join(ENTRY_COLUMNS)}, {distance} AS distance FROM public.rag_corpus "
        f"WHERE project_id = $1 AND embedding IS NOT NULL ORDER BY {distance} LIMIT {candidates}) AS nearest "
        f"ORDER BY distance, id LIMIT {WANTED}"
    )


def settings(scan: str, ef_search: int) -> str:
    """Return the settings of one try."""
    forced = "SET LOCAL enable_sort = off; " if scan == "forced" else ""
    return (
        f"{forced}SET LOCAL plan_cache_mode = force_custom_plan; "
        f"SET LOCAL hnsw.iterative_scan = {scan.replace('forced', 'relaxed_order')}; SET LOCAL hnsw.ef_search = {ef_search}"
    )


@dataclass
class Trial:
    """The tries on one project: queries, and the exact answers to them."""

    peer: Reference
    project_id: UUID
    size: int
    queries: list[list[float]]
    answers: list[set[UUID]]

    async def measure(self, search: Any) -> dict[str, Any]:
        """Run all queries and return recall, latency in milliseconds, and how often too few rows came."""
        seconds, recalls, short = [], [], 0
        for embedding, answer in zip(self.queries, self.answers, strict=True):
            began = time.perf_counter()
            ids = await search(embedding)
            seconds.append(time.perf_counter() - began)
            recalls.append(len(answer.intersection(ids)) / len(answer))
            short += len(ids) < min(WANTED, self.size)
        return {
            "recall": round(statistics.mean(recalls), 4),
            "worst_recall": min(recalls),
            "milliseconds": round(statistics.median(seconds) * 1000, 2),
            "too_few": short,
        }

    async def by_hand(self, sql: str, options: str) -> dict[str, Any]:
        """Measure hand-written SQL under these settings, and say which plan it got."""

        async def search(embedding: list[float]) -> list[UUID]:
            async with self.peer.unit(self.project_id, settings=options) as connection:
                return [row["id"] for row in await connection.fetch(sql, self.project_id, embedding)]

        found = await self.measure(search)
        return {"plan": await self._plan(sql, options), **found}

    async def _plan(self, sql: str, options: str) -> str:
        literal = "'{" + ",".join(map(str, self.queries[0])) + "}'"
        async with self.peer.unit(self.project_id, settings=options) as connection:
            lines = await connection.fetch("EXPLAIN " + sql.replace("$1", f"'{self.project_id}'").replace("$2", literal))
        return "hnsw" if any("ix_rag_corpus_embedding" in line[0] for line in lines) else "exact"

    async def by_repository(self, db: Database) -> dict[str, Any]:
        """Measure `repos.rag_corpus.search`."""

        async def search(embedding: list[float]) -> list[UUID]:
            async with db.project(self.project_id) as session:
                return [match.entry.id for match in await repos.rag_corpus.search(session, embedding, limit=WANTED)]

        await search(self.queries[0])
        return await self.measure(search)


async def run(
    database: TestDatabase, sizes: tuple[int, ...], indexes: tuple[Index, ...], count: int, *, is_separated: bool
) -> dict[str, Any]:
    """Load, then measure each index on each project."""
    owner, peer = await connect(database.owner), Reference()
    await peer.open(database, None)  # type: ignore[arg-type]
    source = VectorSource(1, is_separated=is_separated)
    projects = {size: project_id_of(f"vectors-{size}") for size in sizes}
    results: dict[str, Any] = {"sizes": sizes, "queries": count, "is_separated": is_separated, "indexes": {}, "repository": {}}
    try:
        await _load(owner, projects, source)
        trials = [await _trial(peer, projects[size], size, source.points(count).tolist()) for size in sizes]
        for index in indexes:
            cost = await index.build(owner)
            _say(f"{index.name}: {cost}")
            results["indexes"][index.name] = {**cost, "projects": await _scans(index, trials)}
        async with Database(**database.urls) as db:
            for trial in trials:
                results["repository"][trial.size] = await trial.by_repository(db)
                _say(f"repository, {trial.size}: {results['repository'][trial.size]}")
        results["goals"] = _goals(results)
    finally:
        await peer.close()
        await owner.close()
    return results


async def _load(owner: Any, projects: dict[int, UUID], source: VectorSource) -> None:
    await owner.execute("DROP INDEX public.ix_rag_corpus_embedding")
    for size, project_id in projects.items():
        await owner.execute(
            "INSERT INTO public.projects (id, slug, name, type) VALUES ($1, $2, 'Vectors', 'ERP')",
            project_id,
            f"vectors-{size}",
        )
        await copy_vectors(owner, project_id, source, size)
    await owner.execute("VACUUM (ANALYZE) public.rag_corpus")


async def _trial(peer: Reference, project_id: UUID, size: int, queries: list[list[float]]) -> Trial:
    """Find the exact answers: while there is no vector index, every plan is exact."""
    answers = []
    for embedding in queries:
        async with peer.unit(project_id) as connection:
            rows = await connection.fetch(query(f"embedding <=> {_VECTOR}", WANTED), project_id, embedding)
            answers.append({row["id"] for row in rows})
    return Trial(peer, project_id, size, queries, answers)


async def _scans(index: Index, trials: list[Trial]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for trial in trials:
        exact = f"{settings('off', 40)}; SET LOCAL enable_indexscan = off"
        tries = {"exact": await trial.by_hand(query(index.distance, WANTED), exact)}
        for scan, ef_search in SCANS:
            options = settings(scan, ef_search)
            tries[f"{scan} {ef_search}"] = await trial.by_hand(query(index.distance, 2 * WANTED), options)
        generic = settings("relaxed_order", 64).replace("force_custom_plan", "force_generic_plan")
        tries["generic plan"] = await trial.by_hand(query(index.distance, 2 * WANTED), generic)
        for name, values in tries.items():
            _say(f"  {trial.size:7} {name:20} {values}")
        found[trial.size] = tries
    return found


def _goals(results: dict[str, Any]) -> dict[str, Any]:
    """Compare the repository with the best plan for each size: the fastest try on its index with recall of 0.99."""
    tries = results["indexes"][INDEXES[-1].name]["projects"]
    goals = {}
    for size, ours in results["repository"].items():
        good = [one for name, one in tries[size].items() if one["recall"] >= 0.99 and not one["too_few"]]
        best = min(one["milliseconds"] for one in good)
        ratio = round(ours["milliseconds"] / best, 2)
        is_met = ours["recall"] >= 0.99 and not ours["too_few"] and ratio <= 1.3
        goals[size] = {"recall": ours["recall"], "too_few": ours["too_few"], "of_the_best_plan": ratio, "is_met": is_met}
    return goals


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run and write benchmarks/out/vectors.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vectors", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="projects up to 20,000 entries")
    parser.add_argument("--separated", action="store_true", help="clusters that have nothing in common")
    parser.add_argument("--last-index", action="store_true", help="only the index that the migrations make")
    parser.add_argument("--queries", type=int, default=40)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with bench_database() as database:
        sizes = QUICK if options.quick else FULL
        indexes = INDEXES[-1:] if options.last_index else INDEXES
        results = asyncio.run(run(database, sizes, indexes, options.queries, is_separated=options.separated))
    OUT.mkdir(exist_ok=True)
    name = "vectors-separated" if options.separated else "vectors"
    (OUT / f"{name}.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(json.dumps({"repository": results["repository"], "goals": results["goals"]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
