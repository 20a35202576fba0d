"""The messages of invocations: the requests, their answers, and the store of both.

The API and the commands run no scorers themselves. They enqueue an invocation for a queue whose
workers can, and wait for the answer (`flows.invocations.client`).
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
"""How often an invocation is claimed, if each worker dies of it or loses its sandbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """Checks a scorer's source: whether it can run, and which arguments it takes."""

    runtime: Runtime
    code: str
    kind: Literal["check"] = "check"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackRequest:
    """Unpacks a pushed bundle and checks the function at `index` in it.

    `bundle` is the SHA-256 of its bytes, in hex. `runtime_version` is the version of the
    runtime that it was built for.
    """

    bundle: str
    runtime: Runtime
    runtime_version: str
    index: int
    kind: Literal["unpack"] = "unpack"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Runs a function on `records` (arguments by name), then on stored `rows`.

    The request contains the whole function, so the function need not be stored. Only the answer
    is stored, until the client has read it.
    """

    function: FunctionVersion
    records: tuple[JsonObject, ...] = ()
    rows: tuple[RowKey, ...] = ()
    kind: Literal["run"] = "run"


Request = CheckRequest | UnpackRequest | RunRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckAnswer:
    """The result of checking code: the answer to CheckRequest and UnpackRequest."""

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
    """An invocation that this worker has claimed.

    `attempts` counts this claim too. An answer counts only under the current `fence`: if
    another worker has claimed the invocation meanwhile, the answer is dropped.
    """

    id: InvocationId
    fence: int
    attempts: int
    request: Request


class InvocationStore(Protocol):
    """Where invocations are stored."""

    def ask(
        self, invocation_id: InvocationId, org_id: OrgId, queue: str, request: Request
    ) -> None:
        """Enqueues an invocation for the workers of a queue."""
        ...

    def claim(self, queue: str) -> Invocation | None:
        """Claims the queue's oldest invocation that no worker holds and a client waits for."""
        ...

    def answer(self, invocation: Invocation, answer: Answer) -> None:
        """Stores the answer and wakes the client. Does nothing under an older fence."""
        ...

    def give_back(self, invocation: Invocation) -> None:
        """Releases the claim, for the next worker. Does nothing under an older fence."""
        ...

    def subjects(self, rows: Sequence[RowKey]) -> list[Subject | None]:
        """The rows, with every column that a scorer may take; None for each that is gone."""
        ...
