"""Runs a job in a child, and says which powers each job needs.

The jobs "python" and "node" run a scorer on records. Any other job is a module `job_<name>`
beside this one, which does some work of ours on what users sent: its `answer` takes the request
and returns JSON. If such a module needs more powers than a scorer, it sets `POWERS`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any

PYTHON, NODE = "python", "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Powers:
    """The powers of a job. `file_mb` is the largest file that it may write, in MiB.

    `processes` is the most processes and threads at once. Node reserves more address space than
    any limit could allow, so `limits_address_space` can be false; then only the cgroup and the
    supervisor limit memory.
    """

    may_execute: bool = False
    file_mb: int = 8
    processes: int = 16
    limits_address_space: bool = True


loaded: dict[str, ModuleType] = {}
"""Our modules by the last part of their names. The zygote fills this in and then removes them
from `sys.modules`, so this is the only way to them."""

_OF_A_SCRIPT = Powers(may_execute=True, processes=32, limits_address_space=False)


def powers_of(job: str) -> Powers:
    """The powers of this job."""
    if job == PYTHON:
        return Powers()
    if job == NODE:
        return _OF_A_SCRIPT
    powers: Powers = getattr(_module(job), "POWERS", Powers())
    return powers


def run_job(job: str) -> None:
    """Do the job and exit at once.

    It skips the interpreter's own cleanup, which a scorer's code could prolong.
    """
    name = {PYTHON: "runner", NODE: "node"}.get(job)
    try:
        if name is not None:
            _loaded(name).run()
        else:
            _answer(job)
    finally:
        os._exit(0)


def _answer(job: str) -> None:
    frames = _loaded("frames")
    request = json.loads(frames.read_text())
    frames.ready()
    try:
        frames.write({"result": _module(job).answer(request)})
    # The job works on what a user sent, so any failure is an answer about that.
    except BaseException as error:  # noqa: BLE001
        frames.write({"error": frames.described(error)})


def _module(job: str) -> Any:  # noqa: ANN401 a module, by its name
    return _loaded(f"job_{job}")


def _loaded(name: str) -> Any:  # noqa: ANN401 as above
    return loaded[name]
