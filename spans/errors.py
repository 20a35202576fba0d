"""Errors that say who must act.

    TallyardError
    ├── TransientError       time may heal it: tried again, with backoff
    │   ├── Timeout          a judge did not answer within its deadline
    │   ├── RateLimited      a judge said 429
    │   ├── JudgeUnavailable a judge could not be reached, or said 5xx
    │   ├── SandboxLost      a sandbox died around what it ran
    │   ├── InfraError       a sandbox could not be built
    │   ├── NoWorker         no worker took a call that somebody waits for
    │   ├── NotAnswered      a worker took such a call, and is not done in time
    │   ├── StoreUnavailable PostgreSQL or Redis could not be reached
    │   └── Contended        two transactions met, and PostgreSQL undid this one
    │       └── StaleFence   what this worker held has been taken over by another
    ├── PermanentError       the operator must act: a wrong key, a wrong URL, a full disk
    │   ├── CallFailed       a call ended without an answer: it kills workers, or is a bug
    │   ├── JudgeRefused     a judge said 401, 403, 404 or another 4xx
    │   ├── SandboxUnavailable  nothing contains users' code on this machine
    │   └── SetupError       Tallyard cannot start as it is set up
    └── UserError            the caller, or the author of the rule or scorer, must act
        ├── BadInput         a request that is not understood
        ├── NotFound         no such thing, or not for this key
        ├── Forbidden        this key's role does not allow it
        ├── InvalidSource    a scorer's code that cannot be one: its author must act
        ├── MissingArgument  a scorer needs a field that the span does not have
        ├── TraceTooLarge    a scorer asks for its trace, and that is beyond the limits
        ├── ScorerFailed     the scorer raised
        └── BadResult        the scorer or judge answered with something that is no score

The class name in snake case is the `error_class` of an outcome ("rate_limited").
"""

from __future__ import annotations

import re
from typing import Self


class TallyardError(Exception):
    """The message names the thing, its id where it has one, and the next step."""

    @classmethod
    def error_class(cls) -> str:
        """The class as outcomes, metrics and `outcomes retry --class` write it."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class TransientError(TallyardError):
    """Time may heal it. `retry_after_s` is what the other side asked for, if it asked."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Timeout(TransientError):
    """A judge did not answer within the deadline (`TALLYARD_JUDGE_TIMEOUT_S`)."""


class RateLimited(TransientError):
    """A judge answered 429."""


class JudgeUnavailable(TransientError):
    """A judge could not be reached, or answered 5xx."""


class SandboxLost(TransientError):
    """A sandbox died around what it ran: killed from outside, or out of memory."""


class InfraError(TransientError):
    """A sandbox could not be built."""


class NoWorker(TransientError):
    """No worker took a call in the time that its caller waits (`TALLYARD_INVOKE_TIMEOUT_S`)."""


class NotAnswered(TransientError):
    """A worker took a call, and was not done in the time that its caller waits."""


class StoreUnavailable(TransientError):
    """PostgreSQL or Redis could not be reached."""


class Contended(TransientError):
    """Two transactions met, and PostgreSQL undid this one: doing it again is all it takes."""


class StaleFence(Contended):
    """What this worker held has been taken over by another: its result does not count."""


class PermanentError(TallyardError):
    """The operator must act; trying again changes nothing."""


class CallFailed(PermanentError):
    """A call that somebody waits for ended without an answer; the workers' logs say more."""


class JudgeRefused(PermanentError):
    """A judge answered with a 4xx that trying again will not change (key, model, URL)."""


class SandboxUnavailable(PermanentError):
    """Code cannot be contained on this machine as it is set up, so none is run."""


class SetupError(PermanentError):
    """Tallyard cannot start as it is set up."""


class UserError(TallyardError):
    """The caller, or the author of the rule or scorer, must act."""


class BadInput(UserError):
    """A request that is not understood. `path` says where in it, as in `events[3].tags`."""

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path

    def within(self, path: str) -> Self:
        """The same, of one of several things: `path` says which."""
        return type(self)(str(self), path=path)


class NotFound(UserError):
    """No such thing, or not for this key: the two are not told apart."""


class Forbidden(UserError):
    """The key's role does not allow it."""


class InvalidSource(UserError):
    """A scorer's code that cannot be one. `line` and `column` count from 1."""

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
    """A scorer needs a field that the span does not have (or has as null)."""


class TraceTooLarge(UserError):
    """A scorer asks for its trace, which has more spans or bytes than a scorer is given."""


class ScorerFailed(UserError):
    """The scorer raised; the message carries its exception."""


class BadResult(UserError):
    """What came back is no score: NaN, outside 0..1, an unknown choice, not JSON."""


CATEGORIES = frozenset({TransientError, PermanentError, UserError})
"""Classes that only say who must act; what is raised is one of their subclasses."""


def error_classes() -> frozenset[str]:
    """The `error_class` of every error of this module, so that none can be forgotten."""
    return frozenset(kind.error_class() for kind in _subclasses(TallyardError) - CATEGORIES)


def _subclasses(kind: type[TallyardError]) -> set[type[TallyardError]]:
    own = {each for each in kind.__subclasses__() if each.__module__ == __name__}
    return own.union(*(_subclasses(each) for each in own))
