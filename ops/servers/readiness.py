"""Checks whether the started processes answer, and whether ports are free."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from ops.servers.http_client import HttpError, request
from spans.errors import SetupError

HTTP_TIMEOUT_S = 5.0
REDIS_PORT = 6379
PING_S = 2.0
"""How long a worker that runs may take to answer a ping."""

PING_DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxState:
    """Whether one worker can run users' code in a sandbox.

    `tier` is the kind of sandbox. If `is_ok` is false, `sentence` says why, and the next step.
    """

    host: str
    tier: str | None
    is_ok: bool
    sentence: str


def api_is_ready(url: str) -> bool:
    """Whether the API answers that it and its stores are ready."""
    return _status(url, "/health/ready") == HTTPStatus.OK


def sandbox_workers(url: str) -> tuple[SandboxState, ...]:
    """The sandbox's state on each worker that runs users' code, as the API tells it.

    Empty if the API does not answer or knows no such worker.
    """
    try:
        told = json.loads(_get(url, "/health/ready")[1])
    except ValueError:
        return ()
    return tuple(
        SandboxState(host=each["host"], tier=each["tier"], is_ok=each["is_ok"],
                     sentence=each["sentence"])
        for each in told.get("sandbox", ())
    )


def flower_answers(url: str) -> bool:
    """Whether Flower answers at all. Without its password, 401 is the right answer."""
    return _status(url, "/") is not None


def workers_answering(
    environment: Mapping[str, str], names: Iterable[str], *, ping_s: float = PING_S
) -> frozenset[str]:
    """Those of this host's workers that answer a ping within `ping_s` seconds.

    `names` are the workers to ask. Costs half a second of processor time.
    """
    node_names = {name: f"{name}@{socket.gethostname()}" for name in names}
    try:
        done = subprocess.run(  # noqa: S603 our own interpreter
            [
                *(sys.executable, "-m", "workers", "inspect", "ping", "--json"),
                # With names, the command returns at the last answer instead of at the timeout.
                *("--timeout", str(ping_s), "--destination", ",".join(node_names.values())),
            ],
            env={**os.environ, **environment},  # noqa: TID251 handed on, not read
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PING_DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return frozenset()
    # If no worker answers, Celery prints a sentence instead of JSON.
    try:
        answered = json.loads(done.stdout)
    except ValueError:
        return frozenset()
    return frozenset(name for name, node_name in node_names.items() if node_name in answered)


def check_redis(url: str) -> None:
    """Raises SetupError with the next step if nothing listens at `url`."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(parts.path)
        else:
            address = (parts.hostname or "localhost", parts.port or REDIS_PORT)
            socket.create_connection(address, timeout=HTTP_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise SetupError(
            f"Redis does not answer ({error}): check TALLYARD_REDIS_URL, and that Redis runs."
        ) from error


def free_port(host: str, port: int, *, what: str, setting: str) -> int:
    """`port`, or a port that the system chooses if `port` is 0.

    Raises SetupError with the next step if nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise SetupError(
                f"{what} may not listen on port {port}: set {setting} to a port above 1023."
            ) from error
        except (OSError, OverflowError) as error:
            raise SetupError(
                f"{what} cannot listen on {host}:{port} ({error}): stop what listens there, or "
                f"set {setting} (or TALLYARD_HOST)."
            ) from error
        found: int = probe.getsockname()[1]
    return found


def local_url(host: str, port: int) -> str:
    """A URL that works on this machine, even if the server listens on every address."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 compared
    bracketed = f"[{reachable}]" if ":" in reachable and "[" not in reachable else reachable
    return f"http://{bracketed}:{port}"


def _status(url: str, path: str) -> int | None:
    """HTTP status of GET `path` at `url`; None if nothing answers."""
    return _get(url, path)[0]


def _get(url: str, path: str) -> tuple[int | None, bytes]:
    """HTTP status and body of GET `path` at `url`; None and no body if nothing answers."""
    try:
        return request("GET", url, path, timeout_s=HTTP_TIMEOUT_S)
    except (OSError, HttpError):
        return None, b""
