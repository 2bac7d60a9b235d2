"""A plugin for the measurement: what the package keeps of one test is gone before the next, which then runs all it needs."""

import functools
import sys
from collections.abc import Iterator
from typing import Any


def pytest_runtest_setup() -> None:
    """Empty the caches of the package's functions and methods."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "derwin_db":
            for value in _values(module):
                function = getattr(value, "__func__", value)
                if isinstance(function, functools._lru_cache_wrapper):
                    function.cache_clear()


def _values(module: Any) -> Iterator[Any]:
    """Yield what the module and its classes hold."""
    for value in list(vars(module).values()):
        yield value
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield from vars(value).values()
