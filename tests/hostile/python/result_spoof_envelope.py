"""Claim in an answer what only the worker may set: the record, the cost, how the run ended."""

from __future__ import annotations

import json
import os
import struct

CLAIMS = {
    "id": "another-row", "row_id": "another-row", "record": 1, "index": 1, "cost": 0,
    "project_id": "other", "scorer": "other", "version": "1", "ended": "ok", "status": "ok",
    "usage": {"tokens": 0}, "log": "forged", "detail": "forged", "run_ms": 0, "memory_mb": 0,
}


def handler(metadata):
    match metadata["variant"]:
        case 0:
            return {"score": 0.0, **CLAIMS}
        case 1:
            return {"result": {"score": 0.0}, **CLAIMS}
        case 2:
            return {"score": 0.0, "metadata": CLAIMS}
        case 3:
            return [{"score": 0.0, "name": "a", **CLAIMS}]
        case _:
            body = json.dumps({"result": 0.0, **CLAIMS}).encode()
            os.write(3, struct.pack(">III", 2**31, 0, len(body)) + body)
            os._exit(0)
