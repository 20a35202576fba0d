"""What is run in a sandbox, within which limits, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from spans.json import Json


class Runtime(StrEnum):
    """What runs a program."""

    PYTHON = "python"
    NODE = "node"


class Isolation(StrEnum):
    """Who shares a process: the records of a batch, or nobody."""

    BATCH = "batch"
    RECORD = "record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may use; a scorer's own lie below its operator's (`Limits.within`).

    `time_s` is one record's, from the moment it is begun to its result; the code may take
    `load_s` to load, or `time_s` if that is more. `memory_mb` is of the whole tree of
    processes. `result_bytes` and `log_bytes` are one record's.
    """

    time_s: float = 5.0
    load_s: float = 5.0
    memory_mb: int = 512
    result_bytes: int = 256 * 1024
    log_bytes: int = 64 * 1024

    @property
    def loading_s(self) -> float:
        """What the code may take to load."""
        return max(self.time_s, self.load_s)

    def within(self, most: Limits) -> Limits:
        """The smaller of each."""
        return Limits(
            time_s=min(self.time_s, most.time_s),
            load_s=min(self.load_s, most.load_s),
            memory_mb=min(self.memory_mb, most.memory_mb),
            result_bytes=min(self.result_bytes, most.result_bytes),
            log_bytes=min(self.log_bytes, most.log_bytes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A scorer's code, ready to run. Immutable: other code is another program.

    Either `code` (Python source, or JavaScript that was made from TypeScript), or `bundle`
    (sha256 of a pushed bundle's bytes, in hex) with the `index` of the function in it, built
    for a `runtime_version`.
    `parameters` are the arguments that the handler takes by name; None: all there are.
    `models` are those that it may call through the worker; none: it has no such access.
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
    """What the jail made of a scorer's source: a `program`, or the `problem` of its author.

    `line` and `column` count from 1, in the source as it came.
    """

    program: Program | None = None
    problem: str | None = None
    line: int | None = None
    column: int | None = None


class CodeEnd(StrEnum):
    """How one record's run ended."""

    OK = "ok"
    # The scorer's own fault: final.
    ERROR = "error"                          # it raised, or its source is invalid
    TIMEOUT = "timeout"                      # killed at `limits.time_s`
    KILLED = "killed"                        # by a signal: memory, a forbidden call, a crash
    NO_RESULT = "no_result"                  # it ended without one
    BAD_RESULT = "bad_result"                # what it gave is no score
    RESULT_TOO_LARGE = "result_too_large"
    # Ours: tried again, and not the scorer's fault.
    INFRA_ERROR = "infra_error"              # the jail could not be built
    SANDBOX_LOST = "sandbox_lost"            # the jail died around it


OURS = frozenset({CodeEnd.INFRA_ERROR, CodeEnd.SANDBOX_LOST})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What came of one record.

    With OK, `value` is what the handler returned, as JSON that has been checked: null, a
    number, an object with `score`, or a list of such (see `scorers.sandbox.handler_scores`).
    Otherwise `detail` says why, at most 2 kB, for the scorer's author. `log` is what it wrote
    to stdout and stderr, as text without control characters; `log_dropped` bytes are beyond
    the limit. `run_ms` is wall time, `memory_mb` the most that a process of it held.
    """

    ended: CodeEnd
    value: Json = None
    detail: str = ""
    log: str = ""
    log_dropped: int = 0
    run_ms: float = 0.0
    memory_mb: float = 0.0
