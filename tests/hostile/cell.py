"""One kind of sandbox, as one user runs it: canaries around it, and checks after each run."""

from __future__ import annotations

import ast
import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from hostile.canaries import READABLE_FOLDER, Canaries
from hostile.cases import TIME_S
from hostile.worker import ROOT, Worker

from ops.servers.children import wait_until
from scorers.sandbox.model import Isolation, Runtime
from scorers.sandbox.place import Tier

MEMORY_MB = 256
RESULT_BYTES = 256 * 1024
LOG_BYTES = 16 * 1024
LIMITS = {
    "time_s": TIME_S, "memory_mb": MEMORY_MB,
    "result_bytes": RESULT_BYTES, "log_bytes": LOG_BYTES,
}
LOG_CHARACTERS_MAX = 8 * LOG_BYTES       # an escaped control character takes up to six
DETAIL_CHARACTERS_MAX = 2048
WORKER_MB_MAX = 400
QUIET_S = 5.0
"""How long a jail may take to be as empty as before; it is mostly no time at all."""

PROCESSES_OF_A_JAIL = {Tier.BUBBLEWRAP: 3, Tier.LANDLOCK: 1}
"""The zygote, and around it bubblewrap outside and inside its namespaces."""

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
BENIGN_SCORE = 0.625

