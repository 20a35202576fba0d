"""Which outcomes a rule asks for on the rows that it selects, and which queue runs them."""

from __future__ import annotations

from dataclasses import dataclass

from rules.model import Rule
from rules.named_functions import NamedFunctions
from rules.sampling import is_sampled
from scorers.functions.queue import queue_of_global
from scorers.functions.version import FUNCTION
from spans.ids import FunctionId
from spans.outcome import RuleOrigin, ScorerUse
from spans.scoring import Role, ScorerRef
from spans.work import OutcomeRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledRequest:
    """A request that is made on a share `rate` of the traces, sampled by the function's id.

    By the rule's id, a shadow at rate 0.1 would take every trace that a rule at rate 0.1 takes.
    """

    function_id: FunctionId
    rate: float
    request: OutcomeRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRequests:
    """What a rule asks for on each row that it selects: `always`, and the shadows that take
    the row's trace."""

    always: tuple[OutcomeRequest, ...]
    shadows: tuple[SampledRequest, ...]

    def on_trace(self, root_span_id: str) -> tuple[OutcomeRequest, ...]:
        """The requests on a row of the trace."""
        if not self.shadows:
            return self.always
        return self.always + tuple(
            shadow.request for shadow in self.shadows
            if is_sampled(shadow.function_id, root_span_id, rate=shadow.rate)
        )


def requests_of(rule: Rule, functions: NamedFunctions, revision: int | None) -> RuleRequests:
    """The requests of a rule: one for each of its scorers, and one for each shadow.

    `revision` is that of the rule set that selects the rows, if one does.
    """
    origin = RuleOrigin(rule.id)

    def request(scorer: ScorerRef, role: Role) -> OutcomeRequest:
        return OutcomeRequest(
            use=ScorerUse(origin=origin, role=role, scorer=scorer),
            rules_revision=revision, skip_logging=rule.skip_logging,
        )

    live = dict.fromkeys(functions.scorer(choice) for choice in rule.scorers)
    return RuleRequests(
        always=tuple(request(scorer, Role.LIVE) for scorer in live),
        shadows=tuple(
            SampledRequest(
                function_id=function_id, rate=rate, request=request(scorer, Role.SHADOW)
            )
            for function_id, rate, scorer in functions.shadows(rule.scorers)
        ),
    )


def queue_of(scorer: ScorerRef, functions: NamedFunctions) -> str:
    """The queue of an outcome that is not run while matching.

    Raises BadInput for a function that cannot be run.
    """
    if scorer.kind == FUNCTION:
        return functions.queue(scorer)
    return queue_of_global(scorer.name)
