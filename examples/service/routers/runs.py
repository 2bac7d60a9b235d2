"""Runs and what they find: a run is queued, its signals come in bulk, triage takes them."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Body, Query

from derwin_db import Page, repos
from derwin_db.fastapi import Paging
from derwin_db.models import IngestResult, QARun, QARunCreate, RawSignal, RawSignalCreate, RunStatus
from examples.service.access import ReadScoped, Scoped
from examples.service.parameters import RunId

router = APIRouter(prefix="/projects/{project}/runs", tags=["runs"])

Statuses = Annotated[list[RunStatus] | None, Query(description="One of these statuses.")]
Limit = Annotated[int, Query(ge=1, le=500, description="How many signals there are at most.")]


@router.get("")
async def list_runs(session: ReadScoped, paging: Paging, status: Statuses = None) -> Page[QARun]:
    """Return runs, newest first."""
    return await repos.qa_runs.list(session, status=status, **paging)


@router.post("", status_code=201)
async def enqueue_run(session: Scoped, data: QARunCreate) -> QARun:
    """Queue a run."""
    return await repos.qa_runs.enqueue(session, data)


@router.post("/{run_id}/signals")
async def ingest_signals(
    session: Scoped, run_id: RunId, signals: Annotated[list[RawSignalCreate], Body(max_length=5000)]
) -> IngestResult:
    """Write the signals that the run does not have yet. Sending a batch again does no harm."""
    return await repos.raw_signals.ingest(session, run_id, signals)


@router.get("/{run_id}/signals/pending")
async def pending_signals(session: ReadScoped, run_id: RunId, limit: Limit = 500) -> Sequence[RawSignal]:
    """Return what triage has not seen, oldest first."""
    return await repos.raw_signals.pending(session, run_id, limit=limit)
