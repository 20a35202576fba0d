"""Running functions that are code: what goes into a sandbox, and what its answer means."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from socket import socket
from threading import Lock
from typing import Protocol

from cachetools import LRUCache

from scorers.functions.body import BundledCode, InlineCode
from scorers.functions.bundle import BundleStore
from scorers.functions.version import FunctionVersion
from scorers.judge.prompt import FIELDS
from scorers.running.in_process import failed_verdict
from scorers.running.trace import TRACE
from scorers.sandbox import build, bundles
from scorers.sandbox.exchange import Broker as Lender
from scorers.sandbox.handler_scores import scores_of
from scorers.sandbox.model import (
    OURS,
    CodeCheck,
    CodeEnd,
    Limits,
    Program,
    RunResult,
    Runtime,
)
from scorers.sandbox.pool import Owner
from spans import outcome
from spans.errors import (
    BadInput,
    BadResult,
    InfraError,
    SandboxLost,
    TallyardError,
    TransientError,
)
from spans.json import JsonObject
from spans.outcome import Errored, Failure, Verdict
from spans.scoring import ScoringResult, Usage

BUNDLES_KEPT = 1024
"""Functions of bundles of which a process keeps what it found out; one is about 1 kB."""

PROBLEM_S = 60.0
"""How long a bundle that cannot be loaded is not tried again."""

LENT_AT_ONCE = 8
"""Records under way at once of code that asks a model: it waits, and has a process to itself,
so that each outcome tells what its own calls cost."""


class ProgramRunner(build.JobRunner, Protocol):
    """Where code runs."""

    def run(
        self, owner: Owner, program: Program, records: Sequence[JsonObject],
        broker: Lender | None = None,
    ) -> list[RunResult]:
        """One Ran for each record, in order. Never raises for what a scorer does."""
        ...


class Lending(Protocol):
    """Makes LLM calls for code (`scorers.sandbox.lending.broker.Broker`)."""

    def serve(self, end: socket, *, scorer_id: str, models: Collection[str]) -> Usage:
        """Answer what comes in over `end` until it closes; what the calls cost."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeBuilder:
    """Looks at source and unpacks bundles, in jails (a `flows.invocations.server.Builder`)."""

    sandboxes: ProgramRunner
    bundles: BundleStore

    def build(self, code: InlineCode | BundledCode) -> CodeCheck:
        """The program that `code` makes, or the problem that its author must solve.

        Raises InfraError if there was no jail to be had.
        """
        if isinstance(code, BundledCode):
            return self.unpack(code)
        if code.runtime is Runtime.PYTHON:
            return build.check_python(self.sandboxes, code.code)
        return build.transpile(self.sandboxes, code.code)

    def unpack(self, at: BundledCode) -> CodeCheck:
        """Lay a bundle out on this machine, and find the function in it."""
        bundle = self.bundles.bundle_content(at.bundle)
        if bundle is None:
            raise BadInput(f"there is no bundle {at.bundle}: push the scorer again")
        return build.unpack(
            self.sandboxes, bundle.content, encoding=bundle.encoding, runtime=at.runtime,
            runtime_version=at.runtime_version, index=at.index,
        )


@dataclass(slots=True)
class _Known:
    """What is known of a bundle's function, `until` when (by time.monotonic)."""

    checked: CodeCheck | None = None
    until: float = 0.0
    lock: Lock = field(default_factory=Lock)


