"""Return an answer that is nested too deeply for its parser."""

from __future__ import annotations

DEPTH = 50_000


def handler(metadata):
    deep = []
    for _ in range(DEPTH):
        deep = [deep] if metadata["variant"] == 0 else {"x": deep}
    return {"score": 0.5, "metadata": {"deep": deep}}
