"""The error classes that `outcomes retry --class` knows."""

from __future__ import annotations

import importlib
import pkgutil

import scorers
from scorers.error_classes import outcome_error_classes
from scorers.sandbox.model import CodeEnd
from spans.errors import (
    CATEGORIES,
    BadInput,
    Contended,
    SandboxUnavailable,
    TallyardError,
    TraceTooLarge,
)
from spans.outcome import BUG, POISONED


def test_every_error_that_a_scorer_can_raise_has_its_class_in_the_list() -> None:
    for module in pkgutil.walk_packages(scorers.__path__, "scorers."):
        if ".inside" not in module.name:
            importlib.import_module(module.name)

    raised = {
        kind for kind in subclasses(TallyardError) - CATEGORIES
        if kind.__module__.partition(".")[0] in {"spans", "scorers"}
    }

    assert {SandboxUnavailable, TraceTooLarge, BadInput, Contended} <= raised
    assert {kind.error_class() for kind in raised} <= set(outcome_error_classes())


def test_every_way_for_a_sandbox_to_end_badly_is_in_the_list() -> None:
    assert {*CodeEnd} - {CodeEnd.OK} <= set(outcome_error_classes())
    assert CodeEnd.OK not in outcome_error_classes()
    assert {BUG, POISONED} <= set(outcome_error_classes())


def test_a_category_is_no_class_of_its_own() -> None:
    assert {kind.error_class() for kind in CATEGORIES}.isdisjoint(outcome_error_classes())


def subclasses(kind: type[TallyardError]) -> set[type[TallyardError]]:
    own = set(kind.__subclasses__())
    return own.union(*(subclasses(each) for each in own))
