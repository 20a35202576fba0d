"""What a shadow says beside the version in force, on the spans that both have scored.

Nothing is run: both left their outcomes, under the same rule and on the same content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from flows.functions.comparison import Difference, compare, difference_json
from scorers.functions.function import Function, Shadow
from spans.errors import NotFound
from spans.ids import ProjectId, Xact
from spans.json import JsonObject
from spans.outcome import Verdict
from spans.row import RowKey
from spans.scoring import Role

PAIRS_DEFAULT = 1000
PAIRS_MAX = 10_000
"""Of the shadow's latest outcomes: compared in about a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What both versions said of one content of a row, without logs and arguments."""

    row: RowKey
    content: Xact
    in_force: Verdict
    shadow: Verdict


class ShadowStore(Protocol):
    """Where outcomes are kept."""

    def pairs(
        self, function: Function, version: Xact, project_id: ProjectId | None, last: int
    ) -> Sequence[Pair]:
        """The `last` outcomes of `version`, a shadow, in this project's rules or in all, that
        the version in force has ended with too; newest first. What several rules asked for is
        there several times."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowComparison:
    """A function with a shadow, and how that differs from the version in force."""

    function: Function
    shadow: Shadow
    difference: Difference


def compare_shadow(
    store: ShadowStore, function: Function, project_id: ProjectId | None, last: int
) -> ShadowComparison:
    """The version in force and its shadow on the latest spans that both have scored.

    Raises NotFound where there is no shadow.
    """
    if function.shadow is None:
        raise NotFound(f"{function.body.name!r} has no shadow: push a version as one first")
    found = store.pairs(function, function.shadow.version, project_id, last)
    # Rules that ask for the same share one run.
    pairs = {(pair.row, pair.content): pair for pair in found}.values()
    difference = compare(
        [pair.row for pair in pairs], [pair.in_force for pair in pairs],
        [pair.shadow for pair in pairs],
    )
    return ShadowComparison(function=function, shadow=function.shadow, difference=difference)


def shadow_json(compared: ShadowComparison, url: str) -> JsonObject:
    """That, as the API and the command give it; `url` is where the API is."""
    return {
        "role": Role.SHADOW.value, "from": str(compared.function.in_force),
        "to": str(compared.shadow.version), "rate": compared.shadow.rate,
        **difference_json(compared.difference, url),
    }
