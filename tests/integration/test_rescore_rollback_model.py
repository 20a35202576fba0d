"""Rows that rules, two jobs, clients and people change at random, against a model of layers.

This runs on the embedded PostgreSQL alone: some thousand transactions for each version would
take most of a minute, and `test_store_rollback.py` sends the same statements to every version.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from layered_row import LayeredRow, Run
from rescored_world import FAILED, RescoredWorld, gave, scorer
from store_behaviours.scoring import ended

from rules.rescore.model import RescoreJob
from spans.outcome import Origin

ROWS = ("a", "b")
NAMES = ("s", "t")
OPEN_JOBS_MAX = 2
"""Jobs that are not rolled back."""

SCORERS = {name: scorer(name) for name in ("Levenshtein", "ExactMatch")}

values = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1
)


@dataclass
class Row:
    """What is known of a row: its present content, and the runs on it that took effect."""

    content: int = 0
    runs: list[tuple[Run, dict[str, float]]] = field(default_factory=list)
    spans: set[tuple[int, str]] = field(default_factory=set)
    logged: dict[str, float] = field(default_factory=dict)

    @property
    def layers(self) -> LayeredRow:
        """The row scored by these runs alone, as if there had been no others."""
        row = LayeredRow()
        for run, _ in self.runs:
            row.score(run)
        return row

    @property
    def computed(self) -> dict[str, tuple[float, int]]:
        """The computed scores by name, and the generation of each."""
        given = {run.use_no: scores for run, scores in self.runs}
        return {
            name: (given[layer.use_no][name], layer.generation)
            for name, layer in self.layers.shown.items()
        }


class RescoredRows:
    """Two rows and two jobs. What an operation may not do is left out: a job's run on content
    that changed since it was selected, and a verdict that a newer job holds back."""

    def __init__(self, url: str, reached: Counter[str]) -> None:
        self.world = RescoredWorld(url, project=str(uuid.uuid4()))
        self.reached = reached
        self.known = {row: Row() for row in ROWS}
        self.jobs: list[RescoreJob] = []
        self.selected: dict[tuple[int, str], int] = {}
        self.rolled_back: set[int] = set()
        self.scored: set[tuple[int, str]] = set()
        self.number = 0
        self.world.write(*(ended(row) for row in ROWS))
        self.world.match()

    @property
    def open_jobs(self) -> list[RescoreJob]:
        """The jobs that are not rolled back, the oldest first."""
        return [job for job in self.jobs if job.no not in self.rolled_back]

    def make_job(self) -> None:
        if len(self.open_jobs) == OPEN_JOBS_MAX:
            return
        job = self.world.job(*SCORERS.values())
        self.world.select(job, *ROWS)
        self.jobs.append(job)
        self.selected |= {(job.no, row): self.known[row].content for row in ROWS}

    def score_live(self, row: str, by: str, given: dict[str, float]) -> None:
        self.score(row, 0, self.world.rule_origin, by, given)

    def score_by_jobs(
        self, row: str, by: str, given: dict[str, float], *, by_both: bool
    ) -> None:
        """A score of the newest job, or of each that is open, the oldest first."""
        for job in self.open_jobs if by_both else self.open_jobs[-1:]:
            if self.selected[job.no, row] == self.known[row].content:
                self.score(row, job.no, job.origin, by, given)

    def fail_by_job(self, row: str, by: str) -> None:
        if not self.open_jobs:
            return
        job = self.open_jobs[-1]
        if self.selected[job.no, row] == self.known[row].content:
            self.score(row, job.no, job.origin, by, None)

    def score(
        self, row: str, generation: int, origin: Origin, by: str,
        given: dict[str, float] | None,
    ) -> None:
        known = self.known[row]
        self.number += 1
        run = Run(generation, by, tuple(given or ()), self.number)
        is_late = any(other.generation > generation for other, _ in known.runs)
        if is_late or (generation, by) in known.spans:
            return
        verdict = FAILED if given is None else gave(**given)
        self.world.score(origin, SCORERS[by], {row: verdict})
        known.spans.add((generation, by))
        if given is not None:
            known.runs.append((run, given))
            self.scored.add((generation, row))

    def change_content(self, row: str) -> None:
        known = self.known[row]
        known.content += 1
        self.world.write(ended(row, f"content {known.content}"))
        self.world.match()
        known.runs, known.spans, known.logged = [], set(), {}

    def send_feedback(self, row: str, name: str, value: float) -> None:
        self.world.feedback(row, {"scores": {name: value}})
        self.known[row].logged[name] = value

    def roll_back(self, *, is_older: bool) -> None:
        begun = [
            job for job in self.jobs
            if job.no not in self.rolled_back
            and any((job.no, row) in self.scored for row in ROWS)
        ]
        if not begun:
            return
        job = begun[0 if is_older else -1]
        shown = {row: known.computed for row, known in self.known.items()}
        judged = {
            row for row, known in self.known.items()
            for run, _ in known.runs if run.generation == job.no
        }
        changed = {
            row for row, known in self.known.items()
            if (job.no, row) in self.scored and self.selected[job.no, row] != known.content
        }
        done = self.world.roll_back(job)
        self.each_score_has_its_entry()
        self.rolled_back.add(job.no)
        for row, known in self.known.items():
            if self.selected[job.no, row] == known.content:
                known.runs = [one for one in known.runs if one[0].generation != job.no]
                known.spans = {one for one in known.spans if one[0] != job.no}
        restored = {row for row, known in self.known.items() if known.computed != shown[row]}
        assert done.restored == len(restored)
        assert done.left_alone == len((judged | changed) - restored)
        self.reached["restored"] += len(restored)
        self.reached["beneath a later job"] += len(judged) > len(restored)
        self.reached["other content"] += len(changed)
        self.reached["score came back"] += any(
            name in known.computed and known.computed[name] != shown[row].get(name)
            for row, known in self.known.items() for name in NAMES
        )

    def scores_and_score_spans_are_those_of_the_model(self) -> None:
        shown = self.world.shown()
        for row, known in self.known.items():
            if row not in shown:     # before `begin`
                return
            computed = known.computed
            values = {name: value for name, (value, _) in computed.items()}
            assert (shown[row]["scores"] or {}) == values | known.logged
            ((by,),) = self.world.rows(
                """select coalesce(computed_by, '{}') from span_head
                    where object_no = %s and seq = %s""",
                self.world.database.numbers.object_no(self.world.where),
                self.world.place(row),
            )
            assert {name: who["generation"] for name, who in by.items()} == {
                name: generation for name, (_, generation) in computed.items()
            }
        assert sorted(self.world.rows(
            """select scored.id, coalesce(generation, 0), scorer
                 from span join span scored on scored.seq = span.scored_seq
                 join scorer_use on scorer_use.use_no = span.scored_use
                where span.object_no = %s""",
            self.world.database.numbers.object_no(self.world.where),
        )) == sorted((row, *one) for row, known in self.known.items() for one in known.spans)

    def each_score_has_its_entry(self) -> None:
        assert self.world.wrong_entries() == []


OPERATIONS = (
    *["make_job"] * 3, *["score_live"] * 3, *["score_by_jobs"] * 8, "fail_by_job",
    "change_content", "send_feedback", "roll_back",
)


@dataclass(frozen=True)
class Operation:
    """What is done next, and with what. Each operation takes what it needs."""

    name: str
    row: str
    by: str
    given: dict[str, float]
    is_older: bool

    def run(self, rows: RescoredRows) -> None:
        """Do it, if the rows are in a state that allows it."""
        match self.name:
            case "make_job":
                rows.make_job()
            case "score_live":
                rows.score_live(self.row, self.by, self.given)
            case "score_by_jobs":
                rows.score_by_jobs(self.row, self.by, self.given, by_both=self.is_older)
            case "fail_by_job":
                rows.fail_by_job(self.row, self.by)
            case "change_content":
                rows.change_content(self.row)
            case "send_feedback":
                name, value = next(iter(self.given.items()))
                rows.send_feedback(self.row, name, value)
            case "roll_back":
                rows.roll_back(is_older=self.is_older)


operations = st.lists(
    st.builds(
        Operation, st.sampled_from(OPERATIONS), st.sampled_from(ROWS),
        st.sampled_from(sorted(SCORERS)), values, st.booleans(),
    ),
    min_size=20, max_size=45,
)


def test_rows_are_at_each_step_as_their_layers_say(database_url: str) -> None:
    reached = Counter[str]()

    # The same operations at each run: how often each case is met must not depend on luck.
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(operations)
    def follow(asked: list[Operation]) -> None:
        rows = RescoredRows(database_url, reached)
        for operation in asked:
            operation.run(rows)
            rows.scores_and_score_spans_are_those_of_the_model()
        rows.each_score_has_its_entry()
        rows.world.close()

    follow()
    # A rollback must have met what it is there for: a test of nothing would pass too.
    assert len(reached) == 4
    assert {name: count for name, count in reached.items() if count < 5} == {}
