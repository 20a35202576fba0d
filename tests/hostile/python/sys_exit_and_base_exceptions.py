"""Exceptions that a runner may forget: it must neither end nor take them for an answer."""

from __future__ import annotations

import asyncio


class Own(BaseException):
    pass


RAISED = (
    SystemExit(0), SystemExit("1.0"), KeyboardInterrupt(), GeneratorExit(), StopIteration(1.0),
    StopAsyncIteration(), asyncio.CancelledError(), Own("own"),
)


def handler(metadata):
    raise RAISED[metadata["variant"]]
