"""Runs functions that are code in sandboxes, and turns what comes back into verdicts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from socket import socket
from threading import Lock

from cachetools import LRUCache

from scorers.functions.body import BundledCode, InlineCode
from scorers.functions.bundle import BundleStore
from scorers.functions.version import FunctionVersion
from scorers.judge.prompt import FIELDS
from scorers.judge.purse import Purse
from scorers.run.heuristic import failed_verdict
from scorers.run.trace import TRACE
from scorers.sandbox import build, bundles
from scorers.sandbox.handler_scores import scores_of
from scorers.sandbox.lending.broker import Broker, Lent
from scorers.sandbox.model import (
    OURS,
    CodeCheck,
    CodeEnd,
    Limits,
    Program,
    RunResult,
    Runtime,
)
from scorers.sandbox.pool import Owner, Sandboxes
from spans import outcome
from spans.errors import (
    BadInput,
    BadResult,
    BudgetSpent,
    InfraError,
    SandboxLost,
    TallyardError,
    TransientError,
)
from spans.ids import ProjectId
from spans.json import JsonObject
from spans.outcome import Errored, Failure, Verdict
from spans.scoring import ScoringResult

BUNDLES_KEPT = 1024
"""Functions of bundles of which a process keeps what it found out; one is about 1 kB."""

PROBLEM_S = 60.0
"""Seconds before a bundle that could not be loaded is tried again."""

BYTE_ORDER_MARK = "\ufeff"
"""What some editors put before a text in UTF-8. Python's compiler refuses it in a string."""

CHANGES_TOLD = 10
"""Most lines in an outcome's log about changes to what a scorer returned."""

LENT_AT_ONCE = 8
"""Most records under way at once for one run of code that calls a model.

Such code spends its time waiting. Each record has a process of its own, so that its outcome
shows the cost of its own calls."""

WITHOUT_RESULT = frozenset({CodeEnd.ERROR, CodeEnd.TIMEOUT})
"""How code ends that cannot do without a model: it raises, or asks until its time is up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeBuilder:
    """Checks source and unpacks bundles in jails."""

    sandboxes: Sandboxes
    bundles: BundleStore

    def build(self, code: InlineCode | BundledCode) -> CodeCheck:
        """The program made from `code`, or the problem that its author must solve.

        Raises InfraError if no jail could be started, and BadInput for an unknown bundle.
        """
        if isinstance(code, BundledCode):
            return self.unpack(code)
        source = code.code.removeprefix(BYTE_ORDER_MARK)
        if code.runtime is Runtime.PYTHON:
            return build.check_python(self.sandboxes, source)
        return build.transpile(self.sandboxes, source)

    def unpack(self, at: BundledCode) -> CodeCheck:
        """Unpack the bundle on this machine and find the function in it.

        Raises as `build` does. It may be repeated: an unpacked bundle is left as it is.
        """
        bundle = self.bundles.bundle_content(at.bundle)
        if bundle is None:
            raise BadInput(f"there is no bundle {at.bundle}: push the scorer again")
        return build.unpack(
            self.sandboxes, bundle.content, encoding=bundle.encoding, runtime=at.runtime,
            runtime_version=at.runtime_version, index=at.index,
        )


@dataclass(slots=True)
class _Known:
    """The last check of a bundle's function, valid until `until` (by time.monotonic).

    A thread holds `lock` while it checks, so that others wait for its result.
    """

    checked: CodeCheck | None = None
    until: float = 0.0
    lock: Lock = field(default_factory=Lock)


class CodeScorers:
    """Runs functions of kind CODE (a `flows.invocations.server.Runner`). Thread-safe.

    A bundle is unpacked on this machine before its first run, and again if it was removed
    since. `most` are the operator's limits. `lending` calls models for code that lists some.
    """

    def __init__(
        self, sandboxes: Sandboxes, builder: CodeBuilder, *, most: Limits,
        lending: Broker, purse_of: Callable[[ProjectId], Purse] | None = None,
    ) -> None:
        self._sandboxes = sandboxes
        self._builder = builder
        self._most = most
        self._lending = lending
        self._purse_of = purse_of
        self._known: LRUCache[BundledCode, _Known] = LRUCache(BUNDLES_KEPT)
        self._lock = Lock()

    def ready(self, function: FunctionVersion) -> Program:
        """The function's program, ready to run on this machine, under the operator's limits.

        Raises BadInput if the author must act, and InfraError if no jail could be started.
        """
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
        """The check of a bundle's function, made once by the first thread that needs it.

        A problem is forgotten after PROBLEM_S and checked again: loading runs users' code too,
        and may succeed when the machine is less busy.
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
        self, function: FunctionVersion, records: Sequence[JsonObject], *,
        purse: Purse | None = None,
    ) -> list[Verdict | TransientError]:
        """Run the function on each record; the verdicts are in the records' order.

        Its calls of models are paid from `purse`, by default that of the function's project.

        The sandbox gets only those fields of a record that the handler takes. An error that a
        repetition may heal is returned in place of a verdict; nothing is raised.
        """
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
        if program.models:
            if purse is None and self._purse_of is not None:
                purse = self._purse_of(function.project_id)
            ends = self._run_lent(owner, program, given, purse)
        else:
            ends = [(ran, Lent()) for ran in self._sandboxes.run(owner, program, given)]
        return [
            verdict_of(ran, record, lent, name=function.name, started_at=started_at)
            for (ran, lent), record in zip(ends, given, strict=True)
        ]

    def _run_lent(
        self, owner: Owner, program: Program, records: Sequence[JsonObject],
        purse: Purse | None,
    ) -> list[tuple[RunResult, Lent]]:
        def run_one(record: JsonObject) -> tuple[RunResult, Lent]:
            served: list[Lent] = []

            def lend(end: socket) -> None:
                served.append(self._lending.serve(
                    end, scorer_id=owner.scorer_id, models=program.models, purse=purse
                ))

            (ran,) = self._sandboxes.run(owner, program, [record], lend)
            # If the jail was lost and started once more, the broker served twice. The second
            # time was for the run that gave the result.
            return ran, served[-1] if served else Lent()

        with ThreadPoolExecutor(LENT_AT_ONCE, thread_name_prefix="lent") as pool:
            return list(pool.map(run_one, records))


