"""The programs that run in sandboxes, their limits, and the result of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from spans.json import Json


class Runtime(StrEnum):
    """What runs a program."""

    PYTHON = "python"
    NODE = "node"


class Isolation(StrEnum):
    """Whether the records of a batch share one process, or each record gets its own."""

    BATCH = "batch"
    RECORD = "record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may use. A scorer's limits are cut to its operator's (`Limits.within`).

    `time_s` is for one record, in seconds from its start to its result. Loading the code may
    take `load_s`, or `time_s` if that is more. `memory_mb` (MiB) is for all processes of the
    run together. `result_bytes` and `log_bytes` are for one record.
    """

    time_s: float = 5.0
    load_s: float = 5.0
    memory_mb: int = 512
    result_bytes: int = 256 * 1024
    log_bytes: int = 64 * 1024

    @property
    def loading_s(self) -> float:
        """The seconds that the code may take to load."""
        return max(self.time_s, self.load_s)

    def within(self, most: Limits) -> Limits:
        """The limits, none of them above the same limit of `most`."""
        return Limits(
            time_s=min(self.time_s, most.time_s),
            load_s=min(self.load_s, most.load_s),
            memory_mb=min(self.memory_mb, most.memory_mb),
            result_bytes=min(self.result_bytes, most.result_bytes),
            log_bytes=min(self.log_bytes, most.log_bytes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A scorer's code, ready to run. It is immutable: other code is another program.

    It holds either `code` (Python source, or JavaScript that was made from TypeScript) or a
    `bundle` (the sha256 of a pushed bundle's bytes, in hex). A bundle comes with the `index` of
    the function in it and the `runtime_version` that it was built for.

    `parameters` are the names of the arguments that the handler takes; None means all.
    `models` are the models that it may call through the worker; without any it can call none.
    """

    runtime: Runtime
    runtime_version: str | None = None
    code: str | None = None
    bundle: str | None = None
    index: int | None = None
    parameters: tuple[str, ...] | None = None
    isolation: Isolation = Isolation.BATCH
    limits: Limits = field(default_factory=Limits)
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeCheck:
    """The result of checking a scorer's source: a `program`, or a `problem` for its author.

    `line` and `column` say where the problem is. They count from 1, in the author's source.
    """

    program: Program | None = None
    problem: str | None = None
    line: int | None = None
    column: int | None = None


class CodeEnd(StrEnum):
    """How the run of code on one record ended."""

    OK = "ok"
    # The scorer's fault: these are final.
    ERROR = "error"                          # the code raised, or its source is invalid
    TIMEOUT = "timeout"                      # killed at `limits.time_s`
    KILLED = "killed"                        # by a signal: memory, a forbidden call, a crash
    NO_RESULT = "no_result"                  # the process ended without a result
    BAD_RESULT = "bad_result"                # what the code returned is not a score
    RESULT_TOO_LARGE = "result_too_large"
    # Our fault: the run is repeated.
    INFRA_ERROR = "infra_error"              # the jail could not be built
    SANDBOX_LOST = "sandbox_lost"            # the jail died while the code ran in it


OURS = frozenset({CodeEnd.INFRA_ERROR, CodeEnd.SANDBOX_LOST})
"""The ends that are our own fault and not the scorer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The result of running code on one record.

    If it `ended` OK, `value` is what the handler returned, as JSON that can be stored;
    `scorers.sandbox.handler_scores` reads the scores from it. Otherwise `detail` tells the
    scorer's author why, in at most 2 kB.

    `log` is what the code wrote to stdout and stderr, without control characters. Output beyond
    `limits.log_bytes` is dropped; `log_dropped` counts its bytes. `run_ms` is wall time.
    `memory_mb` is the most that any one process of the run held, in MiB.
    """

    ended: CodeEnd
    value: Json = None
    detail: str = ""
    log: str = ""
    log_dropped: int = 0
    run_ms: float = 0.0
    memory_mb: float = 0.0
