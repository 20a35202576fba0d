"""The filters of a project's automations, compiled a part at a time."""

from __future__ import annotations

import itertools

from automations.watches import FILTERS_KEPT, are_compiled


def test_filters_are_compiled_a_part_at_a_time_and_the_last_one_ends_it():
    filters = [f"metadata.compiled_in_parts = {number}" for number in range(3)]
    seconds = itertools.count()   # the time is up after each
    asked = [
        are_compiled(filters, within_s=0.5, seconds=lambda: float(next(seconds)))
        for _ in filters
    ]
    assert asked == [False, False, True]


def test_more_filters_than_are_kept_are_not_waited_for_without_an_end():
    filters = [f"metadata.too_many = {number}" for number in range(FILTERS_KEPT + 1)]
    assert are_compiled(filters, within_s=0.0)
