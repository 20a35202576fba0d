"""The processes that make up Tallyard, in one place: `tallyard up` starts these, and
`compose.yaml` the same (`tests/unit/test_ops_compose.py` compares them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spans.queues import QUEUES, Queue, Worker, workers
from wiring.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process as a container would run it: `argv[0]` is a command of our environment.

    `stop_order` counts from 0, the first to be asked; those of one order stop together.
    """

    name: str
    argv: tuple[str, ...]
    stop_order: int
    environment: Mapping[str, str] = field(default_factory=dict)


def processes(
    settings: Settings, *, flower_password: str, flower_database: str,
    queues: tuple[Queue, ...] = QUEUES,
) -> list[Process]:
    """All of them, in the order of their start."""
    return [
        Process(name="api", argv=("python", "-m", "api"), stop_order=0),
        *(
            _worker(worker, served, settings) for worker, served in workers(queues).items()
        ),
        Process(
            name="beat",
            # It rings bells; what is due stands in PostgreSQL, so it need remember nothing.
            argv=("python", "-m", "workers", "beat", "--scheduler", "celery.beat:Scheduler"),
            stop_order=1,
        ),
        Process(
            name="flower",
            argv=("celery", "-A", "workers", "flower"),
            stop_order=1,
            # Not as options: the password would stand in the list of processes.
            environment={
                "FLOWER_ADDRESS": settings.host,
                "FLOWER_PORT": str(settings.flower_port),
                "FLOWER_BASIC_AUTH": f"{settings.flower_user}:{flower_password}",
                "FLOWER_PERSISTENT": "true",
                "FLOWER_DB": flower_database,
                "FLOWER_STATE_SAVE_INTERVAL": "60000",  # ms; else only at a gentle stop
                "FLOWER_MAX_TASKS": "10000",  # of its memory's contents; the default is 100 000
            },
        ),
    ]


def _worker(worker: Worker, queues: tuple[str, ...], settings: Settings) -> Process:
    return Process(
        name=worker.name,
        argv=(
            *("python", "-m", "workers", "worker"),
            *("-Q", ",".join(queues), "-n", f"{worker.name}@%h"),
            # Workers have nothing to tell each other, and mingling costs a second's wait.
            *("--without-gossip", "--without-mingle"),
            *_pool(worker, settings),
        ),
        stop_order=1,
    )


def _pool(worker: Worker, settings: Settings) -> tuple[str, ...]:
    if worker.processes is None:
        return "--pool", "threads", "--concurrency", "1"
    return "--concurrency", str(getattr(settings, worker.processes))
