"""YAML with keys as they were written, and texts as commands print them."""

from __future__ import annotations

import pytest
import yaml

from ops.commands.text import counted, indented
from ops.commands.yaml_files import read_yaml


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("{yes: 1, no: 0, On: 2, 'off': 3}", {"yes": 1, "no": 0, "On": 2, "off": 3}),
        ("a:\n  yes: {n: yes}\n", {"a": {"yes": {"n": True}}}),
        ("1: one\nnull: x\n2026-01-01: day\n",
         {"1": "one", "null": "x", "2026-01-01": "day"}),
        ("a: &a {yes: 1, x: 2}\nb: {<<: *a, x: 3}\n",
         {"a": {"yes": 1, "x": 2}, "b": {"yes": 1, "x": 3}}),
        ("- no\n", [False]),
        ("", None),
    ],
)
def test_keys_are_text_as_written_and_values_are_yaml(text, read):
    assert read_yaml(text) == read


def test_what_is_no_plain_yaml_is_refused():
    for text in ("[", "!!python/name:os.system x", "a: !!python/name:os.system x"):
        with pytest.raises(yaml.YAMLError):
            read_yaml(text)


def test_one_is_no_plural():
    assert (counted(0, "row"), counted(1, "row"), counted(2, "row")) == (
        "0 rows", "1 row", "2 rows"
    )


def test_later_lines_are_indented():
    assert indented("first\n  second\nthird\n", 4) == "first\n      second\n    third"
