"""Turns the child into node, which runs a JavaScript scorer on the records (`runner.cjs`)."""

from __future__ import annotations

import os
from pathlib import Path

from scorers.sandbox.inside import network, programs

_HEAP_MB = 128
"""Most MiB of JavaScript objects. Above that node ends by itself with a message."""


def run() -> None:
    """Replace this process by node. Never returns. Raises OSError if the jail has no node."""
    runner = Path(__file__).with_name("runner.cjs")
    node = programs.path("node")
    options = [f"--max-old-space-size={_HEAP_MB}", "--no-warnings"]
    here = {"HOME": str(Path.cwd()), "TMPDIR": str(Path.cwd())}
    environment = {**programs.ENVIRONMENT, **network.ENVIRONMENT, **here}
    os.execve(node, [node, *options, str(runner)], environment)  # noqa: S606
