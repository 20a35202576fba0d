"""Text that PostgreSQL's jsonb refuses: NUL and lone surrogates, in values, keys and names."""

from __future__ import annotations

GIVEN = (
    {"score": 0.5, "metadata": {"text": "a\x00b"}},
    {"score": 0.5, "metadata": {"text": "a\ud800b"}},
    {"score": 0.5, "metadata": {"a\x00b": 1}},
    {"score": 0.5, "metadata": {"\udfff": 1}},
    {"score": 0.5, "name": "a\x00b"},
    {"score": 0.5, "name": "\ud83d"},
)


def handler(metadata):
    return GIVEN[metadata["variant"]]
