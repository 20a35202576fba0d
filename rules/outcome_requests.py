"""Which outcomes a rule asks for on a row that it selects, and which queue runs them."""

from __future__ import annotations

from rules.named_functions import NamedFunctions, scorers_of
from rules.planning import PlannedRule
from scorers.functions.queue import queue_of_global
from scorers.functions.version import FUNCTION
from spans.outcome import OutcomeKey, RuleOrigin
from spans.scoring import ScorerRef
from spans.work import OutcomeRequest, Subject


def outcome_requests(
    planned: PlannedRule, subject: Subject, functions: NamedFunctions, revision: int | None
) -> list[OutcomeRequest]:
    """The outcomes that a rule asks for on a row that it selects.

    There is one for each scorer of the rule, and one for each shadow that takes the trace.
    """
    rule = planned.rule
    origin = RuleOrigin(rule.id)
    return [
        OutcomeRequest(
            key=OutcomeKey(
                object=subject.key.object,
                subject_id=subject.key.id,
                subject_version=subject.content_xact,
                origin=origin,
                role=role,
                scorer=scorer,
            ),
            rules_revision=revision,
            skip_logging=rule.skip_logging,
        )
        for choice in rule.scorers
        for scorer, role in scorers_of(choice, functions, subject.root_span_id)
    ]


def queue_of(scorer: ScorerRef, functions: NamedFunctions) -> str:
    """The queue of an outcome that is not run while matching.

    Raises BadInput for a function that cannot be run.
    """
    if scorer.kind == FUNCTION:
        return functions.queue(scorer)
    return queue_of_global(scorer.name)
