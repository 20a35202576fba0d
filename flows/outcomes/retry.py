"""Requests to run errored outcomes again, as after a wrong key for the judge."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from scorers.error_classes import outcome_error_classes
from spans.duration import read_duration
from spans.errors import BadInput
from spans.ids import ProjectId, RuleId


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRequest:
    """Which errored outcomes to run again: of this error class, that ended at most `since` ago,
    of this rule. None means no limit."""

    error_class: str | None = None
    since: timedelta | None = None
    rule_id: RuleId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSummary:
    """How many outcomes of one rule or re-score job, scorer, role and error class there are,
    and the latest message among them.

    `rule_id` is None for those that no rule asked for, `rescore_job_id` for those that no job
    asked for. `rule_name` is None also if the rule has been deleted.
    """

    rule_id: str | None
    rule_name: str | None
    rescore_job_id: str | None
    scorer: str
    role: str
    error_class: str
    count: int
    last_message: str
    last_at: str


class OutcomeStore(Protocol):
    """Where outcomes are stored."""

    def retry(self, project_id: ProjectId, request: RetryRequest) -> int:
        """Makes the outcomes pending again, with no attempt counted, and returns how many.

        Outcomes stay errored if their rule or function has been deleted, their content has
        changed, or a newer version of their scorer has an outcome on the row.
        """
        ...

    def errors(self, project_id: ProjectId) -> list[ErrorSummary]:
        """The project's errored outcomes, counted."""
        ...


def read_retry(
    error_class: str | None, since: str | None, rule_id: RuleId | None
) -> RetryRequest:
    """The request, checked. `since` is a duration, as "90s" or "2d". Raises BadInput."""
    if error_class is not None and error_class not in outcome_error_classes():
        raise BadInput(
            f"{error_class!r} is not an error class; use one of "
            f"{', '.join(outcome_error_classes())}",
            path="class",
        )
    return RetryRequest(
        error_class=error_class, since=read_duration(since) if since else None, rule_id=rule_id
    )
