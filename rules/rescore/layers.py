"""The scores of a row in layers: what is shown, and beneath it what re-score jobs replaced.

A job that gives a score puts it on top of the one that stood there. A rollback takes out the
job's layer, wherever it is: on top, so that the one beneath is shown again; or beneath that of
a later job, which then has replaced what the former job had replaced. A layer belongs to the
job whose number is its generation; those of rules and people have 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from spans.json import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreLayer:
    """A score that an outcome computed: what is kept of it in a row's head.

    `scorer` is its scorer's kind and name. `use_no` is the number of the outcome's use, and
    `version` the content that was scored.
    """

    value: Json
    scorer: tuple[str, str]
    use_no: int
    version: int
    generation: int


JobName = tuple[int, str]
"""The number of a job, and the name of a score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLayers:
    """The layers of a row's present content.

    `shown` has the computed scores by name. `replaced` has what each job replaced. `verdicts`
    says which scorers gave a verdict for which job.
    """

    shown: Mapping[str, ScoreLayer]
    replaced: Mapping[JobName, ScoreLayer]
    verdicts: frozenset[tuple[int, tuple[str, str]]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """A row without a job: its scores, and what other jobs have replaced now.

    `moved` has only what differs; None stands for nothing replaced.
    """

    shown: Mapping[str, ScoreLayer]
    moved: Mapping[JobName, ScoreLayer | None]


SHOWN = 0
"""Where a score comes back that no job has replaced: no job has this number."""


def without_job(row: RowLayers, job_no: int) -> Undone:
    """The row as if the job had never been. Scores that others have set since stay."""
    shown = dict(row.shown)
    moved: dict[JobName, ScoreLayer | None] = {}
    for name in names_of(row, job_no):
        for other in _above(row, name, job_no):
            moved[other, name] = None
        top = row.shown.get(name)
        if top is not None and top.generation == job_no:
            del shown[name]
        under = row.replaced.get((job_no, name))
        place = None if under is None else _place_of(row, under, name, job_no)
        if under is None or place is None:
            continue
        if place == SHOWN:
            shown[name] = under
        else:
            moved[place, name] = under
    return Undone(shown=shown, moved=moved)


def names_of(row: RowLayers, job_no: int) -> set[str]:
    """The names of which the job has a layer, or replaced one."""
    return {
        *(name for name, layer in row.shown.items() if layer.generation == job_no),
        *(
            name for (other, name), layer in row.replaced.items()
            if job_no in (other, layer.generation)
        ),
    }


def _above(row: RowLayers, name: str, job_no: int) -> list[int]:
    """The jobs that replaced this job's score of the name."""
    return [
        other for (other, its_name), layer in row.replaced.items()
        if its_name == name and layer.generation == job_no and other != job_no
    ]


def _place_of(row: RowLayers, under: ScoreLayer, name: str, job_no: int) -> int | None:
    """Where the score that the job replaced belongs now: the job that would have replaced it
    instead, or SHOWN; None if others have set the score since."""
    owners = {
        layer.generation for layer in _layers_of(row, name) if layer.generation != job_no
    }
    judges = {other for other, scorer in row.verdicts if scorer == under.scorer}
    takers = [
        other for other in owners | judges if other > job_no and other != under.generation
    ]
    if takers:
        taker = min(takers)
        taken = row.replaced.get((taker, name))
        return taker if taken is None or taken.generation == job_no else None
    top = row.shown.get(name)
    if top is None or top.generation == job_no:
        return SHOWN
    # A job of a lower number came later, or a rule did.
    is_lowest = (top.generation, name) not in row.replaced
    return top.generation if top.generation not in (0, under.generation) and is_lowest else None


def _layers_of(row: RowLayers, name: str) -> Iterator[ScoreLayer]:
    """The layers of the name, wherever they are."""
    if name in row.shown:
        yield row.shown[name]
    yield from (layer for (_, its_name), layer in row.replaced.items() if its_name == name)
