"""What `tallyard status` says of a start, and of the workers that run users' code."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.health.measurements import (
    DisabledAutomation,
    DownEndpoint,
    FailingAutomation,
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
from ops.data_dir import DataDir, RunState
from ops.servers.readiness import SandboxState, sandbox_workers
from spans.errors import SetupError
from wiring.automations import app_url

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


def test_a_command_has_the_settings_of_what_runs_where_its_own_environment_has_none(
    tmp_path, monkeypatch
):
    data = DataDir(tmp_path / "data")
    monkeypatch.setenv("TALLYARD_DATA_DIR", str(data.path))
    with data.claim():
        data.write_state(
            RunState(
                pid=1, api_url="", flower_url="", flower_user="", database_url="postgresql://x",
                redis_url="unix:///y", processes=(),
                settings={"api_port": 18000, "outbound_allow": "127.0.0.1:9"},
            )
        )
        found = running_settings()
        assert app_url(found) == "http://127.0.0.1:18000"
        assert found.outbound_policy.target("http://127.0.0.1:9/hook").port == 9
        monkeypatch.setenv("TALLYARD_API_PORT", "19000")
        assert app_url(running_settings()) == "http://127.0.0.1:19000"


def test_the_states_of_processes_stand_in_one_column():
    found = Status(
        ready=True, api_url="http://127.0.0.1:1", flower_url=None, api_key_file="key",
        processes={"api": True, "automations": True}, sandbox=(),
    )
    _, api, _, *lines = status_text(found, DataDir(Path("data"))).splitlines()
    columns = {line.index("answers") for line in lines}
    assert columns == {api.index("http")}


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
    failing = FailingAutomation(
        project="app", name="costs", since=at, attempts=3, next_at=at, reason="answered 500"
    )
    sending = Sending(
        pending=3, oldest_s=61.4, failing=(failing,), disabled_count=2, disabled=(paused,)
    )
    assert list(sending_lines(sending)) == [
        "on their way to webhooks: 3, the oldest for 61 s; `tallyard deliveries list` shows "
        "them",
        "the receiver of 'costs' of the project 'app' has taken nothing since "
        "2026-01-02T03:04:05+00:00, in 3 attempts: answered 500; the next at "
        "2026-01-02T03:04:05+00:00",
        "the automation 'errors' of the project 'app' is paused since "
        "2026-01-02T03:04:05+00:00: it is gone; set its status to active when the receiver "
        "works again",
        "Tallyard has paused 1 more automation for such reasons",
    ]
    assert list(sending_lines(None)) == []
    nothing = Sending(pending=0, oldest_s=0, failing=(), disabled_count=0, disabled=())
    assert list(sending_lines(nothing)) == []
