"""`Database.prune`: all projects, batch after batch, each in a unit of work of its own."""

from collections import Counter

import pytest

from derwin_db import Database, repos
from derwin_db.models import ProjectCreate, ProjectType, PruneResult
from derwin_db.observe.events import Observer, StatementEvent, UnitObserver
from tests.repos.evidence import expired

SLUGS = ("sweep-one", "sweep-two")


class Counted(Observer, UnitObserver):
    """Counts statements by their SQL's verb, and units."""

    def __init__(self) -> None:
        self.units = 0
        self.verbs: Counter[str] = Counter()

    def entered(self, _project_id):
        self.units += 1
        return self

    def ran(self, call: StatementEvent) -> None:
        if call.statement is not None:
            self.verbs["count" if "count(*)" in call.statement.sql.lower() else "remove"] += 1


@pytest.fixture
async def filled(own_db: Database) -> Database:
    """Two projects with five expired artifacts each."""
    for slug in SLUGS:
        async with own_db.admin(reason="a test") as admin:
            await repos.projects.create(admin, ProjectCreate(slug=slug, name=slug, type=ProjectType.OTHER))
        async with own_db.project(slug) as session:
            await expired(session, 5)
    return own_db


class TestPrune:
    @pytest.mark.parametrize("limit", [1, 2, 5, 500])
    async def test_removes_all_of_all_projects(self, filled: Database, limit: int):
        assert await filled.prune(limit_per_unit=limit) == PruneResult(10, 0)
        for slug in SLUGS:
            async with filled.project(slug) as session:
                assert await repos.audit_artifacts.count(session) == 0

    async def test_counts_what_is_left_once_a_project_and_not_after_full_batches(self, filled: Database):
        counted = Counted()
        filled.observers.append(counted)
        await filled.prune(limit_per_unit=2)
        assert counted.verbs == {"count": 1 + len(SLUGS), "remove": 3 * len(SLUGS)}
        assert counted.units == 1 + 3 * len(SLUGS)

    async def test_a_dry_run_only_counts(self, filled: Database):
        assert await filled.prune(dry_run=True) == PruneResult(0, 10)
        assert await filled.prune() == PruneResult(10, 0)

    async def test_goes_on_behind_blobs_that_cannot_be_deleted(self, filled: Database):
        kept = set()

        def delete_blob(artifact):
            if len(kept) < 2:
                kept.add(artifact.id)
            if artifact.id in kept:
                raise OSError

        assert await filled.prune(limit_per_unit=3, delete_blob=delete_blob) == PruneResult(8, 2)

    async def test_tells_how_far_it_is(self, filled: Database):
        told = []
        await filled.prune(progress=lambda _, done, of: told.append((done, of)))
        assert told == [(1, 2), (2, 2)]