def arguments_taken(program: Program) -> tuple[str, ...]:
    """Those of FIELDS and TRACE that the program's handler takes."""
    known = (*FIELDS, TRACE)
    if program.parameters is None:
        return known
    return tuple(name for name in known if name in program.parameters)


def verdict_of(
    ran: RunResult, record: JsonObject, lent: Lent, *, name: str, started_at: float
) -> Verdict | TransientError:
    """The verdict that follows from one run, or the error that time may heal.

    That is our own fault, or a failed call to a model without which the code gave no result.
    If the code gave one all the same, the result counts, but not where a budget was spent: then
    the run waits until there is budget.

    `record` are the arguments of the run. The verdict keeps them without the trace, because
    the score span shows them as an offline evaluation does. `name` is the name of a score that
    brings none of its own.
    """
    if ran.ended in OURS:
        kind = SandboxLost if ran.ended is CodeEnd.SANDBOX_LOST else InfraError
        return kind(ran.detail or "the sandbox ended while the scorer ran in it")
    if isinstance(lent.failure, BudgetSpent):
        return lent.failure   # also of code that gives some score all the same
    if ran.ended is CodeEnd.OK:
        given = {key: value for key, value in record.items() if key != TRACE}
        try:
            found = scores_of(ran.value, name=name)
        except BadResult as error:
            failure = Failure(error_class=CodeEnd.BAD_RESULT.value, message=str(error))
        else:
            result = ScoringResult(scores=found.scores, arguments=given, usage=lent.usage)
            return outcome.verdict_of(
                result, started_at=started_at, run_ms=ran.run_ms, log=_log(ran, found.changes)
            )
    elif ran.ended in WITHOUT_RESULT and lent.failure is not None:
        if isinstance(lent.failure, TransientError):
            return lent.failure
        failure = Failure(
            error_class=lent.failure.error_class(),
            message=f"{lent.failure}; then the scorer ended: {ran.detail or ran.ended.value}",
        )
    else:
        failure = Failure(error_class=ran.ended.value, message=ran.detail or ran.ended.value)
    return Errored(
        failure=failure, log=_log(ran), started_at=started_at, run_ms=ran.run_ms,
        usage=lent.usage,
    )


def _log(ran: RunResult, changes: Sequence[str] = ()) -> str | None:
    """What the code printed, and in brackets what we have to say about the run."""
    said = [*changes[:CHANGES_TOLD]]
    if len(changes) > CHANGES_TOLD:
        said.append(f"{len(changes) - CHANGES_TOLD} more changes")
    if ran.log_dropped:
        said.append(f"{ran.log_dropped} more bytes were dropped")
    if not said:
        return ran.log or None
    printed = f"{ran.log}\n" if ran.log and not ran.log.endswith("\n") else ran.log
    return printed + "\n".join(f"[{each}]" for each in said)
