"""Rows that rules, two jobs, clients and people change at random, against a model of layers.

This runs on the embedded PostgreSQL alone: some thousand transactions for each version would
take most of a minute, and `test_store_rollback.py` sends the same statements to every version.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from layered_row import LayeredRow, Run
from rescored_world import FAILED, RescoredWorld, gave, scorer
from store_behaviours.scoring import ended

from rules.rescore.model import RescoreJob
from spans.outcome import Origin

ROWS = ("a", "b")
NAMES = ("s", "t")
SCORERS = {name: scorer(name) for name in ("Levenshtein", "ExactMatch")}

rows = st.sampled_from(ROWS)
scorers = st.sampled_from(sorted(SCORERS))
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


class RescoredRows(RuleBasedStateMachine):
    """Two rows and two jobs. What an operation may not do is left out: a job's run on content
    that changed since it was selected, and a verdict that a newer job holds back."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.world = RescoredWorld(self.url, project=str(uuid.uuid4()))
        self.known = {row: Row() for row in ROWS}
        self.jobs: list[RescoreJob] = []
        self.selected: dict[tuple[int, str], int] = {}
        self.rolled_back: set[int] = set()
        self.number = 0

    def teardown(self) -> None:
        self.world.close()

    @initialize()
    def begin(self) -> None:
        self.world.write(*(ended(row) for row in ROWS))
        self.world.match()

    @precondition(lambda self: len(self.jobs) < 2)
    @rule()
    def make_job(self) -> None:
        job = self.world.job(*SCORERS.values())
        self.world.select(job, *ROWS)
        self.jobs.append(job)
        self.selected |= {(job.no, row): self.known[row].content for row in ROWS}

    @rule(row=rows, by=scorers, given=values)
    def score_live(self, row: str, by: str, given: dict[str, float]) -> None:
        self.score(row, 0, self.world.rule_origin, by, given)

    @precondition(lambda self: self.jobs)
    @rule(row=rows, by=scorers, given=st.none() | values, data=st.data())
    def score_by_job(
        self, row: str, by: str, given: dict[str, float] | None, data: st.DataObject
    ) -> None:
        job = data.draw(st.sampled_from(self.jobs))
        is_current = self.selected[job.no, row] == self.known[row].content
        if is_current and job.no not in self.rolled_back:
            self.score(row, job.no, job.origin, by, given)

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

    @rule(row=rows)
    def change_content(self, row: str) -> None:
        known = self.known[row]
        known.content += 1
        self.world.write(ended(row, f"content {known.content}"))
        self.world.match()
        known.runs, known.spans, known.logged = [], set(), {}

    @rule(row=rows, name=st.sampled_from((*NAMES, "liked")), value=st.sampled_from([0.0, 1.0]))
    def send_feedback(self, row: str, name: str, value: float) -> None:
        self.world.feedback(row, {"scores": {name: value}})
        self.known[row].logged[name] = value

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.jobs))
        self.world.roll_back(job)
        self.rolled_back.add(job.no)
        for row, known in self.known.items():
            if self.selected[job.no, row] == known.content:
                known.runs = [one for one in known.runs if one[0].generation != job.no]
                known.spans = {one for one in known.spans if one[0] != job.no}

    @invariant()
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

    @invariant()
    def each_score_has_its_entry(self) -> None:
        assert self.world.wrong_entries() == []


def test_rows_are_at_each_step_as_their_layers_say(database_url: str) -> None:
    machine = type("Machine", (RescoredRows,), {"url": database_url})
    run_state_machine_as_test(machine, settings=settings(
        max_examples=30, stateful_step_count=25, deadline=None,
        suppress_health_check=list(HealthCheck),
    ))
