"""What pages compute, studio and database together. On a machine with other work it says more than a clock does."""

import asyncio

import pytest

from derwin_db import Database
from derwin_db.testing import TestDatabase, TestServer
from tests.studio.__main__ import LIMIT_MS, SCALE, measure_on, measured
from tests.studio.pages import pages_of
from tests.studio.serving import Studio


class TestEveryPage:
    async def test_computes_less_than_it_may_take(self, studio: Studio, database: TestDatabase, data: Database) -> None:
        pages = ["", *await pages_of(data, "lifeline")]
        self.is_quick(await asyncio.to_thread(measured, studio, database, pages, 1))

    @pytest.mark.long
    @pytest.mark.timeout(900)
    def test_of_a_large_project_too(self, server: TestServer) -> None:
        self.is_quick(measure_on(server.migrated(), SCALE))

    def is_quick(self, found: dict[str, tuple[float, float]]) -> None:
        assert len(found) > 25
        assert {page: computing for page, (_, computing) in found.items() if computing > LIMIT_MS} == {}
