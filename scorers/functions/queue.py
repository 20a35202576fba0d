"""Decides which queue's workers run a scorer. Nothing else decides this."""

from __future__ import annotations

from scorers import catalog
from scorers.catalog import ScorerKind, ScorerSpec
from scorers.functions.version import FunctionKind, FunctionVersion
from spans.errors import BadInput
from spans.queues import HEAVY, JUDGE, SANDBOX


def queue_of_spec(spec: ScorerSpec) -> str:
    """The queue of an autoevals scorer.

    In-process scorers go to the heavy workers. Those that are cheap enough run while matching
    and never get into a queue.
    """
    return JUDGE if spec.kind is ScorerKind.JUDGED else HEAVY


def queue_of_global(name: str) -> str:
    """The queue of the autoevals scorer of this name.

    An unknown name goes to the heavy workers, which report it as an error of the outcome.
    """
    return queue_of_spec(catalog.resolve(name)) if catalog.is_known(name) else HEAVY


def queue_of_function(kind: FunctionKind, global_name: str) -> str | None:
    """The queue of a function of this kind; None if it is not a scorer.

    `global_name` is the autoevals scorer that a function of kind GLOBAL stands for.
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
    """The queue whose workers can run the function. Raises BadInput if it cannot run."""
    if function.problem is not None:
        raise BadInput(f"{function.name} cannot run: {function.problem}")
    queue = queue_of_function(function.kind, function.global_name or function.name)
    if queue is None:
        raise BadInput(
            f"{function.name} is a {function.kind.value}, and only scorers can be run: "
            "code, a prompt with an llm_classifier parser, or a global scorer"
        )
    return queue
