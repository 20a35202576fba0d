"""`tallyard up`: everything on this machine, under one supervisor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from ops.data_dir import DataDir, ProcessState, RunState
from ops.servers import readiness
from ops.servers.children import Child, start, wait_until
from ops.servers.log_files import LogFile
from ops.servers.postgres import start_postgres
from ops.servers.processes import Process, processes
from ops.servers.supervisor import StopRequested, Supervisor, Unit, raise_on_stop_signals
from ops.servers.valkey import start_valkey
from ops.setup.example import Api, show_example
from spans.errors import SetupError
from spans.queues import worker_names
from wiring.settings import Settings, read_settings

READY_S = 60.0


@click.command()
def up() -> None:
    """Start everything, show where it is, and keep it running until Ctrl-C."""
    settings = read_settings()
    raise_on_stop_signals()
    data = DataDir(settings.data_dir)
    with data.claim():
        run = Run(settings=_with_ports(settings), data=data)
        try:
            run.start()
            run.supervisor.watch()
        except StopRequested:
            run.say("Stopping ...")
        finally:
            run.supervisor.stop()
            data.forget_state()


class Run:
    """One run of the supervisor, from the stores up."""

    def __init__(self, *, settings: Settings, data: DataDir) -> None:
        self.settings = settings
        self.data = data
        self.supervisor = Supervisor(say=self.say, changed=self._write_state)
        self.api_url = readiness.shown_url(settings.host, settings.api_port)
        self.flower_url = readiness.shown_url(settings.host, settings.flower_port)
        self.environment: dict[str, str] = {}

    def say(self, line: str) -> None:
        """Show one line at once, also where the output is a pipe."""
        # A closed terminal or pipe is no reason to stop: `tallyard status` still tells.
        with suppress(OSError):
            click.echo(line)
            sys.stdout.flush()

    def start(self) -> None:
        """Bring everything up and tell where it is. Raises SetupError with the next step."""
        began_s = time.monotonic()
        database_url, redis_url = self._stores()
        self.environment = {
            "TALLYARD_DATABASE_URL": database_url,
            "TALLYARD_REDIS_URL": redis_url,
            "TALLYARD_DATA_DIR": str(self.data.path),
            "TALLYARD_API_PORT": str(self.settings.api_port),
            "TALLYARD_FLOWER_PORT": str(self.settings.flower_port),
            # Else a child's lines reach its log only when its buffer is full.
            "PYTHONUNBUFFERED": "1",
        }
        readiness.check_redis(redis_url)
        self._prepare()
        for process in self._processes():
            self._keep(process.name, partial(self._launch, process), process.stop_order)
        self._write_state()
        self._await_ready()
        self._tell(time.monotonic() - began_s)
        if self.settings.example:
            key = self.data.api_key.read_text().strip()
            show_example(Api(url=self.api_url, key=key), say=self.say)

    def _stores(self) -> tuple[str, str]:
        """URLs of PostgreSQL and Redis; what has no URL in the settings is started here."""
        database, redis = self.settings.database_url, self.settings.redis_url
        urls = {
            "postgres": database.get_secret_value() if database else "",
            "valkey": redis.get_secret_value() if redis else "",
        }

        def launch(name: str, starter: Callable[..., tuple[Child, str]], folder: Path) -> Child:
            child, urls[name] = starter(folder, log=self.data.logs / f"{name}.log")
            return child

        if database is None:
            starting = partial(launch, "postgres", start_postgres, self.data.postgres)
            self._keep("postgres", starting, stop_order=3)
        if redis is None:
            starting = partial(launch, "valkey", start_valkey, self.data.valkey)
            self._keep("valkey", starting, stop_order=2)
        return urls["postgres"], urls["valkey"]

    def _prepare(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "ops.setup.prepare"],
            env=self._child_environment(),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            log = self.data.logs / "prepare.log"
            log.write_text(done.stderr)
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            # A sentence stands alone; a bug brings its traceback, which belongs in a file.
            hint = "" if len(lines) == 1 else f" (all of it in {log})"
            raise SetupError(f"{lines[-1]}{hint}")

    def _child_environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment}  # noqa: TID251 handed on, not read

    def _processes(self) -> list[Process]:
        given = self.settings.flower_password
        return processes(
            self.settings,
            flower_password=given.get_secret_value()
            if given
            else self.data.secret(self.data.flower_password),
            flower_database=str(self.data.flower_database),
        )

    def _keep(self, name: str, launch: Callable[[], Child], stop_order: int) -> None:
        log = LogFile(self.data.logs / f"{name}.log")
        self.supervisor.add(Unit(name=name, launch=launch, log=log, stop_order=stop_order))

    def _launch(self, process: Process) -> Child:
        module = [] if process.argv[0] == "python" else ["-m", process.argv[0]]
        return start(
            process.name,
            [sys.executable, *module, *process.argv[1:]],
            log=self.data.logs / f"{process.name}.log",
            environment={**self._child_environment(), **process.environment},
        )

    def _await_ready(self) -> None:
        until_s = time.monotonic() + READY_S
        waiting = Waiting(api=True, flower=True, workers=frozenset(worker_names()))
        while waiting.names and time.monotonic() < until_s:
            self.supervisor.check()
            waiting = waiting.after_asking(self)
            wait_until(lambda: False, deadline_s=0.2)
        if waiting.names:
            self.say(
                f"Not ready after {READY_S:g} s: {', '.join(waiting.names)}. Their logs are in "
                f"{self.data.logs}; they are kept running."
            )

    def _tell(self, took_s: float) -> None:
        self.say(f"\nTallyard is up ({took_s:.1f} s), its data in {self.data.path}")
        self.say(f"  API       {self.api_url}")
        where = (
            "set by TALLYARD_FLOWER_PASSWORD"
            if self.settings.flower_password
            else f"in {self.data.flower_password}"
        )
        self.say(
            f"  Flower    {self.flower_url}  "
            f"(user {self.settings.flower_user}, password {where})"
        )
        key = self.data.api_key.read_text().strip()
        self.say(f"  API key   {key}  (in {self.data.api_key})")
        self.say(f"  Logs      {self.data.logs}")
        self.say("Point an application that logs with the SDK at it:")
        self.say(f"  export BRAINTRUST_APP_URL={self.api_url} BRAINTRUST_API_KEY={key}")
        self.say("Ctrl-C stops everything.\n")

    def _write_state(self) -> None:
        self.data.write_state(
            RunState(
                pid=os.getpid(),
                api_url=self.api_url,
                flower_url=self.flower_url,
                flower_user=self.settings.flower_user,
                database_url=self.environment["TALLYARD_DATABASE_URL"],
                redis_url=self.environment["TALLYARD_REDIS_URL"],
                processes=tuple(
                    ProcessState(
                        name=unit.name,
                        pid=unit.child.process.pid if unit.child else 0,
                        restarts=unit.restarts,
                    )
                    for unit in self.supervisor.units
                ),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What has not answered yet."""

    api: bool
    flower: bool
    workers: frozenset[str]

    @property
    def names(self) -> list[str]:
        """The processes concerned."""
        return [*["api"] * self.api, *["flower"] * self.flower, *sorted(self.workers)]

    def after_asking(self, run: Run) -> Waiting:
        """What has not answered after another round; workers last, as asking them is dear."""
        api = self.api and not readiness.api_is_ready(run.api_url)
        flower = self.flower and not readiness.flower_answers(run.flower_url)
        if api or flower or not self.workers:
            return Waiting(api=api, flower=flower, workers=self.workers)
        answering = readiness.workers_answering(run.environment)
        return Waiting(api=api, flower=flower, workers=self.workers - answering)


def _with_ports(settings: Settings) -> Settings:
    """The same, with ports that are free now. Raises SetupError if one is taken."""
    check: Mapping[str, tuple[int, str]] = {
        "api_port": (settings.api_port, "The API"),
        "flower_port": (settings.flower_port, "Flower"),
    }
    found = {
        name: readiness.free_port(
            settings.host, port, what=what, setting=f"TALLYARD_{name.upper()}"
        )
        for name, (port, what) in check.items()
    }
    return settings.model_copy(update=found)
