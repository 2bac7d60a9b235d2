"""The states of a unit of work, and which may follow which."""

import pytest

from derwin_db import Database
from derwin_db.errors import ScopeError
from derwin_db.unit.transaction import _MOVES, State


class TestStates:
    def test_each_says_what_may_follow(self) -> None:
        assert set(_MOVES) == set(State)

    def test_one_that_was_left_stays_so(self) -> None:
        assert not _MOVES[State.ENDED]

    @pytest.mark.parametrize("over", [State.LOST, State.TAKEN])
    def test_nothing_leads_back_from_a_connection_that_is_not_ours_any_more(self, over: State) -> None:
        assert _MOVES[over] == {State.ENDED}

    @pytest.mark.parametrize("to", list(State))
    async def test_a_move_that_may_not_follow_changes_nothing(self, db: Database, to: State) -> None:
        unit = db.project("acme")
        unit._move(to)
        assert unit._state is (State.OPEN if to is State.OPEN else State.NEW)

    @pytest.mark.parametrize("state", [State.NEW, State.FAILED, State.LOST, State.TAKEN, State.ENDED])
    async def test_a_statement_runs_in_an_open_unit_alone(self, db: Database, state: State) -> None:
        unit = db.project("acme")
        unit._state = state
        with pytest.raises(ScopeError):
            unit._check_usable()
