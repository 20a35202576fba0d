"""The one list of Tallyard's processes.

`tallyard up` starts them. `compose.yaml` starts the same ones, which
`tests/unit/test_ops_compose.py` checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spans.queues import QUEUES, Queue, Worker, workers
from wiring.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """How to start a process, as a container would. `argv[0]` is a program of our environment.

    Processes stop in the order of `stop_order`, from 0; those with the same number together.
    """

    name: str
    argv: tuple[str, ...]
    stop_order: int
    environment: Mapping[str, str] = field(default_factory=dict)


def processes(
    settings: Settings, *, flower_password: str, flower_database: str,
    queues: tuple[Queue, ...] = QUEUES,
) -> list[ProcessSpec]:
    """All processes, in the order in which they start."""
    return [
        ProcessSpec(name="api", argv=("python", "-m", "api"), stop_order=0),
        *(
            _worker(worker, served, settings) for worker, served in workers(queues).items()
        ),
        ProcessSpec(
            name="beat",
            # An in-memory scheduler is enough: beat only rings; due work is in PostgreSQL.
            argv=("python", "-m", "workers", "beat", "--scheduler", "celery.beat:Scheduler"),
            stop_order=1,
        ),
        ProcessSpec(
            name="flower",
            argv=("celery", "-A", "workers", "flower"),
            stop_order=1,
            # Not as options, because the list of processes would show the password.
            environment={
                "FLOWER_ADDRESS": settings.host,
                "FLOWER_PORT": str(settings.flower_port),
                "FLOWER_BASIC_AUTH": f"{settings.flower_user}:{flower_password}",
                "FLOWER_PERSISTENT": "true",
                "FLOWER_DB": flower_database,
                "FLOWER_STATE_SAVE_INTERVAL": "60000",  # ms; else only at a gentle stop
                "FLOWER_MAX_TASKS": "10000",  # tasks kept in memory; default 100 000
            },
        ),
    ]


def _worker(worker: Worker, queues: tuple[str, ...], settings: Settings) -> ProcessSpec:
    return ProcessSpec(
        name=worker.name,
        argv=(
            *("python", "-m", "workers", "worker"),
            *("-Q", ",".join(queues), "-n", f"{worker.name}@%h"),
            # Workers have nothing to tell each other, and mingling costs a second at start.
            *("--without-gossip", "--without-mingle"),
            *_pool(worker, queues, settings),
        ),
        stop_order=1,
    )


def _pool(worker: Worker, queues: tuple[str, ...], settings: Settings) -> tuple[str, ...]:
    if worker.processes is None:
        return "--pool", "threads", "--concurrency", str(len(queues))
    return "--concurrency", str(getattr(settings, worker.processes))
