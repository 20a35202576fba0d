"""Becomes node, which runs a JavaScript scorer over the records (`runner.cjs`)."""

from __future__ import annotations

import os
from pathlib import Path

from scorers.sandbox.inside import programs

_HEAP_MB = 128
"""Of JavaScript objects. Beyond that V8 ends by itself, and says so."""


def run() -> None:
    """Never returns. Raises OSError if there is no node in this jail."""
    runner = Path(__file__).with_name("runner.cjs")
    node = programs.path("node")
    options = [f"--max-old-space-size={_HEAP_MB}", "--no-warnings"]
    here = {"HOME": str(Path.cwd()), "TMPDIR": str(Path.cwd())}
    os.execve(node, [node, *options, str(runner)], {**programs.ENVIRONMENT, **here})  # noqa: S606
