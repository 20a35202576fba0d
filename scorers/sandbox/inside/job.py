"""What a child may be told to do, and the powers that each job needs.

"python" and "node" run a scorer over records. Any other is a module `job_<name>` beside this
one, for work of ours on what users sent: its `answer` takes the request and returns JSON.
Such a module may name what it needs beyond a scorer's powers in `POWERS`.
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
    """How much a job is trusted with. `file_mb` is the largest file that it may write.

    V8 reserves more address space than any limit would grant, so that limit can be left out:
    then memory is held by the cgroup and the supervisor alone.
    """

    may_execute: bool = False
    file_mb: int = 8
    processes: int = 16
    limits_address_space: bool = True


loaded: dict[str, ModuleType] = {}
"""Our modules by their last names; the zygote fills this in, and nothing else has them."""

_OF_A_SCRIPT = Powers(may_execute=True, processes=32, limits_address_space=False)


def powers_of(job: str) -> Powers:
    """The powers of this job. Its module has been imported when the jail started."""
    if job == PYTHON:
        return Powers()
    if job == NODE:
        return _OF_A_SCRIPT
    powers: Powers = getattr(_module(job), "POWERS", Powers())
    return powers


def run_job(job: str) -> None:
    """Do it, then exit without the interpreter's own ending, which a scorer could prolong."""
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
    # What the user sent is what the job works on: any failure is an answer about it.
    except BaseException as error:  # noqa: BLE001
        frames.write({"error": frames.described(error)})


def _module(job: str) -> Any:  # noqa: ANN401 a module, by its name
    return _loaded(f"job_{job}")


def _loaded(name: str) -> Any:  # noqa: ANN401 as above
    return loaded[name]
