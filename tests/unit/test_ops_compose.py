"""compose.yaml starts the same processes as `tallyard up`, with settings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ops.servers.processes import processes
from wiring.celery import QUEUES
from wiring.settings import Settings, read_settings

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}")
NOT_OURS = {"postgres", "redis", "migrate"}


def substituted(value: str) -> str:
    return VARIABLE.sub(lambda match: match[2] or "", value)


@pytest.fixture(scope="module")
def services() -> dict[str, dict]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


@pytest.fixture(scope="module")
def table():
    return {
        process.name: process
        for process in processes(
            read_settings({}), flower_password="p", flower_database="/data/flower"
        )
    }


def test_compose_has_a_service_for_each_process_and_no_other(services, table):
    assert set(services) - NOT_OURS == set(table)


def test_each_service_runs_the_command_of_its_process(services, table):
    commands = {
        name: tuple(map(substituted, services[name]["command"])) for name in table
    }
    assert commands == {name: process.argv for name, process in table.items()}


def test_every_queue_is_served_by_exactly_one_worker(services):
    served = [
        queue
        for service in services.values()
        if "worker" in service.get("command", ())
        for queue in service["command"][service["command"].index("-Q") + 1].split(",")
    ]
    assert sorted(served) == sorted(QUEUES)


def test_every_variable_given_to_a_service_is_a_setting(services, table):
    fields = {f"TALLYARD_{name.upper()}" for name in Settings.model_fields}
    given = {name for each in table for name in services[each]["environment"]}
    flower = {name for name in given if name.startswith("FLOWER_")}
    assert given - flower <= fields
    assert flower == set(table["flower"].environment)


def test_every_variable_that_compose_reads_is_a_setting_or_the_database_password():
    fields = {f"TALLYARD_{name.upper()}" for name in Settings.model_fields}
    read = {match[1] for match in VARIABLE.finditer((ROOT / "compose.yaml").read_text())}
    assert read - {"POSTGRES_PASSWORD"} <= fields


def test_the_settings_of_compose_are_accepted(services):
    given = {
        name: substituted(value)
        for name, value in services["flower"]["environment"].items()
        if name.startswith("TALLYARD_")
    }
    assert str(read_settings(given).host) == "0.0.0.0"


def test_no_secret_stands_in_compose(services):
    text = (ROOT / "compose.yaml").read_text()
    secrets = re.findall(r"^\s*\w*(?:PASSWORD|KEY)\w*: *(.*)$", text, flags=re.MULTILINE)
    assert secrets
    assert all(value.startswith("${") for value in secrets)


def test_all_but_beat_and_the_one_that_ends_are_watched(services):
    assert {name for name, service in services.items() if "healthcheck" not in service} == {
        "beat",
        "migrate",
    }


def test_the_image_runs_as_nobody_special():
    users = re.findall(r"^USER (\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert users == ["10001"]
