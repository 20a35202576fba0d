"""How many rows a selection takes, and how often each scorer would run on them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerCount:
    """On how many of the rows a scorer is wanted.

    On `kept` of these a person or a client set a score of the same name. That score stays the
    one that is shown.
    """

    records: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionCount:
    """What a selection takes, counted in one pass.

    `records` is exact. `scorers` are in the order of the job's. `record_bytes` is the mean size
    of a row's input, output and expected together, of a sample of `measured` rows; 0 if no row
    is taken. Of very many rows the sample is among the newest. Of the ids that were asked for,
    `unknown` have no row, the rows of `unfinished` have not ended, and those of
    `made_by_scorers` are scores themselves.
    """

    records: int
    scorers: tuple[ScorerCount, ...]
    record_bytes: float = 0.0
    measured: int = 0
    unknown: int = 0
    unfinished: int = 0
    made_by_scorers: int = 0
