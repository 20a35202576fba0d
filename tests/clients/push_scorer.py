"""Scorers for `braintrust push`: plain, of a whole trace, with a library, and a judge's."""

from __future__ import annotations

from typing import Any

import braintrust
from autoevals import Levenshtein
from pydantic import BaseModel

project = braintrust.projects.create(name="pushed with python")


class Compared(BaseModel):
    output: Any
    expected: Any


def same(output, expected):
    print(f"comparing {output!r}")
    return 1.0 if output == expected else 0.25


async def near(output, expected):
    score = await Levenshtein().eval_async(output=output, expected=expected)
    return {"name": "near", "score": score.score, "metadata": {"by": "Levenshtein"}}


project.scorers.create(
    name="Same", slug="same", description="Equal or not", parameters=Compared, handler=same,
    metadata={"sandbox": {"time_s": 2}},
)
project.scorers.create(name="Near", slug="near", parameters=Compared, handler=near)
project.scorers.create(
    name="Polite", slug="polite", model="gpt-4o-mini", use_cot=True,
    messages=[{"role": "user", "content": "Is this polite? {{output}}"}],
    choice_scores={"yes": 1, "no": 0},
)
