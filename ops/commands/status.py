"""`tallyard status`: shows the URLs, and whether each process is ready."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime

import click

from flows.health.measurements import Sending, Waiting
from ops.commands.instance import running_settings
from ops.commands.text import counted
from ops.data_dir import DataDir, RunState
from ops.servers import readiness
from spans.errors import TallyardError
from spans.queues import worker_names
from wiring.settings import read_settings
from wiring.tallyard import tallyard_for_command


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state that is shown, and printed by `--json`.

    `processes` says of each process whether it answers. `sandbox` says of each sandbox worker
    whether its sandbox works, and `waiting` what is tried again later, and why; `ready` depends
    on neither. `sending` says what is on its way to webhooks. Both are None if PostgreSQL does
    not answer.
    """

    ready: bool
    api_url: str | None
    flower_url: str | None
    api_key_file: str
    processes: dict[str, bool]
    sandbox: tuple[readiness.SandboxState, ...]
    waiting: Waiting | None = None
    sending: Sending | None = None


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
    waiting, sending = _measured() if state else (None, None)
    return Status(
        ready=bool(answers) and all(answers.values()),
        api_url=state.api_url if state else None,
        flower_url=state.flower_url if state else None,
        api_key_file=str(data.api_key),
        processes=answers,
        sandbox=readiness.sandbox_workers(state.api_url) if state else (),
        waiting=waiting, sending=sending,
    )


def _measured() -> tuple[Waiting | None, Sending | None]:
    """What waits, and what is on its way; None for both if the store does not answer."""
    try:
        with tallyard_for_command(running_settings()) as tallyard:
            return tallyard.health.waiting(), tallyard.health.sending()
    except TallyardError:
        return None, None


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
            "waiting": asdict(found.waiting) if found.waiting else None,
            "sending": asdict(found.sending) if found.sending else None,
        },
        indent=2,
        default=_json_value,
    )


def _json_value(value: object) -> str:
    """An instant as the API writes it."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def status_text(found: Status, data: DataDir) -> str:
    """The lines that are printed without `--json`."""
    if found.api_url is None and (starting := data.holder()) is not None:
        return (
            f"Tallyard is starting on {data.path}: process {starting} prints how far it is."
        )
    if found.api_url is None:
        return f"Nothing runs on {data.path}: `tallyard up` (or `make run`) starts it."
    width = max(9, *map(len, found.processes)) if found.processes else 9
    lines = [
        "Ready." if found.ready else f"Not ready: the logs are in {data.logs}.",
        f"  {'API':<{width}} {found.api_url}  (key in {found.api_key_file})",
        f"  {'Flower':<{width}} {found.flower_url}",
        *(
            f"  {name:<{width}} {'answers' if answers else 'does not answer'}"
            for name, answers in found.processes.items()
        ),
        *(f"  {_sandbox_text(worker)}" for worker in found.sandbox),
        *(f"  {line}" for line in waiting_lines(found.waiting)),
        *(f"  {line}" for line in budget_lines(found.waiting)),
        *(f"  {line}" for line in sending_lines(found.sending)),
    ]
    return "\n".join(lines)


def waiting_lines(waiting: Waiting | None) -> Iterator[str]:
    """What is tried again later: why, how much, and when next."""
    if waiting is None:
        return
    for down in waiting.down:
        yield (
            f"judge endpoint {down.endpoint} is down since {_at(down.opened_at)} "
            f"({down.error_class}: {down.reason}); waiting for it: {_outcomes(down.held)}; one "
            f"call tries it again at {_at(down.probe_at)}"
        )
    for one in waiting.retrying:
        yield (
            f"waiting in the queue {one.queue} to be tried again: {_outcomes(one.count)}, the "
            f"next at {_at(one.next_at)} ({one.error_class}: {one.reason})"
        )


def budget_lines(waiting: Waiting | None) -> Iterator[str]:
    """What budgets hold back, and why."""
    for one in waiting.budgets if waiting is not None else ():
        if one.held:
            yield (
                f"held back by a budget of the {one.subject} {one.subject_id}: "
                f"{_outcomes(one.held)} ({one.reason}); `tallyard budgets list` shows it"
            )


def sending_lines(sending: Sending | None) -> Iterator[str]:
    """What is on its way to webhooks, which receivers do not take it, and which automations
    Tallyard has paused, and why."""
    if sending is None:
        return
    if sending.pending:
        yield (
            f"on their way to webhooks: {sending.pending}, the oldest for "
            f"{sending.oldest_s:.0f} s; `tallyard deliveries list` shows them"
        )
    for one in sending.failing:
        yield (
            f"the receiver of {one.name!r} of the project {one.project!r} has taken nothing "
            f"since {_at(one.since)}, in {counted(one.attempts, 'attempt')}: {one.reason}; "
            f"the next at {_at(one.next_at)}"
        )
    for paused in sending.disabled:
        yield (
            f"the automation {paused.name!r} of the project {paused.project!r} is paused "
            f"since {_at(paused.at)}: {paused.reason}; set its status to active when the "
            "receiver works again"
        )
    if (more := sending.disabled_count - len(sending.disabled)) > 0:
        yield f"Tallyard has paused {counted(more, 'more automation')} for such reasons"


def _outcomes(count: int) -> str:
    return "1 outcome" if count == 1 else f"{count} outcomes"


def _at(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds")


def _sandbox_text(worker: readiness.SandboxState) -> str:
    if worker.is_ok:
        return f"users' code runs in {worker.tier} on {worker.host}"
    return f"users' code waits on {worker.host}: {worker.sentence}"
