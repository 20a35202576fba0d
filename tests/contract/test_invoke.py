"""The real SDKs, unmodified, invoke functions: at once, as a stream, as a scorer."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from client_runs import SCRIPTS, run_client
from stack import ROOT, Stack, inherited

from scorers.sandbox.place import find_place

MODULES = ROOT / ".cache" / "clients" / "push-js" / "node_modules"
RUN_S = 90

CODE = """
def handler(output):
    print("looked at", output)
    return {"score": len(output) / 10, "metadata": {"length": len(output)}}
"""
RESULT = {"name": "length", "score": 0.4, "metadata": {"length": 4}}


@pytest.mark.parametrize("client", ["sdk-0.47", "sdk-0.3"])
def test_sdks_invoke_functions(stack: Stack, tmp_path: Path, client: str) -> None:
    name, function_id = made(stack)

    told = run_client(
        stack, client, "sdk_invoke.py", name, "length", function_id, folder=tmp_path
    )

    for way in ("by_slug", "by_id", "as_scorer", "final", "traced"):
        assert told[way] == RESULT, way
    kinds = [kind for kind, _ in told["streamed"]]
    assert kinds == ["console", "json_delta"]
    assert told["global"] == {"name": "ExactMatch", "score": 1.0}
    name_of_error, words = told["raised"]
    assert name_of_error == "BraintrustInvokeError"
    assert "TypeError" in words


def test_the_javascript_sdk_invokes_functions(stack: Stack, tmp_path: Path) -> None:
    name, function_id = made(stack)

    told = run_script(stack, tmp_path, "sdk_invoke.mjs", name, "length", function_id)

    for way in ("by_slug", "by_id", "as_scorer", "final"):
        assert told[way] == RESULT, way
    assert told["streamed"] == ["console", "json_delta", "done"]
    assert "TypeError" in told["raised"]


def made(stack: Stack) -> tuple[str, str]:
    """A project's name, and the id of its function of slug `length`."""
    name = f"invoked {uuid.uuid4().hex[:8]}"
    data = {"type": "inline", "code": CODE, "runtime_context": {"runtime": "python"}}
    function = stack.ok("POST", "/v1/function", {
        "project_id": stack.project(name), "name": "length", "slug": "length",
        "function_type": "scorer", "function_data": {"type": "code", "data": data},
    })
    return name, str(function["id"])


def run_script(stack: Stack, folder: Path, script: str, *arguments: str) -> Any:
    """What a script for the JavaScript SDK printed. Fails with its words."""
    assert MODULES.exists(), "run `make environment-test`"
    (folder / "node_modules").symlink_to(MODULES)
    shutil.copy(SCRIPTS / script, folder)
    done = subprocess.run(
        [str(find_place().node), script, *arguments], cwd=folder,
        env=inherited(
            BRAINTRUST_APP_URL=stack.api_url, BRAINTRUST_API_KEY=stack.key(),
            HOME=str(folder),
        ),
        capture_output=True, text=True, timeout=RUN_S, check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-6000:]}"
    return json.loads(done.stdout.splitlines()[-1])
