"""Users' code: records a second through the pipeline and through a sandbox alone, what a
sandbox costs to start and to keep; each beside the same handler in a loop without any.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import orjson
import psutil

from benchmarks.load import Order, load
from benchmarks.processes import difference, machine_cpu_s, pss_bytes
from benchmarks.rows import rows
from benchmarks.stack import Stack
from benchmarks.tables import WAITING_ROWS
from benchmarks.waiting import wait_for_outcomes
from scorers.sandbox.model import CodeEnd, Isolation, Program, Runtime
from scorers.sandbox.place import find_place
from scorers.sandbox.pool import Owner, Sandboxes
from spans.json import JsonObject
from wiring.settings import read_settings

ROWS_EACH = 100
TURN_S = 180.0
LOOP_S = 1.0
ALONE_RECORDS = 5_000
ISOLATED_RECORDS = 200
COLD_STARTS = 5

PYTHON = '''
def handler(output, expected):
    wanted = set(expected.split())
    return {"score": len(wanted & set(output.split())) / max(1, len(wanted))}
'''
TYPESCRIPT = """
export function handler({ output, expected }: { output: string; expected: string }) {
  const wanted = new Set(expected.split(/\\s+/));
  const found = new Set(output.split(/\\s+/).filter((word: string) => wanted.has(word)));
  return { score: found.size / Math.max(1, wanted.size) };
}
"""
JAVASCRIPT_LOOP = """
const records = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
const handler = ({ output, expected }) => {
  const wanted = new Set(expected.split(/\\s+/));
  const found = new Set(output.split(/\\s+/).filter((word) => wanted.has(word)));
  return { score: found.size / Math.max(1, wanted.size) };
};
const begin = process.hrtime.bigint();
let done = 0, seconds = 0;
while (seconds < 1) {
  for (const record of records) JSON.stringify(handler(JSON.parse(record)));
  done += records.length;
  seconds = Number(process.hrtime.bigint() - begin) / 1e9;
}
console.log(JSON.stringify({ done, seconds }));
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTurn:
    """What one contender ran; `cpu_us` is processor time a record, by process."""

    records: int
    seconds: float
    cpu_us: dict[str, float] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        """The measure."""
        return self.records / self.seconds


def python_loop() -> CodeTurn:
    """The handler in a loop without any walls: parse the record, call, write the result."""
    records = [orjson.dumps(record) for record in _records(1_000)]
    names: dict[str, Callable[..., object]] = {}
    exec(PYTHON, names)  # our own text
    handler = names["handler"]
    done, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < LOOP_S:
        for record in records:
            orjson.dumps(handler(**orjson.loads(record)))
        done += len(records)
    return CodeTurn(records=done, seconds=elapsed)


def javascript_loop() -> CodeTurn:
    """The same in node."""
    records = [orjson.dumps(record).decode() for record in _records(1_000)]
    ran = subprocess.run(
        [str(find_place().node), "-e", JAVASCRIPT_LOOP], input=json.dumps(records),
        capture_output=True, text=True, check=True,
    )
    told = json.loads(ran.stdout)
    return CodeTurn(records=told["done"], seconds=told["seconds"])


def pipeline(stack: Stack, count: int, *, runtime: str, seed: int) -> CodeTurn:
    """A backlog of finished spans, from the match worker's first step to the last outcome."""
    code = PYTHON if runtime == "python" else TYPESCRIPT
    project_id = stack.function_project(f"code {uuid.uuid4().hex[:8]}", code, runtime=runtime)
    host, port = stack.host_and_port
    order = Order(
        host=host, port=port, path="/logs3", authorization=f"Bearer {stack.key}",
        connections=8, requests=count // ROWS_EACH, rows_each=ROWS_EACH, seed=seed, prefix="c",
        project_id=project_id,
    )
    with stack.connect() as reader:
        with stack.held("match"):
            with load(order, log=stack.log) as generator:
                generator.go()
                generator.answered()
            wait_for_outcomes(reader, project_id, count, deadline_s=TURN_S, count=WAITING_ROWS)
            before, machine = stack.cpu_s(), machine_cpu_s()
            begin = time.monotonic()
        last = wait_for_outcomes(reader, project_id, count, deadline_s=TURN_S)
        used = difference(before, stack.cpu_s())
        # What ran in jails is gone by now, and counted nowhere else.
        used["jails and elsewhere"] = machine_cpu_s() - machine - sum(used.values())
    return CodeTurn(
        records=count, seconds=last - begin,
        cpu_us={name: seconds / count * 1e6 for name, seconds in used.items()},
    )


def alone(*, isolation: Isolation, is_bare: bool) -> CodeTurn:
    """One sandbox fed from one thread, without the pipeline around it.

    `seconds` is processor time of the whole machine, so that a rate is one core's.
    """
    count = ALONE_RECORDS if isolation is Isolation.BATCH else ISOLATED_RECORDS
    program = Program(runtime=Runtime.PYTHON, code=PYTHON, isolation=isolation)
    with _sandboxes(is_bare=is_bare) as sandboxes:
        batch = list(_records(ROWS_EACH))
        _all_ok(sandboxes, program, batch[:1])
        machine = machine_cpu_s()
        for _ in range(count // ROWS_EACH):
            _all_ok(sandboxes, program, batch)
        return CodeTurn(records=count, seconds=machine_cpu_s() - machine)


def cold_start_ms() -> list[float]:
    """From nothing to the first score, in milliseconds, autoevals preloaded; sorted."""
    program = Program(runtime=Runtime.PYTHON, code=PYTHON)
    record = list(_records(1))
    each = []
    for _ in range(COLD_STARTS):
        with _sandboxes(is_bare=False) as sandboxes:
            begin = time.perf_counter()
            _all_ok(sandboxes, program, record)
            each.append((time.perf_counter() - begin) * 1e3)
    return sorted(each)


def idle_mb() -> float:
    """What one idle sandbox holds, in MB of PSS."""
    program = Program(runtime=Runtime.PYTHON, code=PYTHON)
    ours = psutil.Process()
    before = set(ours.children(recursive=True))
    with _sandboxes(is_bare=False) as sandboxes:
        _all_ok(sandboxes, program, list(_records(1)))
        threading.Event().wait(LOOP_S)
        own = set(ours.children(recursive=True)) - before
        return sum(pss_bytes(process) for process in own) / 1e6


def _records(count: int) -> Iterator[JsonObject]:
    for row in rows(count, seed=1, prefix="a"):
        yield {"output": row["output"], "expected": row["expected"]}


@contextmanager
def _sandboxes(*, is_bare: bool) -> Iterator[Sandboxes]:
    """As a worker has them, or with nothing preloaded."""
    packages = read_settings({}).scorer_packages_dir
    full = {"packages": packages, "preload": ("autoevals", "pydantic")}
    place = find_place(**({} if is_bare else full))
    sandboxes = Sandboxes(place, kept=4, idle_s=TURN_S)
    try:
        yield sandboxes
    finally:
        sandboxes.close()


def _all_ok(sandboxes: Sandboxes, program: Program, records: list[JsonObject]) -> None:
    owner = Owner(project_id="bench", scorer_id="bench", version="1")
    for ran in sandboxes.run(owner, program, records):
        if ran.ended is not CodeEnd.OK:
            raise RuntimeError(f"the sandbox said {ran}")
