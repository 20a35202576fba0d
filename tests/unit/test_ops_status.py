"""What `tallyard status` says of a start, and of the workers that run users' code."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.health.measurements import (
    DisabledAutomation,
    DownEndpoint,
    Retrying,
    Sending,
    Waiting,
)
from ops.commands.instance import running_settings
from ops.commands.status import (
    Status,
    current_status,
    sending_lines,
    status_text,
    waiting_lines,
)
from ops.data_dir import DataDir
from ops.servers.readiness import SandboxState, sandbox_workers
from spans.errors import SetupError

SENTENCE = "sandbox unavailable: there is no bwrap: install bubblewrap; see docs/sandbox.md"
HOLDS = SandboxState(host="one", tier="bubblewrap", is_ok=True, sentence="")
REFUSES = SandboxState(host="two", tier=None, is_ok=False, sentence=SENTENCE)


@pytest.mark.parametrize(
    ("worker", "line"),
    [
        (HOLDS, "  users' code runs in bubblewrap on one"),
        (REFUSES, f"  users' code waits on two: {SENTENCE}"),
    ],
    ids=["contained", "not contained"],
)
def test_a_worker_that_answers_says_whether_it_runs_code(worker, line):
    found = Status(
        ready=True, api_url="http://127.0.0.1:1", flower_url=None, api_key_file="key",
        processes={"sandbox": True}, sandbox=(worker,),
    )
    first, *_, answers, last = status_text(found, DataDir(Path("data"))).splitlines()
    assert (first, answers, last) == ("Ready.", "  sandbox   answers", line)


def test_a_tallyard_that_starts_is_told_from_one_that_does_not_run(tmp_path, monkeypatch):
    data = DataDir(tmp_path / "data")
    monkeypatch.setenv("TALLYARD_DATA_DIR", str(data.path))
    assert status_text(current_status(data), data).startswith("Nothing runs")
    with data.claim():
        assert status_text(current_status(data), data).startswith("Tallyard is starting")
        with pytest.raises(SetupError, match="still starting"):
            running_settings()
    with pytest.raises(SetupError, match="Nothing runs"):
        running_settings()


def test_an_api_that_is_not_there_tells_of_no_sandbox():
    assert sandbox_workers("http://127.0.0.1:1") == ()


def test_what_waits_is_told_with_its_reason_and_the_next_try():
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    waiting = Waiting(
        retrying=(
            Retrying(queue="judge", error_class="rate_limited", count=12, next_at=at,
                     reason="429: slow down"),
        ),
        down=(
            DownEndpoint(endpoint="default", opened_at=at, probe_at=at, held=9_936,
                         error_class="judge_unavailable", reason="503: no upstream"),
        ),
    )

    assert list(waiting_lines(waiting)) == [
        "judge endpoint default is down since 2026-01-02T03:04:05+00:00 (judge_unavailable: "
        "503: no upstream); waiting for it: 9936 outcomes; one call tries it again at "
        "2026-01-02T03:04:05+00:00",
        "waiting in the queue judge to be tried again: 12 outcomes, the next at "
        "2026-01-02T03:04:05+00:00 (rate_limited: 429: slow down)",
    ]
    assert list(waiting_lines(None)) == []


def test_what_is_on_its_way_to_webhooks_is_told_with_what_was_paused():
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    paused = DisabledAutomation(project="app", name="errors", at=at, reason="it is gone")
    sending = Sending(pending=3, oldest_s=61.4, disabled_count=2, disabled=(paused,))
    assert list(sending_lines(sending)) == [
        "on their way to webhooks: 3, the oldest for 61 s; `tallyard deliveries list` shows "
        "them",
        "the automation 'errors' of the project 'app' is paused since "
        "2026-01-02T03:04:05+00:00: it is gone",
        "and 1 more automations are paused, since their receivers took nothing",
    ]
    assert list(sending_lines(None)) == []
    nothing = Sending(pending=0, oldest_s=0, disabled_count=0, disabled=())
    assert list(sending_lines(nothing)) == []