class CodeScorers:
    """Implements flows.invocations.server.Runner for functions of kind CODE. Thread-safe.

    `most` are the operator's limits. Without `lending` no code is lent a model.
    """

    def __init__(
        self, sandboxes: ProgramRunner, builder: CodeBuilder, *, most: Limits,
        lending: Lending | None,
    ) -> None:
        self._sandboxes = sandboxes
        self._builder = builder
        self._most = most
        self._lending = lending
        self._known: LRUCache[BundledCode, _Known] = LRUCache(BUNDLES_KEPT)
        self._lock = Lock()

    def ready(self, function: FunctionVersion) -> Program:
        """What runs it here, now. Raises BadInput where its author must act, and InfraError."""
        program = function.program
        if program is None:
            raise BadInput(function.problem or f"{function.name} has no code to run")
        program = replace(program, limits=program.limits.within(self._most))
        if program.bundle is None or program.index is None:
            return program
        checked = self._unpacked(BundledCode(
            runtime=program.runtime, runtime_version=program.runtime_version or "",
            bundle=program.bundle, index=program.index,
        ))
        if checked.program is None:
            raise BadInput(f"{function.name} cannot run: {checked.problem}")
        return replace(program, parameters=checked.program.parameters)

    def _unpacked(self, at: BundledCode) -> CodeCheck:
        """What is known of a bundle's function here; found out once, by one of those who ask.

        A problem is looked at again after a while: loading is users' code, too, and may end
        differently on a machine that is less busy.
        """
        with self._lock:
            known = self._known.setdefault(at, _Known())
        with known.lock:
            is_good = known.checked is not None and known.checked.program is not None
            is_gone = is_good and not bundles.use(self._sandboxes.place, at.bundle)
            if known.checked is None or time.monotonic() > known.until or is_gone:
                known.checked = self._builder.unpack(at)
                is_good = known.checked.program is not None
                known.until = math.inf if is_good else time.monotonic() + PROBLEM_S
            return known.checked

    def run(
        self, function: FunctionVersion, records: Sequence[JsonObject]
    ) -> list[Verdict | TransientError]:
        """See Runner. Of a record only the arguments that the handler takes go in."""
        begin = time.perf_counter()
        try:
            program = self.ready(function)
        except TransientError as error:
            return [error] * len(records)
        except TallyardError as error:
            return [failed_verdict(error, begin=begin)] * len(records)
        names = arguments_taken(program)
        given = [{name: record.get(name) for name in names} for record in records]
        owner = Owner(
            project_id=str(function.project_id), scorer_id=str(function.id),
            version=str(function.version),
        )
        started_at = time.time()
        if program.models and self._lending is not None:
            ends = self._run_lent(owner, program, given, self._lending)
        else:
            ends = [(ran, Usage()) for ran in self._sandboxes.run(owner, program, given)]
        return [
            verdict_of(ran, record, usage, name=function.name, started_at=started_at)
            for (ran, usage), record in zip(ends, given, strict=True)
        ]

    def _run_lent(
        self, owner: Owner, program: Program, records: Sequence[JsonObject], lending: Lending
    ) -> list[tuple[RunResult, Usage]]:
        def run_one(record: JsonObject) -> tuple[RunResult, Usage]:
            spent: list[Usage] = []

            def lend(end: socket) -> None:
                usage = lending.serve(end, scorer_id=owner.scorer_id, models=program.models)
                spent.append(usage)

            (ran,) = self._sandboxes.run(owner, program, [record], lend)
            # A sandbox that was lost is built once more: then there are two.
            return ran, spent[-1] if spent else Usage()

        with ThreadPoolExecutor(LENT_AT_ONCE, thread_name_prefix="lent") as pool:
            return list(pool.map(run_one, records))


def arguments_taken(program: Program) -> tuple[str, ...]:
    """The arguments that a program's handler takes, of those that there are."""
    known = (*FIELDS, TRACE)
    if program.parameters is None:
        return known
    return tuple(name for name in known if name in program.parameters)


def verdict_of(
    ran: RunResult, record: JsonObject, usage: Usage, *, name: str, started_at: float
) -> Verdict | TransientError:
    """What one run says. The score span shows the arguments without the trace, as an offline
    evaluation does."""
    if ran.ended in OURS:
        kind = SandboxLost if ran.ended is CodeEnd.SANDBOX_LOST else InfraError
        return kind(ran.detail or "the sandbox ended around what it ran")
    log = _log(ran)
    if ran.ended is CodeEnd.OK:
        given = {key: value for key, value in record.items() if key != TRACE}
        try:
            scores = scores_of(ran.value, name=name)
        except BadResult as error:
            failure = Failure(error_class=CodeEnd.BAD_RESULT.value, message=str(error))
        else:
            result = ScoringResult(scores=scores, arguments=given, usage=usage)
            return outcome.verdict_of(
                result, started_at=started_at, run_ms=ran.run_ms, log=log
            )
    else:
        failure = Failure(error_class=ran.ended.value, message=ran.detail or ran.ended.value)
    return Errored(failure=failure, log=log, started_at=started_at, run_ms=ran.run_ms)


def _log(ran: RunResult) -> str | None:
    if not ran.log_dropped:
        return ran.log or None
    return f"{ran.log}\n[{ran.log_dropped} more bytes were dropped]"
