"""The fork server: what it starts is as if an interpreter had been started for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ops.servers.children import Child, wait_until
from ops.servers.fork_server import IMPORTED, ForkServer
from spans.errors import SetupError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there it starts interpreters")

PROGRAM = """
import json, os, signal, sys
asked = sys.argv[1]
if asked == "tell":
    print(json.dumps({
        "argv": sys.argv[1:], "name": __name__, "home": os.environ.get("HOME"),
        "path": os.environ.get("PATH"), "session": os.getsid(0) == os.getpid(),
        "imported": all(each in sys.modules for each in json.loads(sys.argv[2])),
        "input": sys.stdin.read(), "blocked": len(signal.pthread_sigmask(0, ())),
    }))
elif asked == "exit":
    sys.exit(int(sys.argv[2]))
else:
    print("waits", flush=True)
    signal.pause()
"""

CLIENT = """
import os, sys
from pathlib import Path
from ops.servers.fork_server import ForkServer
folder = Path(sys.argv[1])
server = ForkServer(log=folder / "server.log")
child = server.start("waiting", ["-m", "program", "wait"], log=folder / "log", environment={})
print(child.process.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `python -m program` finds the program."""
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[ForkServer]:
    opened = ForkServer(log=folder / "server.log")
    yield opened
    opened.close()


def run(server: ForkServer, folder: Path, *arguments: str) -> Child:
    return server.start(
        "program", ["-m", "program", *arguments], log=folder / "log",
        environment={"HOME": "/elsewhere"},
    )


def waiting(server: ForkServer, folder: Path) -> Child:
    child = run(server, folder, "wait")
    assert wait_until(lambda: "waits" in (folder / "log").read_text(), deadline_s=30)
    return child


def test_a_fork_has_arguments_environment_session_and_log_of_its_own(
    server: ForkServer, folder: Path
) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        child = run(server, folder, "tell", json.dumps(IMPORTED))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    assert child.process.wait(30) == 0
    assert json.loads((folder / "log").read_text()) == {
        "argv": ["tell", json.dumps(IMPORTED)], "name": "__main__", "home": "/elsewhere",
        "path": None, "session": True, "imported": True, "input": "", "blocked": 0,
    }


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_of_a_fork_is_known(
    server: ForkServer, folder: Path, code: int
) -> None:
    child = run(server, folder, "exit", str(code))
    assert child.process.wait(30) == code
    assert child.process.poll() == code
    child.ask_to_stop()   # an ended process gets no signal


def test_a_fork_that_a_signal_ended_says_which(server: ForkServer, folder: Path) -> None:
    child = waiting(server, folder)
    with pytest.raises(subprocess.TimeoutExpired):
        child.process.wait(0.01)
    child.ask_to_stop()
    assert child.process.wait(30) == -signal.SIGTERM


def test_forks_outlive_the_fork_server_and_the_next_start_begins_another(
    server: ForkServer, folder: Path
) -> None:
    child = waiting(server, folder)
    server.close()
    assert child.is_running
    other = run(server, folder, "exit", "4")
    assert other.process.wait(30) == 4
    child.kill()


def test_a_fork_server_that_cannot_import_is_a_sentence_that_names_its_log(
    server: ForkServer, folder: Path
) -> None:
    (folder / "autoevals.py").write_text("raise ImportError('damaged')")
    with pytest.raises(SetupError, match=r"the fork server ended; see .*server\.log"):
        run(server, folder, "tell")
    assert "damaged" in (folder / "server.log").read_text()


def test_forks_and_fork_server_end_with_the_process_that_asked(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(folder)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as client:
        assert client.stdout is not None
        pid = int(client.stdout.readline())
        started = psutil.Process(client.pid).children(recursive=True)
        assert pid in {each.pid for each in started}
        assert wait_until(lambda: "waits" in (folder / "log").read_text(), deadline_s=30)
        os.kill(client.pid, signal.SIGKILL)
    assert len(started) == 2
    _, alive = psutil.wait_procs(started, timeout=30)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


def test_a_fork_can_be_killed_as_soon_as_it_is_started(
    server: ForkServer, folder: Path
) -> None:
    for _ in range(20):
        child = run(server, folder, "wait")
        child.kill()
        assert child.process.poll() == -signal.SIGKILL
