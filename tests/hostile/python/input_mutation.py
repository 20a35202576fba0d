"""Change the record in place, so that the next to judge it sees another."""

from __future__ import annotations


def handler(input, output, metadata, tags):
    input["question"] = "changed"
    input.clear()
    metadata.update(poisoned=True)
    tags.append("changed")
    return 0.0
