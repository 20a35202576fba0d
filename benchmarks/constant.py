"""The route that small requests are measured against: it reads a body and answers a constant.

`python -m benchmarks.constant PORT` serves it as `python -m api` serves Tallyard.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.naive_stack import free_port, is_listening
from benchmarks.stack import foreign_environment
from ops.servers.children import start, wait_until

READY_S = 30.0
STOP_S = 5.0
ANSWER = b'{"ids":["00000000-0000-4000-8000-000000000000"],"xact_id":"1000197156529394086"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """The route in its own process."""

    port: int
    process: psutil.Process


async def logs(request: Request) -> Response:
    """Reads what is posted, and answers as if it had been stored."""
    await request.body()
    return Response(ANSWER, media_type="application/json")


app = Starlette(routes=[Route("/logs3", logs, methods=["POST"])])


@contextmanager
def running_constant(folder: Path) -> Iterator[Constant]:
    """The route, listening; gone at the end."""
    port, log = free_port(), folder / "constant.log"
    child = start(
        "constant", [sys.executable, "-m", "benchmarks.constant", str(port)], log=log,
        environment=foreign_environment(),
    )
    try:
        if not wait_until(lambda: is_listening(port), deadline_s=READY_S):
            raise RuntimeError(f"the constant route did not start:\n{log.read_text()}")
        yield Constant(port=port, process=psutil.Process(child.process.pid))
    finally:
        child.stop(patience_s=STOP_S)


def main() -> None:
    """Serve until SIGTERM, with the options of `api/__main__.py`."""
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", log_config=None,
        access_log=False, server_header=False, proxy_headers=True,
    )


if __name__ == "__main__":
    main()
