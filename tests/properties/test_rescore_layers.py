"""Taking a job out of a row's layers, against scoring the row again without the job."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from rules.rescore.layers import RowLayers, ScoreLayer, without_job

NAMES, SCORERS, JOBS = ("a", "b"), ("S", "T"), (1, 2, 3)


@dataclass
class Run:
    """A verdict of a scorer for a job, or for a rule (0)."""

    generation: int
    scorer: str
    names: tuple[str, ...]
    use_no: int


@dataclass
class LayeredRow:
    """A row that is scored as workers score it."""

    shown: dict[str, ScoreLayer] = field(default_factory=dict)
    replaced: dict[tuple[int, str], ScoreLayer] = field(default_factory=dict)
    verdicts: set[tuple[int, tuple[str, str]]] = field(default_factory=set)

    def is_held_back(self, run: Run) -> bool:
        """Whether a newer job's score keeps a part of the run from being shown."""
        return any(
            layer.generation > run.generation
            and (name in run.names or layer.scorer[1] == run.scorer)
            for name, layer in self.shown.items()
        )

    def score(self, run: Run) -> None:
        """Shows the scores of a run that is not held back."""
        generation, scorer = run.generation, ("global", run.scorer)
        for name, layer in list(self.shown.items()):
            if name in run.names or layer.scorer == scorer:
                self._take(name, generation)
        for name in run.names:
            self.shown[name] = ScoreLayer(
                value=run.use_no, scorer=scorer, use_no=run.use_no, version=1,
                generation=generation,
            )
        if generation:
            self.verdicts.add((generation, scorer))

    def _take(self, name: str, generation: int) -> None:
        layer = self.shown.pop(name)
        if generation and layer.generation != generation:
            self.replaced.setdefault((generation, name), layer)

    @property
    def layers(self) -> RowLayers:
        return RowLayers(
            shown=self.shown, replaced=self.replaced, verdicts=frozenset(self.verdicts)
        )

    def roll_back(self, job_no: int) -> None:
        undone = without_job(self.layers, job_no)
        self.shown = dict(undone.shown)
        self.replaced = {
            key: layer for key, layer in self.replaced.items() if key[0] != job_no
        }
        for key, layer in undone.moved.items():
            if layer is None:
                self.replaced.pop(key, None)
            else:
                self.replaced[key] = layer
        self.verdicts = {one for one in self.verdicts if one[0] != job_no}


runs = st.lists(
    st.builds(
        Run, st.sampled_from((0, *JOBS)), st.sampled_from(SCORERS),
        st.sets(st.sampled_from(NAMES), min_size=1).map(lambda names: tuple(sorted(names))),
        st.integers(1, 10**6),
    ),
    max_size=7,
)


def scored(row: LayeredRow, asked: list[Run]) -> list[Run]:
    """Scores the row; returns the runs that were not held back."""
    done: list[Run] = []
    for run in asked:
        # An origin scores a row's content once by each scorer.
        used = {(one.generation, one.scorer) for one in done}
        is_again = (run.generation, run.scorer) in used
        if not is_again and not row.is_held_back(run):
            row.score(run)
            done.append(run)
    return done


def in_order(asked: list[Run]) -> list[Run]:
    """The rules' runs, and then those of the jobs by their numbers."""
    return sorted(asked, key=lambda run: run.generation)


@settings(max_examples=500)
@given(runs.map(in_order), st.permutations(JOBS))
def test_without_jobs_that_ran_in_their_order_a_row_is_as_if_they_had_never_been(
    asked: list[Run], jobs: list[int]
) -> None:
    row = LayeredRow()
    done = scored(row, asked)
    for job_no in jobs:
        row.roll_back(job_no)
        done = [run for run in done if run.generation != job_no]
        without = LayeredRow()
        for run in done:
            without.score(run)
        assert row.shown == without.shown


@settings(max_examples=500)
@given(runs, st.permutations(JOBS))
def test_whatever_the_order_no_score_of_a_job_is_left_and_none_is_made_up(
    asked: list[Run], jobs: list[int]
) -> None:
    row = LayeredRow()
    done = scored(row, asked)
    for job_no in jobs:
        shown = row.shown
        row.roll_back(job_no)
        layers = [*row.shown.values(), *row.replaced.values()]
        assert all(layer.generation != job_no for layer in layers)
        assert {layer.value for layer in layers} <= {run.use_no for run in done}
        kept = {name for name, layer in shown.items() if layer.generation != job_no}
        assert all(row.shown[name] == shown[name] for name in kept)
