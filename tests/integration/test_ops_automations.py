"""`tallyard automations`: a file is applied, exported and listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stack import Stack

from wiring.yaml_files import read_yaml

FILE = """
project: {project}
automations:
  - name: errors
    btql_filter: error is not null
    interval: 1h
    action:
      type: webhook
      url: https://alerts.example.com/tallyard
      authorization: {{env: ALERTS}}
  - name: low scores
    btql_filter: scores.Factuality < 0.5
    interval: 1d
    status: paused
    action: {{type: slack, url: {{env: SLACK_URL}}}}
"""


@pytest.fixture
def file(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALERTS", "Bearer of-nobody")
    monkeypatch.setenv("SLACK_URL", "https://hooks.slack.com/services/T0/B0/x")
    name = stack.ok("GET", f"/v1/project/{stack.project()}")["name"]
    path = tmp_path / "alerts.yaml"
    path.write_text(FILE.format(project=name))
    return path


def project_of(file: Path) -> str:
    content = read_yaml(file.read_text(), source="the file")
    assert isinstance(content, dict)
    return str(content["project"])


def test_a_file_is_shown_applied_and_then_equal(stack: Stack, file: Path) -> None:
    shown = stack.tallyard("automations", "apply", "--dry-run", str(file))
    assert shown.returncode == 0, shown.stderr
    assert "+ errors\n    btql_filter: error is not null\n    interval: 1h\n" in shown.stdout
    assert "secret of" not in shown.stdout

    applied = stack.tallyard("automations", "apply", str(file))
    secrets = [line for line in applied.stdout.splitlines() if "shown this once" in line]
    assert len(secrets) == 1
    assert secrets[0].startswith("secret of errors, shown this once: whsec_")

    again = stack.tallyard("automations", "apply", str(file))
    assert again.stdout.splitlines() == [f"project {project_of(file)}", "no changes"]


def test_what_is_exported_has_no_secret_and_changes_nothing(
    stack: Stack, file: Path, tmp_path: Path
) -> None:
    stack.tallyard("automations", "apply", str(file))
    exported = stack.tallyard("automations", "export", "--project", project_of(file)).stdout
    assert "of-nobody" not in exported
    assert "T0/B0" not in exported

    path = tmp_path / "exported.yaml"
    path.write_text(exported)
    again = stack.tallyard("automations", "apply", "--prune", str(path))
    assert again.stdout.splitlines()[1:] == ["no changes"]


def test_a_list_tells_which_are_paused(stack: Stack, file: Path) -> None:
    stack.tallyard("automations", "apply", str(file))
    listed = stack.tallyard("automations", "list", "--project", project_of(file)).stdout
    names = [line.split("  ", 1)[1] for line in listed.splitlines()]
    assert names == ["low scores  (paused)", "errors"]


def test_a_variable_that_is_not_set_is_named(
    stack: Stack, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALERTS")
    refused = stack.tallyard("automations", "apply", str(file))
    assert refused.returncode == 1
    assert "automations[0]: action.authorization: the environment has no variable ALERTS" in (
        refused.stderr
    )


def test_what_an_automation_does_is_explained(stack: Stack, file: Path) -> None:
    stack.tallyard("automations", "apply", str(file))
    told = stack.tallyard("automations", "explain", "errors", "--project", project_of(file))
    assert told.returncode == 0, told.stderr
    first, *rest = told.stdout.splitlines()
    assert first.startswith("errors  (")
    assert rest[0].startswith("It has watched since ")
    assert "No notification has been delivered yet." in rest

    paused = stack.tallyard(
        "automations", "explain", "low scores", "--json", "--project", project_of(file)
    )
    assert json.loads(paused.stdout)["present"]["is_active"] is False


def test_a_replay_shows_what_would_have_been_sent(stack: Stack, file: Path) -> None:
    name = project_of(file)
    project = stack.ok("GET", f"/v1/project?project_name={name}")["objects"][0]["id"]
    stack.insert(project, {"id": "a", "error": "x"}, {"id": "b", "error": None})
    stack.tallyard("automations", "apply", str(file))   # what is stored already causes nothing

    one = stack.tallyard("automations", "replay", "errors", "--project", name)
    assert one.returncode == 0, one.stderr
    assert "errors: 1 log triggered automation in the last 1 hour" in one.stdout
    assert "errors: 1 notification about 1 log of 2 since " in one.stdout

    every = stack.tallyard("automations", "replay", "--file", str(file), "--since", "1h")
    assert every.returncode == 0, every.stderr
    assert "errors: 1 notification" in every.stdout
    assert "low scores: 0 notifications about 0 logs of 2" in every.stdout

    neither = stack.tallyard("automations", "replay")
    assert (neither.returncode, neither.stdout) == (1, "")
    assert "name an automation, or a file with --file" in neither.stderr
