"""Errors, sorted by who must act.

    TallyardError
    ├── TransientError          time may heal it: it is tried again, with backoff
    │   ├── Timeout             a judge did not answer within its deadline
    │   ├── RateLimited         a judge asks for fewer calls
    │   ├── JudgeUnavailable    a judge could not be reached, or is down, busy or loading
    │   ├── SandboxLost         a sandbox died while it ran code
    │   ├── InfraError          a sandbox could not be built
    │   ├── NoWorker            no worker took an invocation in time
    │   ├── NotAnswered         a worker took an invocation, but was not done in time
    │   ├── BudgetSpent         a budget has too little left for a call of a judge
    │   ├── StoreUnavailable    PostgreSQL or Redis could not be reached
    │   └── Contended           two transactions met, and PostgreSQL undid this one
    │       └── StaleFence      another worker has taken over what this one held
    ├── PermanentError          the operator must act: a wrong key, a wrong URL, a full disk
    │   ├── CallFailed          an invocation killed its workers, or met a bug
    │   ├── JudgeRefused        a judge refuses the key, or there is none at the URL
    │   ├── JudgeUnpaid         a judge's account has no credit or quota left
    │   ├── NoPrice             a budget caps money, and a model has no price
    │   ├── SandboxUnavailable  nothing on this machine can contain users' code
    │   └── SetupError          Tallyard cannot start as it is set up
    └── UserError               the caller, or the author of the rule or scorer, must act
        ├── BadInput            a request has an error
        ├── NotFound            there is no such thing, or not for this key
        ├── Forbidden           the key's role does not allow it
        ├── InvalidSource       code was pushed that cannot be a scorer
        ├── MissingArgument     a scorer needs a field that the span does not have
        ├── TraceTooLarge       a scorer asks for its trace, which is too large
        ├── PromptTooLong       a judge's prompt with this span in it is too long
        ├── ContentRefused      a judge's filter refused this span's text
        ├── JudgeUnfit          a judge lacks the model, or what the scorer asks of it
        ├── ScorerFailed        the scorer raised an exception
        └── BadResult           the scorer or judge returned something that is no score

The class name in snake case is the `error_class` of an outcome ("rate_limited").
"""

from __future__ import annotations

import re
from typing import ClassVar, Self


class TallyardError(Exception):
    """Base of all errors. The message names the thing, its id if any, and the next step."""

    @classmethod
    def error_class(cls) -> str:
        """The name of the class as outcomes, metrics and `outcomes retry --class` write it."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class TransientError(TallyardError):
    """Time may heal it. `retry_after_s` is the wait that the other side asked for, if any.

    `attempts_max` is set where the error may be the doing of what is run: then time alone does
    not heal it, and this many attempts are enough to tell.
    """

    attempts_max: ClassVar[int | None] = None

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Timeout(TransientError):
    """A judge did not answer within the deadline (`TALLYARD_JUDGE_TIMEOUT_S`)."""


class RateLimited(TransientError):
    """A judge asks for fewer calls, by the status 429 or in the body of its answer."""


class JudgeUnavailable(TransientError):
    """A judge could not be reached, or is down, overloaded or loading its model."""


class SandboxLost(TransientError):
    """A sandbox died while it ran code: it was killed from outside, or ran out of memory."""

    attempts_max = 5


class InfraError(TransientError):
    """A sandbox could not be built."""


class NoWorker(TransientError):
    """No worker took an invocation while its client waited (`TALLYARD_INVOKE_TIMEOUT_S`)."""


class NotAnswered(TransientError):
    """A worker took an invocation, and was not done while its client waited."""


class BudgetSpent(TransientError):
    """A budget has too little left for a call. `budget_no` is its number in the store."""

    def __init__(
        self, message: str, *, budget_no: int = 0, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.budget_no = budget_no


class StoreUnavailable(TransientError):
    """PostgreSQL or Redis could not be reached."""


class Contended(TransientError):
    """Two transactions met, and PostgreSQL undid this one. Doing it again is enough."""


class StaleFence(Contended):
    """Another worker has taken over what this one held, so this one's result does not count."""


class PermanentError(TallyardError):
    """The operator must act. Trying again does not help."""


class CallFailed(PermanentError):
    """An invocation ended without an answer. The workers' logs say more."""


class JudgeRefused(PermanentError):
    """A judge refuses every such call: the key, the URL or the default model is wrong."""


class JudgeUnpaid(PermanentError):
    """The account at a judge's endpoint has no credit or quota left."""


class NoPrice(PermanentError):
    """A budget caps money, and nobody knows what a model costs (`TALLYARD_PRICES`)."""


class SandboxUnavailable(PermanentError):
    """This machine, as it is set up, cannot contain users' code, so none is run."""


class SetupError(PermanentError):
    """Tallyard cannot start as it is set up."""


class UserError(TallyardError):
    """The caller, or the author of the rule or scorer, must act."""


class BadInput(UserError):
    """A request has an error. `path` says where in it, as in `events[3].tags`."""

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path

    def within(self, path: str) -> Self:
        """The same error, inside the part of the request that `path` names."""
        return type(self)(str(self), path=path)


class NotFound(UserError):
    """There is no such thing, or not for this key. The answer does not tell which."""


class Forbidden(UserError):
    """The key's role does not allow it."""


class InvalidSource(UserError):
    """Code that cannot be a scorer. `line` and `column` count from 1."""

    def __init__(
        self, message: str, *, line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(message)
        self.line = line
        self.column = column

    def within(self, path: str) -> Self:
        """The same, of one of several things: `path` says which."""
        return type(self)(f"{path}: {self}", line=self.line, column=self.column)


class MissingArgument(UserError):
    """A scorer needs a field that the span does not have, or that is null in it."""


class TraceTooLarge(UserError):
    """A scorer asks for its trace, which has more spans or bytes than a scorer may get."""


class PromptTooLong(UserError):
    """A judge's prompt, with this span in it, is longer than the model or Tallyard takes."""


class ContentRefused(UserError):
    """A filter at a judge's endpoint refused the text of this span, or the answer to it."""


class JudgeUnfit(UserError):
    """The model that a scorer names is unknown, calls no tools, or refuses a parameter."""


class ScorerFailed(UserError):
    """The scorer raised an exception, which the message repeats."""


class BadResult(UserError):
    """The result is no score: NaN, outside 0..1, an unknown choice, or not JSON."""


CATEGORIES = frozenset({TransientError, PermanentError, UserError})
"""Classes that only say who must act. Code raises their subclasses."""


def error_classes() -> frozenset[str]:
    """The `error_class` of every error of this module, from the classes themselves."""
    return frozenset(kind.error_class() for kind in _subclasses(TallyardError) - CATEGORIES)


def _subclasses(kind: type[TallyardError]) -> set[type[TallyardError]]:
    own = {each for each in kind.__subclasses__() if each.__module__ == __name__}
    return own.union(*(_subclasses(each) for each in own))
