"""The error classes that an outcome can have."""

from __future__ import annotations

from scorers.sandbox.model import CodeEnd
from spans import errors
from spans.outcome import BUG, POISONED


def outcome_error_classes() -> tuple[str, ...]:
    """Every error class that an outcome can have, in alphabetical order."""
    of_code = {end.value for end in CodeEnd if end is not CodeEnd.OK}
    return tuple(sorted({*errors.error_classes(), *of_code, BUG, POISONED}))
