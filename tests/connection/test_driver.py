"""What a connection is told to begin with. No server is asked."""

from typing import Any

import pytest

from derwin_db.connection.driver import session_settings, session_setup
from derwin_db.isolation.preamble import Preamble
from derwin_db.settings import Settings

TIMES: dict[str, Any] = {
    "statement_timeout": 0.001,
    "lock_timeout": 1.2345,
    "idle_in_transaction_timeout": 30.0,
    "command_timeout": 20.0,
    "transaction_timeout": 60.0,
}


class TestSettings:
    @pytest.mark.parametrize(("version", "has_it"), [(160010, False), (169999, False), (170000, True), (180001, True)])
    def test_are_milliseconds_and_the_whole_unit_has_a_limit_where_the_server_knows_it(
        self, version: int, has_it: bool
    ) -> None:
        expected = {"statement_timeout": "1", "lock_timeout": "1234", "idle_in_transaction_session_timeout": "30000"}
        whole = {"transaction_timeout": "60000"} if has_it else {}
        assert session_settings(Settings(_env_file=None, **TIMES), version) == {**expected, **whole}
        names = ["statement_timeout", *whole]
        assert Preamble(seal=None, server_version=version).timeout_names == names

    @pytest.mark.parametrize(("of_command", "idle"), [(14.0, "28000"), (15.0, "30000"), (16.0, "30000")])
    def test_let_a_unit_think_for_no_longer_than_twice_a_command_may_take(self, of_command: float, idle: str) -> None:
        settings = Settings(_env_file=None, **{**TIMES, "command_timeout": of_command})
        assert session_settings(settings, 180000)["idle_in_transaction_session_timeout"] == idle

    @pytest.mark.parametrize("role", [None, "derwin_app"])
    def test_between_units_are_the_role_and_a_look_at_who_waits(self, role: str | None) -> None:
        setup = session_setup(role)
        assert "client_connection_check_interval" in setup
        assert ("SET ROLE" in setup, setup.endswith("SET ROLE derwin_app")) == (
            (False, False) if role is None else (True, True)
        )
