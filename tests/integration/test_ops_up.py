"""`tallyard up` as a user meets it: started, used, stopped, killed and started again."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from ops.servers.children import wait_until
from ops.setup.example import ANSWERS, RULES

TALLYARD = str(Path(sys.executable).parent / "tallyard")
READY_S = 90.0
ROOT = Path(__file__).parents[2]
# 504 MB measured, with five workers; an interpreter for each process took half as much again
# (docs/decisions/0018). However much memory PostgreSQL may use on this machine, after the
# example it uses little.
REST_BYTES_MAX = 560e6 if sys.platform == "linux" else 700e6
Answer = TypeVar("Answer")


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    ours = os.environ.items()  # noqa: TID251 handed on to the command under test
    inherited = {name: value for name, value in ours if not name.startswith("TALLYARD_")}
    return {
        **inherited,
        "TALLYARD_DATA_DIR": str(data_dir),
        "TALLYARD_API_PORT": "0",
        "TALLYARD_FLOWER_PORT": "0",
        "TALLYARD_EXAMPLE": "0",
        **more,
    }


def tallyard(data_dir: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TALLYARD, *arguments],
        env=environment(data_dir, **more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass
class Running:
    """One `tallyard up`, and all that it printed."""

    data_dir: Path
    process: subprocess.Popen[bytes]
    output: Path

    def said(self) -> str:
        return self.output.read_text()

    def wait_for(self, words: str) -> None:
        assert wait_until(
            lambda: words in self.said() or self.process.poll() is not None,
            deadline_s=READY_S,
            every_s=0.1,
        ), self.said()
        assert words in self.said()

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def ask_all(self, question: Callable[[psutil.Process], Answer]) -> list[Answer]:
        """What it and its descendants answer; PostgreSQL's own workers may end meanwhile."""
        answers = []
        for each in [psutil.Process(self.process.pid), *self.descendants()]:
            with suppress(psutil.NoSuchProcess):
                answers.append(question(each))
        return answers

    def stop(self, how: signal.Signals = signal.SIGTERM) -> float:
        """Seconds until it had ended."""
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(20)
        return time.monotonic() - began


