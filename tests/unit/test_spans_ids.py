"""Versions in the forms in which clients name them."""

from __future__ import annotations

import pytest

from spans.ids import read_xact

VERSION = 1_000_198_297_934_233_608


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (str(VERSION), VERSION),
        ("2906e2401e95c5c8", VERSION),          # as a Python SDK shows that version
        ("2906E2401E95C5C8", VERSION),
        ("7", 7), ("0", 0), ("1234567890123456", 1234567890123456),
        (str(2**63 - 1), 2**63 - 1),
    ],
)
def test_a_version_is_read_in_either_form(text: str, version: int) -> None:
    assert read_xact(text) == version


@pytest.mark.parametrize(
    "text",
    ["", "x", "-1", "1.5", str(2**63), "9" * 20, "ffffffffffffffff", "2906e2401e95c5c",
     "0x2906e2401e95c5c8", "\u00b2", "\uff11" * 16, " 7"],
)
def test_other_texts_name_no_version(text: str) -> None:
    assert read_xact(text) is None
