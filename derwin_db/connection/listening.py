"""Listening: a connection beside the pools, over which the server says that something was committed on a channel.

Whoever listens asks again by himself all the same: what is said while no connection stands is said to nobody.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from derwin_db.connection.facts import connect_steadily
from derwin_db.settings.url import ConnectionInfo

if TYPE_CHECKING:
    from derwin_db.settings import Settings

logger: logging.Logger = logging.getLogger("derwin_db")

_LOOK_SECONDS = 15.0
"""How often the connection is asked whether it stands: a line that fell silent ends no wait."""
_ANSWER_SECONDS = 5.0
_LONGEST_PAUSE = 10.0


async def listen(connection: ConnectionInfo, settings: "Settings", channel: str, wake: Callable[[], None]) -> None:
    """Call `wake` whenever something is said on the channel, until cancelled. A connection that is lost is made anew.

    What is said is not looked at: anybody with SQL may say it. `wake` is called too when a connection begins to listen, for
    what was committed before.
    """
    attempts = 0
    while True:
        try:
            opened: Any = await connect_steadily(
                connection, timeout=settings.connect_timeout, command_timeout=settings.command_timeout
            )
        except Exception as error:
            attempts += 1
            log = logger.warning if attempts == 1 else logger.debug
            log("nobody can listen at %s now (%s): it is asked from time to time", connection.place, type(error).__name__)
            await asyncio.sleep(min(_LONGEST_PAUSE, 0.1 * 2 ** min(attempts, 10)) * random.uniform(0.5, 1.0))  # noqa: S311  # spreads load
            continue
        attempts = 0
        try:
            await _listen_on(opened, channel, wake)
        except Exception as error:
            logger.info("a connection that listened is gone (%s): another one is made", type(error).__name__)
        finally:
            opened.terminate()
        await asyncio.sleep(random.uniform(0.05, 0.2))  # noqa: S311  # spreads load


async def _listen_on(opened: Any, channel: str, wake: Callable[[], None]) -> None:
    """Listen until the connection is gone."""
    gone = asyncio.Event()
    opened.add_termination_listener(lambda _connection: gone.set())
    await opened.add_listener(channel, lambda *_said: wake())
    wake()
    while not gone.is_set():
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await gone.wait()
        except TimeoutError:
            await opened.execute("SELECT 1", timeout=_ANSWER_SECONDS)
