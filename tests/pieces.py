"""Fails or skips a test if the machine lacks what it needs."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(piece: str) -> NoReturn:
    """This machine lacks a piece: in CI a failure, elsewhere the test is left out."""
    if os.environ.get("CI"):  # noqa: TID251 of the machine, not a setting
        pytest.fail(piece)
    pytest.skip(piece)
