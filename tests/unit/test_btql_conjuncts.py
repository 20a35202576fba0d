"""The conditions that a filter joins by AND."""

from __future__ import annotations

import pytest

from btql.conjuncts import conjuncts_of
from btql.errors import BtqlError


def texts(text: str) -> list[str]:
    return [each.text for each in conjuncts_of(text)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("  \n", []),
        ("error is not null", ["error is not null"]),
        ("error is not null AND id = 'a and b'", ["error is not null", "id = 'a and b'"]),
        ("metadata.and = 1 and not (input = 1 and output = 2)",
         ["metadata.and = 1", "not (input = 1 and output = 2)"]),
        ("(input = 1 and (output = 2 and id = '3')) and error is null",
         ["input = 1", "output = 2", "id = '3'", "error is null"]),
        ("scores.a BETWEEN 0 AND 1 AND scores.b between 0 and 1",
         ["scores.a BETWEEN 0 AND 1", "scores.b between 0 and 1"]),
        ("case when error is null and input = 1 then true else false end and id = '1'",
         ["case when error is null and input = 1 then true else false end", "id = '1'"]),
        ("metadata.\"x and y\" = 1 -- and a comment\n AND tags = 'b'",
         ["metadata.\"x and y\" = 1 -- and a comment", "tags = 'b'"]),
        ("input = 1 or output = 2 and id = '3'", ["input = 1 or output = 2 and id = '3'"]),
        ("(scores.a) between (0) and (1)", ["(scores.a) between (0) and (1)"]),
    ],
)
def test_a_filter_is_taken_apart_where_its_conditions_are_joined(
    text: str, parts: list[str]
) -> None:
    assert texts(text) == parts


def test_a_filter_that_does_not_parse_has_no_conditions() -> None:
    with pytest.raises(BtqlError, match="line 1, column 9"):
        conjuncts_of("error = ")
