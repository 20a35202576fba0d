"""The text of files that users name, whatever their editor or the locale made of it."""

from __future__ import annotations

import pytest

from spans.errors import BadInput
from wiring.text_files import read_text_file
from wiring.yaml_files import read_yaml_file


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""), (b"\xef\xbb\xbf", ""),
        (b"\xef\xbb\xbfa: \xc3\xa9\r\nb: 1\r\n", "a: é\nb: 1\n"),
        (b"a\rb", "a\nb"), ("a\ufeffb".encode(), "a\ufeffb"),
    ],
)  # fmt: skip
def test_a_mark_is_left_out_and_lines_end_in_one_way(tmp_path, data, text):
    file = tmp_path / "f.py"
    file.write_bytes(data)
    assert read_text_file(file) == text


def test_rules_and_judges_with_a_mark_are_read(tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_bytes(b"\xef\xbb\xbfproject: caf\xc3\xa9\r\nrules: []\r\n")
    assert read_yaml_file(file) == {"project": "café", "rules": []}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("a: 1\n".encode("utf-16"), "f.yaml: the file is UTF-16: save it as UTF-8"),
        (b"\xfe\xff\x00a", "f.yaml: the file is UTF-16: save it as UTF-8"),
        ("a: 1\n".encode("utf-32"), "f.yaml: the file is UTF-32: save it as UTF-8"),
        ("a: 1\nb: é\n".encode("latin-1"), "f.yaml:2: the file is not UTF-8: save it as UTF-8"),
    ],
)  # fmt: skip
def test_another_encoding_is_a_sentence(tmp_path, data, said):
    file = tmp_path / "f.yaml"
    file.write_bytes(data)
    for read in (read_text_file, read_yaml_file):
        with pytest.raises(BadInput) as refused:
            read(file)
        assert str(refused.value).endswith(said)
