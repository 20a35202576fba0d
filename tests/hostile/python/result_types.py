"""What looks like a score and is none."""

from __future__ import annotations

GIVEN = (
    "1", b"1", object(), {"score": "1"}, {"score": [1]}, {"value": 1},
    {"score": 0.5, "name": 5}, {"score": 0.5, "metadata": "text"}, {1.0}, 1j, print,
    {"score": b"1"}, {"score": {"score": 1}}, [[1.0]], type, NotImplemented, ...,
)


def handler(metadata):
    return GIVEN[metadata["variant"]]
