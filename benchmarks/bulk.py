"""Bulk: signals with new fingerprints into one run, as one unit of work. The reference is COPY without policies.

Each library gets them in its own form, made beforehand. What was written is removed again, unmeasured.
"""

import gc
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from benchmarks.data import Workload
from benchmarks.measure import Samples, rotated
from benchmarks.peers.base import new_signals
from benchmarks.server import connect
from derwin_db.testing import TestDatabase


async def run(
    database: TestDatabase, peers: Sequence[Any], workload: Workload, *, rounds: int, count: int
) -> dict[str, Samples]:
    """Measure one write of `count` signals by each peer in each round. Units: signals a second, seconds a write."""
    project_id = workload.projects[len(workload.projects) // 2]
    run_id = workload.runs[project_id]
    samples = {peer.name: Samples() for peer in peers}
    forms = {peer.name: peer.signals(new_signals(count)) for peer in peers}
    owner = await connect(database.owner)
    try:
        await _remove(owner, project_id, run_id)
        for order in rotated(peers, rounds):
            for peer in order:
                found = samples[peer.name]
                if found.failure is not None:
                    continue
                gc.collect()
                began = time.perf_counter()
                try:
                    await peer.bulk(project_id, run_id, forms[peer.name])
                except Exception as error:  # a peer's own failure is a result, reported as one
                    found.failure = f"{type(error).__name__}: {error}"[:200]
                    continue
                seconds = time.perf_counter() - began
                found.seconds.append(seconds)
                found.rates.append(count / seconds)
                await _remove(owner, project_id, run_id)
    finally:
        await owner.close()
    return samples


async def _remove(owner: Any, project_id: UUID, run_id: UUID) -> None:
    await owner.execute("DELETE FROM public.raw_signals WHERE project_id = $1 AND run_id = $2", project_id, run_id)
    await owner.execute("VACUUM public.raw_signals")
