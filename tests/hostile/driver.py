"""A worker's side of the sandbox in a process of its own, so that any user can be it.

Started with a JSON object in its argument ({tier, python, packages, bundles, scratch}), it says
`ready`, then takes a request a line and answers each on a line with the request's `number`, in
any order: several run at once. It ends when its standard input does.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from scorers.sandbox import build
from scorers.sandbox.handler_scores import scores_of
from scorers.sandbox.model import CodeEnd, Isolation, Limits, Program, RunResult, Runtime
from scorers.sandbox.place import Tier, find_place
from scorers.sandbox.pool import Owner, Sandboxes
from scorers.sandbox.selftest import prove
from spans.errors import BadResult

PR_SET_CHILD_SUBREAPER = 36   # linux/prctl.h
THREADS = 8
KEPT = 4
IDLE_S = 600.0


class Driver:
    """Answers requests. Thread-safe, as `Sandboxes` is."""

    def __init__(self, setting: dict) -> None:
        paths = {
            name: Path(setting[name]) if setting[name] else None
            for name in ("python", "packages", "bundles", "scratch")
        }
        self._place = find_place(
            tier=Tier(setting["tier"]), preload=tuple(setting["preload"]), **paths
        )
        self._sandboxes = Sandboxes(self._place, kept=KEPT, idle_s=IDLE_S)

    def answer(self, request: dict) -> object:
        match request["do"]:
            case "run":
                return self._run(request)
            case "check":
                return asdict(build.check_python(self._sandboxes, request["code"]))
            case "transpile":
                return asdict(build.transpile(self._sandboxes, request["code"]))
            case "prove":
                return asdict(prove(self._place))
            case "memory":
                return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        raise ValueError(request["do"])

    def _run(self, request: dict) -> list[dict]:
        given = request["program"]
        program = Program(
            runtime=Runtime(given["runtime"]),
            code=given["code"],
            parameters=tuple(given["parameters"]) if given["parameters"] is not None else None,
            isolation=Isolation(given["isolation"]),
            limits=Limits(**given["limits"]),
        )
        rans = self._sandboxes.run(Owner(**request["owner"]), program, request["records"])
        return [judged(each) for each in rans]

    def close(self) -> None:
        self._sandboxes.close()


def judged(ran: RunResult) -> dict:
    """What came of one record, to its scores: what a worker would store."""
    found = {**asdict(ran), "scores": []}
    if ran.ended is CodeEnd.OK:
        try:
            found["scores"] = [asdict(each) for each in scores_of(ran.value, name="own").scores]
        except BadResult as error:
            found |= {"ended": CodeEnd.BAD_RESULT, "detail": str(error)}
    return found


def main() -> None:
    # Whatever a jail loses sight of becomes a child of this process, and is seen.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    driver = Driver(json.loads(sys.argv[1]))
    speaking = threading.Lock()

    def handle(request: dict) -> None:
        try:
            said = {"answer": driver.answer(request)}
        # Whatever fails here is the test's to report.
        except Exception:  # noqa: BLE001
            said = {"failed": traceback.format_exc()}
        with speaking:
            answers.write(json.dumps({"number": request["number"], **said}) + "\n")

    print("ready", file=answers)
    with ThreadPoolExecutor(THREADS) as pool:
        for line in sys.stdin:
            pool.submit(handle, json.loads(line))
    driver.close()


if __name__ == "__main__":
    main()
