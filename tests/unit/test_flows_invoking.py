"""The identity of functions that an invocation contains in full."""

from __future__ import annotations

import uuid

from flows.functions.lookup import identity, read_contained
from scorers.functions.function import VERSION_MAX
from spans.ids import ProjectId


def test_unsaved_functions_spend_of_one_budget_and_share_no_sandbox() -> None:
    owner = ProjectId(uuid.uuid4())
    one, other = (
        read_contained({"global_function": name}) for name in ("Moderation", "Battle")
    )

    (first, version), (second, another) = identity(owner, one), identity(owner, other)

    assert first == second
    assert version != another
    assert identity(owner, one) == (first, version)
    assert all(0 <= each <= VERSION_MAX for each in (version, another))


def test_no_two_owners_unsaved_functions_are_one() -> None:
    body = read_contained({"global_function": "Battle"})
    (one, _), (other, _) = (identity(ProjectId(uuid.uuid4()), body) for _ in range(2))

    assert one != other
