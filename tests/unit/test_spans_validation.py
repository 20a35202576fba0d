"""A wrong request body gives a sentence that names the field."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from spans.errors import BadInput
from spans.validation import read_model


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    last: int = Field(50, strict=True, ge=1, le=9, description="a number from 1 to 9")
    error_class: str | None = Field(None, alias="class", description="a text")
    names: list[str] | None = None


def test_a_body_that_is_right_is_read() -> None:
    read = read_model(Body, {"last": 3, "class": "timeout"})

    assert (read.last, read.error_class, read.names) == (3, "timeout", None)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"last": 0}, "last: a number from 1 to 9"),
        ({"last": True}, "last: a number from 1 to 9"),
        ({"last": "3"}, "last: a number from 1 to 9"),
        ({"class": 3}, "class: a text"),
        ({"names": [1]}, "names.0: Input should be a valid string"),
        ({"lst": 3, "b": 1}, "unknown: b, lst; there are last, class, names"),
    ],
)
def test_what_is_wrong_is_said_by_the_field_itself(body: Any, sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_model(Body, body)

    assert str(caught.value) == sentence
