"""Calls that wait for an answer: what is asked, what is answered, and where both are kept.

Whoever asks (the API, a command) runs no scorer itself. It leaves an invocation for the
queue whose workers can, and waits until one of them has answered (`flows.invocations.client`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from pydantic import Field

from scorers.functions.version import FunctionVersion
from scorers.sandbox.model import CodeCheck, Runtime
from spans.ids import InvocationId, OrgId
from spans.json import JsonObject
from spans.outcome import Failure, Verdict
from spans.row import RowKey
from spans.work import Subject

ATTEMPTS_MAX = 3
"""How often a call is taken: so many workers may die of it, or lose its sandbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """Look at a scorer's source without running it: can it run, and with which arguments."""

    runtime: Runtime
    code: str
    kind: Literal["check"] = "check"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackRequest:
    """Make a pushed bundle ready, and find the function at `index` in it.

    `bundle` is the sha256 of its bytes, in hex; `runtime_version` what it was built for.
    """

    bundle: str
    runtime: Runtime
    runtime_version: str
    index: int
    kind: Literal["unpack"] = "unpack"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Run a function on `records` (arguments by name), then on stored `rows`.

    The function is carried whole: it need not be kept anywhere. Nothing of what it says is
    saved but the answer.
    """

    function: FunctionVersion
    records: tuple[JsonObject, ...] = ()
    rows: tuple[RowKey, ...] = ()
    kind: Literal["run"] = "run"


Request = CheckRequest | UnpackRequest | RunRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckAnswer:
    """What a jail made of code: the answer to CheckRequest and UnpackRequest."""

    checked: CodeCheck
    kind: Literal["checked"] = "checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAnswer:
    """One verdict for each record and row of a RunRequest, in order, without the arguments."""

    verdicts: tuple[Annotated[Verdict, Field(discriminator="state")], ...]
    kind: Literal["ran"] = "ran"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureAnswer:
    """The failure that kept the request from being answered."""

    failure: Failure
    kind: Literal["failed"] = "failed"


Answer = CheckAnswer | RunAnswer | FailureAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A call that this worker has taken. `attempts` counts this one; `fence` refuses the
    answer of who was taken for dead meanwhile."""

    id: InvocationId
    fence: int
    attempts: int
    request: Request


class InvocationStore(Protocol):
    """Where calls are kept."""

    def ask(
        self, invocation_id: InvocationId, org_id: OrgId, queue: str, request: Request
    ) -> None:
        """Leave a call for the workers of a queue."""
        ...

    def claim(self, queue: str) -> Invocation | None:
        """The oldest call of the queue that nobody holds and somebody still waits for."""
        ...

    def answer(self, invocation: Invocation, answer: Answer) -> None:
        """Answer it, and wake who waits. Under an older fence nothing happens."""
        ...

    def give_back(self, invocation: Invocation) -> None:
        """Leave it for the next worker. Under an older fence nothing happens."""
        ...

    def subjects(self, rows: Sequence[RowKey]) -> list[Subject | None]:
        """The rows with every column that a scorer may ask for; None: it is gone."""
        ...
