"""compose.yaml starts the same processes as `tallyard up`, with settings that exist."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from ops.servers.processes import ProcessSpec, processes
from spans.queues import QUEUES, Holds, Queue, Worker
from wiring.settings import Settings, read_settings
from wiring.yaml_files import read_yaml_file

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}")
NOT_OURS = {"postgres", "redis", "migrate"}


def substituted(value: str) -> str:
    return VARIABLE.sub(lambda match: match[2] or "", value)


@pytest.fixture(scope="module")
def services() -> dict[str, dict]:
    return read_yaml_file(ROOT / "compose.yaml")["services"]


@pytest.fixture(scope="module")
def table():
    return {
        process.name: process
        for process in processes(
            read_settings({}), flower_password="p", flower_database="/data/flower"
        )
    }


def differences(services: dict[str, dict], table: Iterable[ProcessSpec]) -> list[str]:
    """What compose.yaml must change to start the same processes; each a sentence."""
    argv = {process.name: process.argv for process in table}
    missing = [
        f"compose.yaml has no service for the process '{name}'"
        for name in argv if name not in services
    ]
    foreign = [
        f"compose.yaml has a service '{name}', and no process has that name"
        for name in services if name not in argv and name not in NOT_OURS
    ]
    others = [
        f"the service '{name}' of compose.yaml runs another command than the process: "
        f"{' '.join(command)}, not {' '.join(argv[name])}"
        for name, service in services.items()
        if name in argv
        and (command := tuple(map(substituted, service["command"]))) != argv[name]
    ]
    return missing + foreign + others


def test_compose_starts_the_processes_and_nothing_else(services, table):
    assert differences(services, table.values()) == []


def test_a_queue_that_is_added_needs_a_service_of_that_name(services):
    example = Queue(
        name="example", task="tallyard.example", worker=Worker(name="example"),
        holds=Holds.OUTCOMES,
    )
    more = processes(
        read_settings({}), flower_password="p", flower_database="/data/flower",
        queues=(*QUEUES, example),
    )
    assert differences(services, more) == [
        "compose.yaml has no service for the process 'example'"
    ]


def test_another_command_and_a_service_too_many_are_told(services, table):
    changed = {**services, "match": {"command": ["true"]}, "more": {"command": ["true"]}}
    foreign, other = differences(changed, table.values())
    assert foreign == "compose.yaml has a service 'more', and no process has that name"
    assert other.startswith("the service 'match' of compose.yaml runs another command")


def test_every_queue_is_served_by_exactly_one_worker(services):
    served = [
        queue
        for service in services.values()
        if "worker" in service.get("command", ())
        for queue in service["command"][service["command"].index("-Q") + 1].split(",")
    ]
    assert sorted(served) == sorted(queue.name for queue in QUEUES)


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
