"""The operator's switch that lets causes through: DERWIN_DEBUG, or `derwin-db --debug`.

What the server, its driver and SQLAlchemy say may hold values, so this package's errors leave it behind. With the switch on,
it is their `__cause__`, for this process: for a machine where the values are nobody's.
"""

import os

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
"""As the settings read a flag."""


class _Switch:
    """Whether causes are shown; None until somebody said so: then the environment does."""

    is_on: bool | None = None


def show_causes(*, on: bool = True) -> None:
    """Let the errors of this process carry what they were made of, with all the values in it."""
    _Switch.is_on = on


def shows_causes() -> bool:
    """Tell whether they do."""
    if _Switch.is_on is None:
        return os.environ.get("DERWIN_DEBUG", "").lower() in _TRUE
    return _Switch.is_on
