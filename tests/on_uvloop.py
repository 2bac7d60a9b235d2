"""The tests on uvloop, which `uvicorn[standard]` brings: a plugin of pytest (`-p tests.on_uvloop`) that `make uvloop` loads.

All event loops of the run are uvloop's, those that a test makes by `asyncio.run` too.
"""

import asyncio

import pytest
import uvloop


def pytest_configure(config: pytest.Config) -> None:
    """Let a loop be closed that has sockets open: where its warning is an error, uvloop waits for ever in between."""
    config.addinivalue_line("filterwarnings", "ignore:unclosed resource:ResourceWarning")


asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
