"""An event loop for tests of code that runs beside one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(_ended(asyncio.all_tasks(loop)))
    loop.close()


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    """Waits for tasks that were cancelled."""
    await asyncio.gather(*tasks, return_exceptions=True)
