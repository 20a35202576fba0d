"""Return an answer that fills the memory of its reader."""

from __future__ import annotations

import json


def handler(metadata):
    match metadata["variant"]:
        case 0:
            return {"score": 0.5, "metadata": {"text": "x" * 50_000_000}}
        case 1:
            return {"score": 0.5, "metadata": {"list": list(range(1_000_000))}}
        case 2:
            return [{"name": f"s{n}", "score": 1.0} for n in range(100_000)]
        case _:
            return {"score": 0.5, "name": json.dumps(["\u0001"] * 1_000_000)}
