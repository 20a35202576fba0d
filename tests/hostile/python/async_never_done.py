"""A coroutine that never ends and takes no cancellation."""

from __future__ import annotations

import asyncio


async def handler(metadata):
    if metadata["variant"] == 0:
        await asyncio.get_running_loop().create_future()
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue
