"""YAML 1.2 reduced to JSON's values, and texts as commands print them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.commands.text import counted, indented
from spans.errors import BadInput
from wiring.yaml_files import read_yaml, read_yaml_file, write_yaml


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("{yes: 1, no: 0, On: 2, 'off': 3}", {"yes": 1, "no": 0, "On": 2, "off": 3}),
        ("a:\n  yes: {n: yes}\n", {"a": {"yes": {"n": "yes"}}}),
        ("1: one\nnull: x\n2026-01-01: day\n=: sign\n",
         {"1": "one", "null": "x", "2026-01-01": "day", "=": "sign"}),
        ("a: &a {yes: 1, x: 2}\nb: {<<: *a, x: 3}\n",
         {"a": {"yes": 1, "x": 2}, "b": {"yes": 1, "x": 3}}),
        ("- &a {x: 1}\n- &b {x: 2, y: 2}\n- {<<: [*a, *b]}\n",
         [{"x": 1}, {"x": 2, "y": 2}, {"x": 1, "y": 2}]),
        ("[on, no, y, 12:30, 1:2:3, 2026-01-01, =]",
         ["on", "no", "y", "12:30", "1:2:3", "2026-01-01", "="]),
        ("[010, 0o10, 0x1f, 1e3, .5, -1, true, False, ~, null]",
         [10, 8, 31, 1000.0, 0.5, -1, True, False, None, None]),
        ("a: !!str 12\nb: !!float '1'\n", {"a": "12", "b": 1.0}),
        ("# later\n", None),
        ("", None),
    ],
)
def test_keys_are_text_as_written_and_values_are_those_of_yaml_1_2(text, read):
    assert read_yaml(text, source="a file") == read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "f.yaml:1: not valid YAML: while parsing a flow node"),
        ("a: 1\nb: x: y\n", "f.yaml:2: not valid YAML: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: not valid YAML: expected a single document"),
        ("a: 1\n\nb: \0", "f.yaml:3: not valid YAML: the character U+0000 is not allowed"),
        ("[" * 5000, "f.yaml:1: not valid YAML: it is nested too deeply"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: the key 'a' is given twice, first on line 1"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  y: 1\n  y: 2\n",
         "f.yaml:5: the key 'y' is given twice, first on line 4"),
        ("a: 1\nb: {<<: 1}\n", "f.yaml:2: `<<` can only merge mappings"),
        ("a:\n  ? [b]\n  : 1\n", "f.yaml:2: a key must be a string"),
        ("a: 1\nb: &b [*b]\n", "f.yaml:2: an alias refers to a value that contains it"),
        ("a: !!int x\n", "f.yaml:1: the value is not of the type int"),
        ("a: !!bool x\n", "f.yaml:1: the value is not of the type bool"),
        ("a: !!set {x}\n", "f.yaml:1: the tag tag:yaml.org,2002:set is not known"),
        ("a: !!python/name:os.system x\n", "is not known"),
    ],
)
def test_what_is_no_yaml_or_no_json_is_refused_with_its_line_in_one_sentence(text, said):
    with pytest.raises(BadInput) as refused:
        read_yaml(text, source="f.yaml")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_is_utf_8(tmp_path):
    file = tmp_path / "f.yaml"
    file.write_bytes("name: Größe\n".encode())
    assert read_yaml_file(file) == {"name": "Größe"}
    file.write_bytes("name: Größe\n".encode("latin-1"))
    with pytest.raises(BadInput, match="the file is not UTF-8"):
        read_yaml_file(file)


def test_what_is_written_keeps_its_order_and_its_letters():
    content = {"rules": [{"name": "Größe", "at": "12:30", "scorers": ["on", "010"]}], "a": {}}
    written = write_yaml(content)
    assert written == (
        "rules:\n- name: Größe\n  at: 12:30\n  scorers:\n  - on\n  - '010'\na: {}\n"
    )


# The library's emitter, as PyYAML's, adds spaces after U+0085 (next line).
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x85"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=8,
)


@given(st.dictionaries(texts, values))
def test_what_is_written_is_read_as_the_same(content):
    assert read_yaml(write_yaml(content), source="a file") == content


def test_one_is_no_plural():
    assert (counted(0, "row"), counted(1, "row"), counted(2, "row")) == (
        "0 rows", "1 row", "2 rows"
    )


def test_later_lines_are_indented():
    assert indented("first\n  second\nthird\n", 4) == "first\n      second\n    third"
