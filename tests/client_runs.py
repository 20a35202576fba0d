"""Runs the real clients, each with the Python of its own environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from stack import ROOT, Stack, inherited

SCRIPTS = ROOT / "tests" / "clients"
RUN_S = 90


def run_client(
    stack: Stack, client: str, script: str, *arguments: str, folder: Path
) -> Any:
    """The JSON that the script printed. Fails with its words if it does not succeed."""
    python = ROOT / ".cache" / "clients" / client / "bin" / "python"
    assert python.exists(), f"{python} is missing: run `make environment-test`"
    done = subprocess.run(
        [str(python), str(SCRIPTS / script), *arguments],
        # The SDKs look for git and for .env.braintrust from here upwards.
        cwd=folder,
        env=inherited(
            BRAINTRUST_APP_URL=stack.api_url,
            BRAINTRUST_BASE_URL=stack.api_url,
            BRAINTRUST_API_KEY=stack.key(),
            HOME=str(folder),
        ),
        capture_output=True, text=True, timeout=RUN_S, check=False,
    )
    assert done.returncode == 0, f"{script} on {client}: {done.stdout}\n{done.stderr[-6000:]}"
    return json.loads(done.stdout.splitlines()[-1])
