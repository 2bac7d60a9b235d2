"""The switch that lets causes through reads the environment as the settings do."""

import pytest

from derwin_db.settings import Settings
from derwin_db.translation.debug import _Switch, shows_causes


@pytest.mark.parametrize("text", ["1", "true", "T", "yes", "Y", "On", "0", "false", "f", "no", "N", "off"])
def test_a_flag(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(_Switch, "is_on", None)
    monkeypatch.setenv("DERWIN_DEBUG", text)
    assert shows_causes() is Settings(_env_file=None).debug is (text.lower() in ("1", "true", "t", "yes", "y", "on"))


@pytest.mark.parametrize("text", [None, "", "2"])
def test_what_is_none_is_off(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    monkeypatch.setattr(_Switch, "is_on", None)
    monkeypatch.delenv("DERWIN_DEBUG", raising=False)
    if text is not None:
        monkeypatch.setenv("DERWIN_DEBUG", text)
    assert shows_causes() is False
