"""The functions that rules name: which version of each runs, in which queue, and its shadow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rules.model import NamedFunction, ScorerChoice
from scorers import catalog
from scorers.functions.version import FUNCTION
from spans.errors import BadInput
from spans.ids import FunctionId, Xact
from spans.scoring import ScorerRef

NO_VERSION = "deleted"
"""The version in an outcome whose function is not in the rule set any more."""


class NamedFunctions:
    """The functions that a project's rules name, at one revision.

    A rule that pins a version gets that one, every other rule the version in force.
    """

    def __init__(self, named: Sequence[NamedFunction]) -> None:
        self._in_force = {str(one.id): one for one in named if not one.is_pinned}
        self._pinned = {(str(one.id), str(one.version)): one for one in named if one.is_pinned}
        self._runs: dict[ScorerRef, tuple[str, str | None]] = {}
        for one in named:
            queue = None if one.is_deleted else one.queue
            self._runs[_reference(one.id, one.version)] = one.name, queue
            if one.shadow is not None:
                self._runs.setdefault(
                    _reference(one.id, one.shadow.version), (one.name, one.shadow.queue)
                )

    def chosen(self, choice: ScorerChoice) -> NamedFunction | None:
        """The function that a rule names, or None if the rule set has none such."""
        if choice.version is None:
            return self._in_force.get(choice.name)
        return self._pinned.get((choice.name, choice.version))

    def label(self, scorer: ScorerRef) -> str | None:
        """The name under which the function is shown; None for a scorer that is no function."""
        if scorer.kind != FUNCTION:
            return None   # comes first: hashing the scorer for each run is slow
        return self._runs.get(scorer, (None, None))[0]

    def queue(self, scorer: ScorerRef) -> str:
        """The queue of the function's runs. Raises BadInput if it cannot be run."""
        name, queue = self._runs.get(scorer, (None, None))
        if queue is None:
            raise BadInput(
                f"the function {name or scorer.name} has been deleted, or is no longer a "
                "scorer: take it out of the rule, or name another"
            )
        return queue

    def scorer(self, choice: ScorerChoice) -> ScorerRef:
        """The scorer that a rule names, at the version that the rule pins, else the one in
        force."""
        if choice.kind != FUNCTION:
            version = choice.version or catalog.installed_version()
            return ScorerRef(kind=choice.kind, name=choice.name, version=version)
        function = self.chosen(choice)
        if function is None:
            version = choice.version or NO_VERSION
            return ScorerRef(kind=FUNCTION, name=choice.name, version=version)
        return _reference(function.id, function.version)

    def shadows(
        self, choices: Iterable[ScorerChoice]
    ) -> Iterator[tuple[FunctionId, float, ScorerRef]]:
        """The shadows of the functions that a rule names, each once: the function, the share
        of the traces that its shadow takes, and the shadow as a scorer."""
        named = {
            function.id: function for choice in choices
            if choice.kind == FUNCTION and (function := self.chosen(choice)) is not None
        }
        for function in named.values():
            if function.shadow is not None and not function.is_deleted:
                shadow = function.shadow
                yield function.id, shadow.rate, _reference(function.id, shadow.version)


def _reference(function_id: FunctionId, version: Xact) -> ScorerRef:
    return ScorerRef(kind=FUNCTION, name=str(function_id), version=str(version))
