"""`tallyard automations`: a file is applied, exported and listed."""

from __future__ import annotations

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
