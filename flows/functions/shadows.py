"""Compares a shadow with the version in force, on the spans that both have scored.

Nothing is run: the outcomes of both are stored, under the same rule and for the same content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
"""Most outcomes of the shadow that are compared, which takes about a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The verdicts of both versions on one content of a row, without logs and arguments."""

    row: RowKey
    content: Xact
    in_force: Verdict
    shadow: Verdict


PairsOf = Callable[[Function, Xact, ProjectId | None, int], Sequence[Pair]]
"""Reads the pairs from the latest outcomes of a shadow, newest first.

The arguments are the function, the shadow's version, the project whose rules alone count (None:
any), and how many of the shadow's outcomes are read. Only outcomes whose counterpart in force
has ended too make a pair. An outcome of several rules comes several times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowComparison:
    """A function with a shadow, and how that differs from the version in force."""

    function: Function
    shadow: Shadow
    difference: Difference


def compare_shadow(
    pairs_of: PairsOf, function: Function, project_id: ProjectId | None, last: int
) -> ShadowComparison:
    """Compares the version in force with its shadow on the latest spans that both have scored.

    Raises NotFound if there is no shadow.
    """
    if function.shadow is None:
        raise NotFound(f"{function.body.name!r} has no shadow: push a version as one first")
    found = pairs_of(function, function.shadow.version, project_id, last)
    # Rules that want the same outcome share one run, which counts once here.
    pairs = {(pair.row, pair.content): pair for pair in found}.values()
    difference = compare(
        [pair.row for pair in pairs], [pair.in_force for pair in pairs],
        [pair.shadow for pair in pairs],
    )
    return ShadowComparison(function=function, shadow=function.shadow, difference=difference)


def shadow_json(compared: ShadowComparison, url: str) -> JsonObject:
    """A shadow's comparison as JSON, for the API and the command. `url` is the API's base URL.
    """
    return {
        "role": Role.SHADOW.value, "from": str(compared.function.in_force),
        "to": str(compared.shadow.version), "rate": compared.shadow.rate,
        **difference_json(compared.difference, url),
    }
