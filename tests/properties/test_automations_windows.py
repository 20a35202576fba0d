"""Every match of an automation is reported, and none by two notifications.

A model knows which writes are matches. The machine writes rows, lets time pass, looks, and lets
notifications be delivered or abandoned, in any order.
"""

from __future__ import annotations

import itertools
from datetime import timedelta

from fakes.memory.looks import MemoryLooks, delivery_id
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flows.automations.evaluate import Evaluator

INTERVAL_S = 60


class Reporting(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.logs = MemoryLooks()
        self.no = self.logs.watch("scores.x < 0.5", interval_s=INTERVAL_S)
        self.evaluator = Evaluator(store=self.logs, ring=lambda: None, new_id=delivery_id)
        self.is_true: dict[int, bool] = {}   # as the last look saw each row
        self.changed: dict[int, bool] = {}   # since the last look
        self.matches = 0
        self.delivered: list[int] = []

    @rule(row=st.integers(1, 4), passes=st.booleans())
    def write(self, row: int, passes: bool) -> None:
        self.logs.write(row, {"scores": {"x": 0.1 if passes else 0.9}})
        self.changed[row] = passes

    @rule(seconds=st.sampled_from([0, 1, 30, 59, 60, 61, 3600]))
    def pass_time(self, seconds: int) -> None:
        self.logs.pass_time(seconds)

    @rule()
    def look(self) -> None:
        self.evaluator.evaluate_all(seconds=lambda: 0.0, stop_after_s=60)
        for row, passes in self.changed.items():
            self.matches += passes and not self.is_true.get(row, False)
            self.is_true[row] = passes
        self.changed.clear()

    @precondition(lambda self: self.no in self.logs.on_its_way)
    @rule()
    def deliver(self) -> None:
        self.delivered.append(len(self.logs.notifications) - 1)
        self.logs.end(self.no, delivered=True)

    @precondition(lambda self: self.no in self.logs.on_its_way)
    @rule()
    def abandon(self) -> None:
        self.logs.end(self.no, delivered=False)

    @invariant()
    def every_match_is_reported_collected_or_on_its_way(self) -> None:
        reported = sum(self.logs.reports()[place].matches for place in self.delivered)
        sending = self.logs.on_its_way.get(self.no)
        window = self.logs.windows[self.no]
        on_its_way = sending.report.matches if sending else 0
        assert reported + on_its_way + window.collected == self.matches

    @invariant()
    def delivered_windows_do_not_overlap(self) -> None:
        reports = [self.logs.reports()[place] for place in self.delivered]
        for before, after in itertools.pairwise(reports):
            assert before.time_end <= after.time_start
            assert after.time_end - before.time_end >= timedelta(seconds=INTERVAL_S)

    @invariant()
    def a_window_reaches_from_its_first_match_to_its_end(self) -> None:
        for report in self.logs.reports():
            assert report.time_start <= report.first_at <= report.time_end
            assert report.matches > 0

    @invariant()
    def what_is_collected_is_due_or_waits_for_what_is_on_its_way(self) -> None:
        if self.logs.windows[self.no].collected and self.no not in self.logs.on_its_way:
            assert self.logs.due_ats[self.no] is not None


TestReporting = Reporting.TestCase
TestReporting.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
