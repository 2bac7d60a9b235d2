"""What pages compute, studio and database together. On a machine with other work it says more than a clock does."""

import pytest

from derwin_db.testing import TestServer
from tests.studio.__main__ import LIMIT_MS, REQUESTS, SCALE, measure_on


class TestEveryPage:
    @pytest.mark.parametrize(
        ("scale", "requests"), [(1, 3), pytest.param(SCALE, REQUESTS, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
    )
    def test_computes_less_than_it_may_take(self, server: TestServer, scale: int, requests: int) -> None:
        found = measure_on(server.migrated(), scale, requests)
        assert len(found) > 25
        assert {page: computing for page, (_, computing) in found.items() if computing > LIMIT_MS} == {}
