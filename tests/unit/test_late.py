"""The plugin that has answers come late by chance changes when they come, and nothing else."""

import subprocess
import sys

_ECHO = """
import asyncio, time
from tests import late

late.SHARE = 0.9

async def main():
    ended = asyncio.Event()

    async def echo(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
        writer.close()
        ended.set()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        began = time.monotonic()
        for number in range(20):
            writer.write(b"%02d" % number)
            assert await reader.readexactly(2) == b"%02d" % number
        assert time.monotonic() - began > 20 * late.SECONDS
        writer.close()
        await ended.wait()

asyncio.run(main())
"""


def test_each_answer_comes_and_comes_late() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", _ECHO], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
