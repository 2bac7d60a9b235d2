"""Coroutines from blocking code: also in a thread whose event loop runs already, as in a notebook."""

import asyncio
import contextvars
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine to its end, on an event loop of its own. Where one runs here, in another thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1, thread_name_prefix="derwin-db") as thread:
        return thread.submit(context.run, asyncio.run, work).result()
