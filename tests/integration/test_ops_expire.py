"""The command `tallyard expire`."""

from __future__ import annotations

from stack import Stack

LONG_AGO = "2025-01-01T00:00:00Z"


def test_expire_counts_first_and_then_deletes_old_traces_whole(stack: Stack) -> None:
    project = stack.project("of old logs")
    stack.insert(
        project,
        {"id": "old", "created": LONG_AGO, "span_id": "r", "root_span_id": "r"},
        {"id": "child", "created": LONG_AGO, "span_id": "c", "root_span_id": "r"},
        {"id": "kept", "created": LONG_AGO, "span_id": "k", "root_span_id": "k"},
        {"id": "young child", "span_id": "y", "root_span_id": "k"},
    )
    of_project = ("--older-than", "30d", "--project", "of old logs")

    dry = stack.tallyard("expire", *of_project, "--dry-run")
    assert dry.stdout == "1 trace of of old logs with 2 rows would be deleted\n", dry.stderr
    assert len(stack.rows(project)) == 4
    done = stack.tallyard("expire", *of_project)
    assert done.stdout == "1 trace of of old logs with 2 rows deleted\n"
    assert {row["id"] for row in stack.rows(project)} == {"kept", "young child"}


def test_expire_says_what_is_wrong_with_an_age(stack: Stack) -> None:
    stack.project("of logs")
    wrong = stack.tallyard("expire", "--older-than", "a month", "--project", "of logs")
    assert wrong.returncode == 1
    assert "--older-than: 'a month' is not a duration" in wrong.stderr
