"""Sandboxes of another user: `run` and `prove` in a process of theirs, called as if here.

Started as a script, this file is that process: calls come in and answers go out, pickled.
"""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scorers.sandbox.model import Program, RunResult
from scorers.sandbox.place import Place, Tier, find_place
from scorers.sandbox.pool import Owner, Sandboxes
from scorers.sandbox.selftest import Proof, prove
from spans.json import JsonObject

ROOT = Path(__file__).parents[1]


class OthersSandboxes:
    """`Sandboxes` that belong to the user `uid`. To be closed."""

    def __init__(self, tier: Tier, uid: int) -> None:
        site = [each for each in sys.path if each.endswith("site-packages")]
        self._process = subprocess.Popen(
            [common_python(), __file__, tier.value],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=uid, group=uid, extra_groups=(),
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join([str(ROOT), *site]),
                 "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
        )  # fmt: skip

    def run(
        self, owner: Owner, program: Program, records: Sequence[JsonObject]
    ) -> list[RunResult]:
        """As `Sandboxes.run`."""
        return self._call("run", owner, program, records)

    def prove(self) -> Proof:
        """As `selftest.prove`."""
        return self._call("prove")

    def close(self) -> None:
        """End that process."""
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def _call(self, *call):
        pickle.dump(call, self._process.stdin)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)


class OwnSandboxes(Sandboxes):
    """Those of this process."""

    def prove(self) -> Proof:
        """As `selftest.prove`."""
        return prove(self.place)


def place_of(tier: Tier) -> Place:
    """The place for a tier: without namespaces, the interpreter must be everybody's to read."""
    place = find_place(tier=tier)
    if tier is Tier.LANDLOCK:
        return replace(place, python=Path(common_python()).resolve())
    return place


def common_python() -> str:
    """An interpreter of this version that every user may run. Raises LookupError."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}")
    for each in found:
        if Path(each).exists() and _is_open(Path(each).resolve()):
            return each
    raise LookupError(f"no {version} that every user may run")


def _is_open(path: Path) -> bool:
    """Whether everybody may reach it."""
    return all(each.stat().st_mode & stat.S_IXOTH for each in (path, *path.parents))


def main(tier: str) -> None:
    """Answer calls until there are no more."""
    calls, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sandboxes = OwnSandboxes(place_of(Tier(tier)), kept=4, idle_s=60)
    try:
        while True:
            name, *arguments = pickle.load(calls)
            pickle.dump(getattr(sandboxes, name)(*arguments), answers)
            answers.flush()
    except EOFError:
        sandboxes.close()


if __name__ == "__main__":
    main(sys.argv[1])
