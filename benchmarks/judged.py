"""LLM judges: calls a second with 256 in flight at a judge that takes 500 ms to answer."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks.load import Order, load
from benchmarks.processes import cpu_s_by_name, difference
from benchmarks.stack import Stack
from benchmarks.tables import PENDING
from benchmarks.waiting import wait_for_outcomes

JUDGE_S = 0.5
IN_FLIGHT = 256
IDEAL_PER_S = IN_FLIGHT / JUDGE_S
ROWS_EACH = 128
DEADLINE_S = 120.0
FAKE = Path(__file__).parent.parent / "tests" / "fakes" / "judge.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeTurn:
    """What one contender asked; `cpu_us` is processor time a call, by process."""

    calls: int
    seconds: float
    cpu_us: dict[str, float] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Of the calls a second that 256 in flight at 500 ms would make."""
        return self.calls / self.seconds / IDEAL_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeJudge:
    """The judge in its own process."""

    url: str
    process: psutil.Process


@contextmanager
def running_judge(folder: Path) -> Iterator[FakeJudge]:
    """A judge that answers every call rightly after 500 ms; gone at the end."""
    with (folder / "judge.fake.log").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, str(FAKE), str(JUDGE_S)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("the fake judge did not start")
        yield FakeJudge(url=url, process=psutil.Process(process.pid))
    finally:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)


def tallyard_judged(stack: Stack, judge: FakeJudge, calls: int, *, seed: int) -> JudgeTurn:
    """A backlog of spans for Factuality, from the judge worker's first step on."""
    project_id = stack.project(
        f"judged {uuid.uuid4().hex[:8]}", rates={"Factuality": 1.0}
    )
    host, port = stack.host_and_port
    order = Order(
        host=host, port=port, path="/logs3", authorization=f"Bearer {stack.key}",
        connections=4, requests=calls // ROWS_EACH, rows_each=ROWS_EACH, seed=seed, prefix="j",
        project_id=project_id,
    )
    with stack.connect() as reader:
        with stack.held("judge"):
            with load(order, log=stack.log) as generator:
                generator.go()
                generator.answered()
            wait_for_outcomes(reader, project_id, calls, deadline_s=DEADLINE_S, count=PENDING)
            before = {**stack.cpu_s(), **cpu_s_by_name([("fake judge", judge.process)])}
            begin = time.monotonic()
        last = wait_for_outcomes(reader, project_id, calls, deadline_s=DEADLINE_S)
        after = {**stack.cpu_s(), **cpu_s_by_name([("fake judge", judge.process)])}
    return JudgeTurn(
        calls=calls, seconds=last - begin,
        cpu_us={
            name: used / calls * 1e6 for name, used in difference(before, after).items()
        },
    )


def raw_judged(stack: Stack, judge: FakeJudge, calls: int) -> JudgeTurn:
    """The same number of calls posted by the load generator over 256 connections.

    What these cores and this judge allow where nothing but HTTP is done.
    """
    parts = urlsplit(judge.url)
    arguments = {"type": "object", "properties": {"choice": {"enum": ["A"]}}}
    body = {
        "model": "m", "messages": [{"role": "user", "content": "x" * 2_500}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": arguments}}],
    }
    order = Order(
        host=parts.hostname or "", port=parts.port or 0,
        path=f"{parts.path}/chat/completions", connections=IN_FLIGHT, requests=calls,
        body=json.dumps(body),
    )
    with load(order, log=stack.log) as generator:
        generator.go()
        answered = generator.answered()
    if set(answered.statuses) != {"200"}:
        raise RuntimeError(f"the fake judge answered {answered.statuses}")
    return JudgeTurn(calls=calls, seconds=answered.end_s - answered.begin_s)