def start_up(data_dir: Path, **more: str) -> Running:
    output = data_dir.with_suffix(f".{time.monotonic_ns()}.out")
    with output.open("wb") as file:
        process = subprocess.Popen(
            [TALLYARD, "up"],
            env=environment(data_dir, **more),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    return Running(data_dir=data_dir, process=process, output=output)


def survivors(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [each for each in processes if is_alive(each)]


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that ends while it is asked does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tallyard-up-") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Running]:
    """Up with the example, ready."""
    started = start_up(folder / "shared", TALLYARD_EXAMPLE="1")
    try:
        # Until the example is shown, nobody starts again what a test kills.
        started.wait_for("To ask why:")
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def test_it_prints_where_everything_is_and_a_key_that_only_we_can_read(running):
    key_file = running.data_dir / "api_key"
    key = key_file.read_text().strip()
    assert key in running.said()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    api_url = re.search(r"API +(http://\S+)", running.said())[1]
    with urllib.request.urlopen(f"{api_url}/health/ready") as answer:
        assert answer.status == 200


def test_it_keeps_a_key_for_secrets_so_that_webhooks_can_be_made(running):
    key_file = running.data_dir / "secret_key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    api_url = re.search(r"API +(http://\S+)", running.said())[1]
    authorization = f"Bearer {(running.data_dir / 'api_key').read_text().strip()}"

    def post(path, body):
        request = urllib.request.Request(
            f"{api_url}{path}", data=json.dumps(body).encode(),
            headers={"Authorization": authorization, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    project = post("/v1/project", {"name": "with a webhook"})
    made = post("/v1/project_automation", {
        "project_id": project["id"], "name": "errors", "config": {
            "event_type": "logs", "btql_filter": "error is not null", "interval_seconds": 60,
            "action": {"type": "webhook", "url": "https://example.com/hook"},
        },
    })
    assert made["secret"].startswith("whsec_")


def test_the_example_shows_every_score_as_it_arrives(running):
    running.wait_for("answers were scored")
    expected = sum(rule.selects(each) for rule in RULES for each in ANSWERS)
    lines = re.findall(r"^  [01]\.\d\d +\w+", running.said(), flags=re.MULTILINE)
    assert len(lines) == expected


def test_status_tells_a_script_that_all_is_ready(running):
    done = tallyard(running.data_dir, "status", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["ready"]) == (0, True), done.stdout
    assert set(told["processes"]) == {
        "postgres", "valkey", "api", "match", "heavy", "judge", "sandbox", "automations",
        "beat", "flower",
    }
    assert told["urls"]["api"] in running.said()


def test_status_says_whether_users_code_is_contained(running):
    def told() -> list[dict[str, object]]:
        done = tallyard(running.data_dir, "status", "--json")
        return list(json.loads(done.stdout)["sandbox"])

    assert wait_until(lambda: told() != [], deadline_s=READY_S, every_s=1)
    (worker,) = told()
    text = tallyard(running.data_dir, "status").stdout
    assert str(worker["tier"] if worker["is_ok"] else worker["sentence"]) in text
    assert f"on {worker['host']}" in text


def test_flower_shows_the_workers_to_who_has_its_password(running):
    url = json.loads(tallyard(running.data_dir, "status", "--json").stdout)["urls"]["flower"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{url}/workers")
    password = (running.data_dir / "flower_password").read_text().strip()
    pair = base64.b64encode(f"tallyard:{password}".encode()).decode()
    request = urllib.request.Request(
        f"{url}/workers", headers={"Authorization": f"Basic {pair}"}
    )
    with urllib.request.urlopen(request) as answer:
        page = answer.read().decode()
    assert [name for name in ("match@", "heavy@", "judge@") if name not in page] == []


def test_a_key_made_on_the_command_line_opens_the_api(running):
    made = json.loads(tallyard(running.data_dir, "keys", "create", "--json").stdout)["key"]
    url = json.loads(tallyard(running.data_dir, "status", "--json").stdout)["urls"]["api"]
    request = urllib.request.Request(
        f"{url}/v1/project", headers={"Authorization": f"Bearer {made}"}
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


def test_a_second_start_on_the_same_data_is_refused_with_a_sentence(running):
    done = tallyard(running.data_dir, "up")
    assert done.returncode == 1
    assert "already runs on" in done.stderr
    assert "Traceback" not in done.stderr


def test_everything_at_rest_fits_into_its_bound(running):
    used = running.ask_all(lambda each: (each.memory_full_info().pss, each.name()))
    assert sum(pss for pss, _ in used) < REST_BYTES_MAX, used


def test_no_port_is_open_but_the_two_that_were_printed(running):
    open_ports = {
        connection.laddr.port
        for connections in running.ask_all(lambda each: each.net_connections(kind="tcp"))
        for connection in connections
        if connection.status == psutil.CONN_LISTEN
    }
    printed = {int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", running.said())}
    assert open_ports == printed


@pytest.mark.parametrize("name", ["match", "valkey", "postgres", "api"])
def test_a_killed_process_comes_back(running, name):
    def pid() -> int:
        state = json.loads((running.data_dir / "state.json").read_text())
        return next(each["pid"] for each in state["processes"] if each["name"] == name)

    killed = pid()
    os.kill(killed, signal.SIGKILL)
    assert wait_until(lambda: pid() not in {0, killed}, deadline_s=20, every_s=0.1)
    assert wait_until(
        lambda: tallyard(running.data_dir, "status").returncode == 0, deadline_s=60, every_s=1
    )


def test_it_stops_within_five_seconds_and_leaves_nothing_and_goes_on_later(folder):
    first = start_up(folder / "again")
    first.wait_for("Ctrl-C stops everything")
    key = (folder / "again" / "api_key").read_text()
    family = first.descendants()
    assert first.stop(signal.SIGINT) < 5
    assert first.process.returncode == 0
    assert survivors(family) == []
    assert tallyard(folder / "again", "status").returncode == 1

    second = start_up(folder / "again")
    second.wait_for("Ctrl-C stops everything")
    assert (folder / "again" / "api_key").read_text() == key
    family = second.descendants()
    second.stop(signal.SIGKILL)
    assert wait_until(lambda: survivors(family) == [], deadline_s=5), survivors(family)

    done = tallyard(folder / "again", "clean", "--yes")
    assert done.returncode == 0
    assert not (folder / "again").exists()


def test_make_run_ends_with_all_it_started(folder):
    output = folder / "make.out"
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["make", "run"],
            cwd=ROOT,
            env=environment(folder / "made"),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    started = Running(data_dir=folder / "made", process=process, output=output)
    started.wait_for("Ctrl-C stops everything")
    family = started.descendants()
    process.terminate()
    assert wait_until(lambda: survivors(family) == [], deadline_s=5), survivors(family)
    process.wait(5)


def test_clean_stops_what_runs_first(folder):
    started = start_up(folder / "cleaned")
    started.wait_for("Ctrl-C stops everything")
    assert tallyard(folder / "cleaned", "clean", "--yes").returncode == 0
    assert started.process.wait(5) == 0
    assert not (folder / "cleaned").exists()


def test_a_port_in_use_is_a_sentence(folder):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = tallyard(folder / "port", "up", TALLYARD_API_PORT=str(port))
    assert done.returncode == 1
    assert re.fullmatch(
        rf"tallyard: The API cannot listen on 127\.0\.0\.1:{port} .*set TALLYARD_API_PORT.*\n",
        done.stderr,
    )


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("TALLYARD_JUDGE_TIMEOUT", "3", "TALLYARD_JUDGE_TIMEOUT: no such setting"),
        ("TALLYARD_API_PORT", "http", "TALLYARD_API_PORT: Input should be a valid integer"),
        ("TALLYARD_DATABASE_URL", "mysql://h/d", "must be a URL like postgresql://"),
        ("TALLYARD_DATABASE_URL", "postgresql://127.0.0.1:1/d", "check TALLYARD_DATABASE_URL"),
        ("TALLYARD_REDIS_URL", "redis://127.0.0.1:1/0", "check TALLYARD_REDIS_URL"),
        ("TALLYARD_DATA_DIR", "/dev/null/x", "set TALLYARD_DATA_DIR"),
        ("TALLYARD_DATA_DIR", "/proc/x", "set TALLYARD_DATA_DIR"),
    ],
)
def test_what_cannot_work_is_one_sentence(folder, setting, value, sentence):
    done = tallyard(folder / "wrong", "up", **{setting: value})
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_broken_data_are_a_sentence_and_leave_no_process(folder):
    data_dir = folder / "broken"
    (data_dir / "postgres").mkdir(parents=True, mode=0o700)
    (data_dir / "lock").touch()
    (data_dir / "postgres" / "letter.txt").write_text("dear")
    done = tallyard(data_dir, "up")
    assert done.returncode == 1
    assert "no PostgreSQL database" in done.stderr
    assert done.stderr.count("\n") == 1
