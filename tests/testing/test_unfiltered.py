"""What shows that a policy holds by itself: statements without their project conditions, in both their forms."""

import pytest

from derwin_db import repos
from derwin_db.repos.conditions import Shape
from derwin_db.testing.unfiltered import conditions_of, unfiltered


class TestUnfiltered:
    @pytest.mark.parametrize("shape", [(), (("status", "one"),), (("since", "one"), ("until", "one"))])
    def test_takes_the_conditions_out_of_both_forms(self, shape: Shape) -> None:
        statement = repos.qa_tickets._list_statement(shape, follows=True)
        twin = unfiltered(statement)
        for form in (statement, statement.alone):
            assert len(conditions_of(statement, form)) == 1
        assert conditions_of(twin) == conditions_of(twin, twin.alone) == []
        assert "set_config('derwin.project_id'" in twin.alone.sql
        assert conditions_of(statement, statement.alone), "the statement itself was changed"
