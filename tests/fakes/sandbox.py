"""A sandbox that runs no code: the "code" is a number, or the name of an argument."""

from __future__ import annotations

from collections.abc import Sequence

from scorers.functions.body import BundledCode, InlineCode
from scorers.functions.version import FunctionVersion
from scorers.judge.prompt import FIELDS
from scorers.sandbox.model import CodeCheck, Program
from spans.errors import InfraError, SandboxLost, TransientError
from spans.json import JsonObject
from spans.outcome import Errored, Failure, Verdict, verdict_of
from spans.scoring import Score, ScoringResult

CRASH = "crash"
"""Code that a check accepts, and that raises what no runner foresees."""


class FakeSandbox:
    """Checks code and runs it (a CheckCode, and a flows.invocations.server.Runner).

    Code is the score that it gives, as `0.5`, or an argument whose value is the score, as
    `output`; a value that is no number is an error of the scorer. A bundle's score is 1. The
    first `lost` attempts lose the sandbox. `checked` and `ran` say what it was given.
    """

    def __init__(self, lost: int = 0) -> None:
        self.lost = lost
        self.checked: list[InlineCode | BundledCode] = []
        self.ran: list[tuple[FunctionVersion, list[JsonObject]]] = []

    def check(self, code: InlineCode | BundledCode) -> CodeCheck:
        self.checked.append(code)
        if self._is_lost():
            raise InfraError("no jail")
        if isinstance(code, BundledCode):
            return CodeCheck(program=Program(
                runtime=code.runtime, runtime_version=code.runtime_version,
                bundle=code.bundle, index=code.index, parameters=("output",),
            ))
        if code.code not in {*FIELDS, "trace", CRASH} and _number(code.code) is None:
            return CodeCheck(problem="neither a number nor an argument", line=1, column=1)
        return CodeCheck(program=Program(
            runtime=code.runtime, code=code.code, parameters=(*FIELDS, "trace"),
        ))

    def run(
        self, function: FunctionVersion, records: Sequence[JsonObject]
    ) -> list[Verdict | TransientError]:
        self.ran.append((function, [*records]))
        program = function.program
        code = "1" if program is None or program.code is None else program.code
        if code == CRASH:
            raise ZeroDivisionError("secret")
        ends: list[Verdict | TransientError] = [
            _verdict(function.name, code, record) for record in records
        ]
        return [*ends[1:], SandboxLost("it went away")] if self._is_lost() else ends

    def _is_lost(self) -> bool:
        self.lost -= 1
        return self.lost >= 0


def _verdict(name: str, code: str, record: JsonObject) -> Verdict:
    value = _number(code)
    given = record.get(code) if value is None else value
    if isinstance(given, str | dict | list):
        failure = Failure(error_class="error", message=f"no number: {given!r}")
        return Errored(failure=failure, started_at=1.0, run_ms=2.5)
    score = Score(
        name=name, value=None if given is None else float(given), metadata={"keys": [*record]}
    )
    result = ScoringResult(scores=(score,), arguments=record)
    return verdict_of(result, started_at=1.0, run_ms=2.5, log="printed")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
