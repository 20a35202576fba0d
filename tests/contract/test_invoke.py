"""The real Python SDKs, unmodified, invoke functions: at once, as a stream, as a scorer."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from client_runs import run_client
from stack import Stack

CODE = """
def handler(output):
    print("looked at", output)
    return {"score": len(output) / 10, "metadata": {"length": len(output)}}
"""
RESULT = {"name": "length", "score": 0.4, "metadata": {"length": 4}}


@pytest.mark.parametrize("client", ["sdk-0.47", "sdk-0.3"])
def test_sdks_invoke_functions(stack: Stack, tmp_path: Path, client: str) -> None:
    name = f"invoked with {client} {uuid.uuid4().hex[:8]}"
    data = {"type": "inline", "code": CODE, "runtime_context": {"runtime": "python"}}
    made = stack.ok("POST", "/v1/function", {
        "project_id": stack.project(name), "name": "length", "slug": "length",
        "function_type": "scorer", "function_data": {"type": "code", "data": data},
    })

    told = run_client(stack, client, "sdk_invoke.py", name, "length", made["id"],
                      folder=tmp_path)

    for way in ("by_slug", "by_id", "as_scorer", "final", "traced"):
        assert told[way] == RESULT, way
    kinds = [kind for kind, _ in told["streamed"]]
    assert kinds[-1] == "json_delta"
    assert told["global"] == {"name": "ExactMatch", "score": 1.0}
    name_of_error, words = told["raised"]
    assert name_of_error == "BraintrustInvokeError"
    assert "TypeError" in words
