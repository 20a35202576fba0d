"""Taking a job out of a row's layers, against scoring the row again without the job."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from layered_row import LayeredRow, Run

NAMES, SCORERS, JOBS = ("a", "b"), ("S", "T"), (1, 2, 3)


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
@example(   # a job of a lower number that came last takes the place of one that was rolled back
    [
        Run(0, "S", ("b",), 1), Run(2, "T", ("a",), 2), Run(3, "T", ("b",), 3),
        Run(1, "S", ("a",), 4),
    ],
    [3, 1, 2],
)
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