BENIGN_PYTHON = '''
import builtins, importlib.util, json, os, sys

def listed(path):
    try:
        return [name for name in os.listdir(path)]
    except OSError:
        return []

def handler(input, output):
    return {"score": 0.625, "metadata": {
        "tmp": listed("/tmp"), "cwd": listed("."), "shm": listed("/dev/shm"),
        "poisoned": hasattr(builtins, "poisoned") or "POISONED" in os.environ,
        "found": bool(importlib.util.find_spec("poison_left")),
        "json": json.loads(json.dumps({"a": [1, None]})) == {"a": [1, None]},
        "record": [input, output],
    }}
'''
BENIGN_JAVASCRIPT = '''
const fs = await import("node:fs");
const listed = (path) => { try { return fs.readdirSync(path); } catch { return []; } };
export function handler({ input, output }) {
  return { score: 0.625, metadata: {
    tmp: listed("/tmp"), cwd: listed("."), shm: listed("/dev/shm"),
    poisoned: "poisoned" in {}, found: fs.existsSync("poison_left.py"),
    json: JSON.stringify({ a: [1, null] }) === '{"a":[1,null]}', record: [input, output],
  } };
}
'''
BENIGN = {Runtime.PYTHON: BENIGN_PYTHON, Runtime.NODE: BENIGN_JAVASCRIPT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """A file that belongs to the user as whom scorers run, and lies where they have no part."""

    path: Path
    attributes: tuple[object, ...]

    @staticmethod
    def made(parent: Path, uid: int) -> Owned:
        """In a new folder that is that user's, too."""
        folder = Path(tempfile.mkdtemp(prefix="owned-", dir=parent))
        folder.chmod(READABLE_FOLDER)
        path = folder / "file"
        path.write_text("of the same user")
        for each in (folder, path):
            os.chown(each, uid, -1)
        return Owned(path=path, attributes=attributes(path))


def attributes(path: Path) -> tuple[object, ...]:
    """Whatever could be changed of it without writing to it."""
    found = path.stat()
    beside = sorted(each.name for each in path.parent.iterdir())
    return (found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, found.st_nlink,
            found.st_size, os.listxattr(path), beside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A worker, how it contains, and what watches it."""

    worker: Worker
    tier: Tier
    canaries: Canaries
    owned: Owned
    visible: tuple[str, ...]
    owners: set[str] = field(default_factory=set)

    def record(self, *, variant: int = 0) -> dict[str, Any]:
        """A row whose metadata tells an attack what there is to attack."""
        return {
            "input": {"question": "What is 6 times 7?"},
            "output": "42",
            "expected": "42",
            "metadata": {
                "variant": variant,
                "memory_mb": MEMORY_MB,
                "port": self.canaries.port,
                "unix_path": str(self.canaries.unix_path),
                "unix_abstract": self.canaries.unix_abstract,
                "datagram_path": str(self.canaries.datagram_path),
                "datagram_abstract": self.canaries.datagram_abstract,
                "file": str(self.canaries.file),
                "drop": str(self.canaries.drop),
                "owned": str(self.owned.path),
                "source": str(ROOT / "wiring" / "settings.py"),
                "pids": [os.getpid(), *(each.pid for each in self.tree())],
                "visible": self.visible,
                "shared": ["/tmp", "/dev/shm", "/var/tmp"],
            },
            "tags": ["one"],
            "id": "row-1",
        }

    def run(
        self, owner: str, runtime: Runtime, code: str, records: Sequence[dict[str, Any]],
        *, isolation: Isolation = Isolation.BATCH, limits: dict[str, float] | None = None,
    ) -> list[dict[str, Any]]:
        """What came of each record (`driver.judged`)."""
        self.owners.add(owner)
        return self.worker.ask(
            "run",
            owner={"project_id": f"project-{owner}", "scorer_id": owner, "version": "1"},
            program={
                "runtime": runtime, "code": code, "isolation": isolation,
                "parameters": parameters(code) if runtime is Runtime.PYTHON else None,
                "limits": {**LIMITS, **(limits or {})},
            },
            records=list(records),
        )

    def jails(self, owner: str, runtime: Runtime) -> set[int]:
        """Process ids of the jails there are, with this owner's among them."""
        self.run(owner, runtime, BENIGN[runtime], [self.record()])
        return {each.pid for each in living(self.worker.driver.children())}

    def tree(self) -> list[psutil.Process]:
        """The driver and all below it."""
        driver = self.worker.driver
        return [driver, *driver.children(recursive=True)]

    def assert_quiet(self, owner: str, runtime: Runtime) -> None:
        """Nothing is left of whatever ran last for this owner, and nothing came of it."""
        (ran,) = self.run(owner, runtime, BENIGN[runtime], [self.record()])
        assert ran["ended"] == "ok", ran
        (score,) = ran["scores"]
        assert score["value"] == BENIGN_SCORE
        record = self.record()
        assert score["metadata"] == {
            "tmp": [], "cwd": [], "shm": [], "poisoned": False, "found": False, "json": True,
            "record": [record["input"], record["output"]],
        }
        assert wait_until(lambda: not self.strangers(), deadline_s=QUIET_S), self.strangers()
        assert self.canaries.disturbed() == []
        assert attributes(self.owned.path) == self.owned.attributes
        assert self.worker.ask("memory") < WORKER_MB_MAX

    def strangers(self) -> list[str]:
        """Processes below the worker that are neither a jail's walls nor its zygote."""
        most = PROCESSES_OF_A_JAIL[self.tier]
        found = []
        jails = living(self.worker.driver.children())
        for jail in jails:
            try:
                inside = living(jail.children(recursive=True))
                if 1 + len(inside) != most:
                    found.append(f"jail {jail.pid}: {[described(each) for each in inside]}")
            except psutil.NoSuchProcess:
                continue
        if len(jails) > len(self.owners):
            found.append(f"{len(jails)} jails: {[described(each) for each in jails]}")
        return found

    def assert_tells_nothing(self, ran: dict[str, Any]) -> None:
        """What is kept of a run holds no secret, no control character, and not too much."""
        kept = json.dumps(ran)
        assert not [secret for secret in self.canaries.secrets if secret in kept]
        for text in (ran["log"], ran["detail"]):
            assert not CONTROL.search(text), text[:500]
        assert len(ran["log"]) <= LOG_CHARACTERS_MAX
        assert len(ran["detail"]) <= DETAIL_CHARACTERS_MAX


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Without the dead that the driver, which adopts all orphans, has not buried."""
    found = []
    for each in processes:
        try:
            if each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
        except psutil.NoSuchProcess:
            continue
    return found


def described(process: psutil.Process) -> str:
    try:
        words = " ".join(process.cmdline())[-60:]
        return f"{process.pid} {process.name()} {process.status()} {words}"
    except psutil.NoSuchProcess:
        return f"{process.pid} gone"


def parameters(code: str) -> list[str]:
    """What `handler` takes. Only our own files come here; users' code is parsed in a jail."""
    found = re.search(r"def handler\(.*?\):", code, re.DOTALL)
    assert found
    (function,) = ast.parse(f"{found[0]} pass").body
    assert isinstance(function, ast.FunctionDef)
    return [each.arg for each in function.args.args]
