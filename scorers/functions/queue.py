"""Which queue's workers run a scorer: the one place that says so."""

from __future__ import annotations

from scorers import catalog
from scorers.catalog import ScorerKind, ScorerSpec
from scorers.functions.version import FunctionKind, FunctionVersion
from spans.errors import BadInput
from spans.queues import HEAVY, JUDGE, SANDBOX


def queue_of_spec(spec: ScorerSpec) -> str:
    """The queue of an autoevals scorer: those that compute are run by the heavy workers,
    unless they are cheap enough to be run while matching."""
    return JUDGE if spec.kind is ScorerKind.JUDGED else HEAVY


def queue_of_global(name: str) -> str:
    """The same by name. One that is not known waits for the heavy workers, who will say so."""
    return queue_of_spec(catalog.resolve(name)) if catalog.is_known(name) else HEAVY


def queue_of_function(kind: FunctionKind, global_name: str) -> str | None:
    """The queue of a function of this kind; None: it is no scorer.

    `global_name` is the autoevals scorer that one of kind GLOBAL stands for.
    """
    match kind:
        case FunctionKind.CODE:
            return SANDBOX
        case FunctionKind.CLASSIFIER:
            return JUDGE
        case FunctionKind.GLOBAL:
            return queue_of_global(global_name)
        case _:
            return None


def queue_of_version(function: FunctionVersion) -> str:
    """The queue whose workers can run the function. Raises BadInput if none can."""
    if function.problem is not None:
        raise BadInput(f"{function.name} cannot run: {function.problem}")
    queue = queue_of_function(function.kind, function.global_name or function.name)
    if queue is None:
        raise BadInput(
            f"{function.name} is a {function.kind.value}, and only scorers can be run: "
            "code, a prompt with an llm_classifier parser, or a global scorer"
        )
    return queue
