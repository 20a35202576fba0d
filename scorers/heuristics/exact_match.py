"""ExactMatch that can also compare a list or an object with a number."""

from __future__ import annotations

from typing import Any

import autoevals

from spans.json import Json


class ExactMatch:
    """autoevals' ExactMatch, which raises TypeError where only one side is a list or an object
    and the other is a number or a boolean. These are never equal."""

    def __init__(self) -> None:
        self._compare = autoevals.ExactMatch()

    def eval(self, *, output: Json, expected: Json) -> Any:  # noqa: ANN401 autoevals' Score
        """Score 1 if both are equal, else 0."""
        kinds = [isinstance(each, list | dict) for each in (output, expected)]
        plain = [isinstance(each, int | float) for each in (output, expected)]
        if any(kinds) and any(plain):
            return autoevals.Score(name="ExactMatch", score=0)
        return self._compare.eval(output, expected)
