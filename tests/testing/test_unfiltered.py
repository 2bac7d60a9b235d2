"""What shows that a policy holds by itself: statements without their project conditions, in both their forms."""

from typing import Any

import pytest
import sqlalchemy as sa

from derwin_db import repos
from derwin_db.models import QATicket
from derwin_db.query.builders import scoped
from derwin_db.query.statement import Statement
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

    def test_a_parameter_that_nothing_stands_for_is_named(self) -> None:
        class Measured(sa.types.TypeDecorator[Any]):
            impl = sa.Integer
            cache_ok = True

            def process_bind_param(self, value: Any, _: Any) -> int:
                return len(value)

        query = scoped(QATicket, sa.literal(1)).where(sa.literal(1) < sa.bindparam("text", type_=Measured()))
        statement: Statement[Any] = Statement("qa_tickets.measured", query, list)
        with pytest.raises(AssertionError, match=r"qa_tickets.measured: its parameters can't be told apart"):
            conditions_of(statement)
