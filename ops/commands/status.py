"""`tallyard status`: shows the URLs, and whether each process is ready."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass

import click

from ops.data_dir import DataDir, RunState
from ops.servers import readiness
from spans.queues import worker_names
from wiring.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state that is shown, and printed by `--json`.

    `processes` says of each process whether it answers. `sandbox` says of each sandbox worker
    whether its sandbox works; `ready` does not depend on that.
    """

    ready: bool
    api_url: str | None
    flower_url: str | None
    api_key_file: str
    processes: dict[str, bool]
    sandbox: tuple[readiness.SandboxState, ...]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(*, as_json: bool) -> None:
    """Show the URLs and whether each process is ready. Exit code 0 if all are, else 1."""
    data = DataDir(read_settings().data_dir)
    found = current_status(data)
    click.echo(_json(found) if as_json else status_text(found, data))
    sys.exit(0 if found.ready else 1)


def current_status(data: DataDir) -> Status:
    """The current state of what runs on `data`. Asks each process; takes a second or two."""
    state = data.read_state() if data.holder() is not None else None
    answers = _answers(state) if state else {}
    return Status(
        ready=bool(answers) and all(answers.values()),
        api_url=state.api_url if state else None,
        flower_url=state.flower_url if state else None,
        api_key_file=str(data.api_key),
        processes=answers,
        sandbox=readiness.sandbox_workers(state.api_url) if state else (),
    )


def _answers(state: RunState) -> dict[str, bool]:
    """Whether each process answers. One that cannot be asked answers if it runs."""
    connections = {
        "TALLYARD_DATABASE_URL": state.database_url,
        "TALLYARD_REDIS_URL": state.redis_url,
    }
    answering = readiness.workers_answering(connections, worker_names())
    answers = {
        "api": readiness.api_is_ready(state.api_url),
        "flower": readiness.flower_answers(state.flower_url),
        **{worker: worker in answering for worker in worker_names()},
    }
    return {
        process.name: process.pid > 0 and answers.get(process.name, True)
        for process in state.processes
    }


def _json(found: Status) -> str:
    return json.dumps(
        {
            "ready": found.ready,
            "urls": {"api": found.api_url, "flower": found.flower_url},
            "api_key_file": found.api_key_file,
            "processes": found.processes,
            "sandbox": [asdict(worker) for worker in found.sandbox],
        },
        indent=2,
    )


def status_text(found: Status, data: DataDir) -> str:
    """The lines that are printed without `--json`."""
    if found.api_url is None and (starting := data.holder()) is not None:
        return (
            f"Tallyard is starting on {data.path}: process {starting} prints how far it is."
        )
    if found.api_url is None:
        return f"Nothing runs on {data.path}: `tallyard up` (or `make run`) starts it."
    lines = [
        "Ready." if found.ready else f"Not ready: the logs are in {data.logs}.",
        f"  API       {found.api_url}  (key in {found.api_key_file})",
        f"  Flower    {found.flower_url}",
        *(
            f"  {name:<9} {'answers' if answers else 'does not answer'}"
            for name, answers in found.processes.items()
        ),
        *(f"  {_sandbox_text(worker)}" for worker in found.sandbox),
    ]
    return "\n".join(lines)


def _sandbox_text(worker: readiness.SandboxState) -> str:
    if worker.is_ok:
        return f"users' code runs in {worker.tier} on {worker.host}"
    return f"users' code waits on {worker.host}: {worker.sentence}"
