"""Runs Tallyard's real processes (API, workers, beat) for tests.

    with Stack(database_url=..., redis_url=..., folder=tmp_path) as stack:
        stack.start("api", "match", "heavy", "judge")
        project = stack.project()
        stack.http("POST", f"/v1/project_logs/{project}/insert", {"events": [...]})
        stack.wait_until(lambda: stack.rows(project)[0]["scores"], deadline_s=10)
        stack.kill("match", signal.SIGKILL)

The processes are those of `ops.servers.processes`; the kernel ends them with the test process.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import psutil
from click.testing import CliRunner
from ports import own_port

from flows.access.keys import Keys
from flows.access.organizations import Organizations
from flows.access.principal import KeyRole, Principal
from flows.access.projects import ListPage, Projects
from ops.cli import tallyard
from ops.servers import readiness
from ops.servers.children import Child, start, wait_until
from ops.servers.fork_server import ForkServer
from ops.servers.processes import ProcessSpec, processes
from spans.clock import system_clock
from spans.ids import OrgId, ProjectId
from spans.queues import worker_names
from store.access.keys import StoredKeys
from store.access.projects import StoredProjects
from store.postgres.database import Database
from wiring.settings import read_settings

ROOT = Path(__file__).parent.parent
READY_S = 60.0
"""How long a started process may take until it answers, seconds. On two busy cores several
processes import Celery and autoevals at the same time."""

HTTP_TIMEOUT_S = 60.0
PATIENCE_S = 5.0
EVERYTHING = ("api", *worker_names())
T = TypeVar("T")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the API answered."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of an error."""
        return str(self.json["error"]["message"])


def inherited(**more: str) -> dict[str, str]:
    """The environment of this process without API settings and proxies, and with `more`."""
    ours = os.environ.items()  # noqa: TID251 handed on to the processes under test
    kept = {
        name: value
        for name, value in ours
        if not name.startswith(("TALLYARD_", "BRAINTRUST_", "OPENAI_"))
        and not name.lower().endswith("_proxy")
    }
    return {**kept, "NO_PROXY": "*", "no_proxy": "*", **more}


class Stack:
    """Tallyard's processes on the given PostgreSQL and Redis; their logs are in `folder`.

    `settings` are Tallyard's variables without their prefix, such as
    `judge_base_url="http://..."`. `code` is the folder whose code they run; other code than
    ours is run by interpreters of its own.
    """

    def __init__(
        self, *, database_url: str, redis_url: str, folder: Path, code: Path = ROOT,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.code = code
        self.database_url = database_url
        port = own_port()
        given = {
            "database_url": database_url,
            "redis_url": redis_url,
            "data_dir": str(folder / "data"),
            "secret_key": "the-key-of-the-tests-alone",
            "outbound_allow": "127.0.0.1",
            "api_port": str(port),
            **settings,
        }
        self.variables = {f"TALLYARD_{name.upper()}": given[name] for name in given}
        self.environment = inherited(**self.variables)
        self.settings = read_settings(self.variables)
        self.api_url = f"http://127.0.0.1:{port}"
        self.children: dict[str, Child] = {}
        self._database = Database(self.settings.database_url.get_secret_value())  # type: ignore[union-attr]
        self._processes = {
            each.name: each
            for each in processes(
                self.settings, flower_password="secret", flower_database=str(folder / "flower")
            )
        }
        self._keys: dict[tuple[str, str | None], str] = {}
        self._client = httpx2.Client(
            base_url=self.api_url, timeout=HTTP_TIMEOUT_S, trust_env=False
        )

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._client.close()
        self._database.close()

    # --- processes

    def start(self, *names: str, wait: bool = True) -> None:
        """Start processes and wait until they answer. Without names: all but beat and Flower.

        "match-2" is a second "match". Processes that run already stay as they are. Call this
        from the main thread.
        """
        asked = [name for name in names or EVERYTHING if not self.is_running(name)]
        read_from = {name: self._log(name).stat().st_size for name in asked
                     if self._log(name).exists()}
        for name in asked:
            self._launch(name)
        for name in asked if wait else []:
            self.wait_until(
                lambda name=name: self._answers(name, read_from.get(name, 0)),  # type: ignore[misc]
                deadline_s=READY_S,
                what=f"{name} to answer",
            )

    def is_running(self, name: str) -> bool:
        child = self.children.get(name)
        return child is not None and child.is_running

    def pids(self, name: str) -> list[int]:
        """The ids of the process and of its child processes, its own first."""
        own = psutil.Process(self.children[name].process.pid)
        return [own.pid, *(each.pid for each in own.children(recursive=True))]

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Send the signal. SIGKILL goes to the worker's pool too, and the call waits for it."""
        child = self.children[name]
        if how is signal.SIGKILL:
            child.kill()
        else:
            child.process.send_signal(how)

    def kill_pool(self, name: str) -> None:
        """SIGKILL a worker's pool but not the worker itself, as the OOM killer does."""
        for pid in self.pids(name)[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self, *names: str) -> None:
        """Stop processes (all if none is named), and kill those that do not stop in time."""
        asked = [self.children.pop(name) for name in names or tuple(self.children)]
        for child in asked:
            child.ask_to_stop()
        wait_until(lambda: not any(child.is_running for child in asked), deadline_s=PATIENCE_S)
        for child in asked:
            child.kill()

    def log_text(self, name: str) -> str:
        return self._log(name).read_text(errors="replace")

    def _launch(self, name: str) -> None:
        kind, _, number = name.partition("-")
        process = self._processes[kind]
        argv = _python_arguments(process)
        if number:
            argv = [part.replace(f"{kind}@", f"{name}@") for part in argv]
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {**self.environment, "PYTHONPATH": str(self.code), **process.environment}
        if self.code == ROOT:
            self.children[name] = _fork_server().start(
                name, argv, log=self._log(name), environment=environment
            )
        else:
            self.children[name] = start(
                name, [sys.executable, "-P", *argv], log=self._log(name),
                environment=environment,
            )

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _answers(self, name: str, read_from: int) -> bool:
        if not self.is_running(name):
            raise AssertionError(f"{name} ended at its start:\n{self.log_text(name)[-4000:]}")
        if name == "api":
            return readiness.api_is_ready(self.api_url)
        written = self._log(name).read_bytes()[read_from:]
        return (b"beat: Starting" if name.startswith("beat") else b" ready.") in written

    # --- the API

    def key(self, role: str = "admin", *, project: str | None = None) -> str:
        """An API key with this role, for one project or for all."""
        if (role, project) not in self._keys:
            self._keys[role, project] = self.new_key(role, project=project)
        return self._keys[role, project]

    def new_key(
        self, role: str = "admin", *, project: str | None = None, org: str | None = None
    ) -> str:
        """A new API key, by default of the stack's own organisation."""
        return self._api_keys().create(
            self.administrator(org), name="test", role=KeyRole(role),
            project_id=ProjectId(uuid.UUID(project)) if project else None,
        )

    def revoke(self, key: str) -> None:
        self._api_keys().revoke(self.administrator(), key.split("-")[1])

    def org_id(self, name: str | None = None) -> OrgId:
        return self.administrator(name).org_id

    def administrator(self, org: str | None = None) -> Principal:
        """An administrator of this organisation, made if there is none."""
        organizations = Organizations(StoredProjects(self._database))
        return organizations.administrator(org or self.settings.org_name)

    def _api_keys(self) -> Keys:
        projects = Projects(StoredProjects(self._database), ring=lambda _: None)
        return Keys(StoredKeys(self._database), system_clock, projects=projects)

    def http(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request, with an admin's key unless another is given ("" for none).

        A body of bytes is sent as it is, anything else as JSON.
        """
        chosen = self.key() if key is None else key
        sent = {"authorization": f"Bearer {chosen}"} if chosen else {}
        if body is not None and not isinstance(body, bytes):
            sent["content-type"] = "application/json"
            body = json.dumps(body).encode()
        answer = self._client.request(
            method, path, content=body, headers={**sent, **(headers or {})}
        )
        return Answer(status=answer.status_code, body=answer.content, headers=answer.headers)

    def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Send a request and return the answer's JSON. Fails unless the status is 200."""
        answer = self.http(method, path, body, **more)
        assert answer.status == 200, f"{method} {path}: {answer.status} {answer.body[:2000]!r}"
        return answer.json

    def project(self, name: str | None = None) -> str:
        """The id of a new project."""
        name = name or f"project {next(_numbers)} {uuid.uuid4().hex[:8]}"
        return str(self.ok("POST", "/v1/project", {"name": name})["id"])

    def rule(self, project: str, *scorers: str, name: str | None = None, **online: Any) -> str:
        """The id of a new rule; `online` are fields of its `config.online`."""
        config = {
            "sampling_rate": 1,
            "scorers": [{"type": "global", "name": scorer} for scorer in scorers],
            **online,
        }
        body = {
            "project_id": project, "name": name or f"rule {next(_numbers)}",
            "score_type": "online", "config": {"online": config},
        }
        return str(self.ok("POST", "/v1/project_score", body)["id"])

    def function(
        self, project: str, code: str, *, slug: str | None = None, runtime: str = "python",
        **fields: Any,
    ) -> dict[str, Any]:
        """A scorer made of inline code, or its next version, as the API shows it."""
        slug = slug or f"scorer-{next(_numbers)}"
        context = {"runtime": runtime, "version": "3.11" if runtime == "python" else "20"}
        data = {"type": "inline", "runtime_context": context, "code": textwrap.dedent(code)}
        body = {
            "project_id": project, "name": slug, "slug": slug, "function_type": "scorer",
            "function_data": {"type": "code", "data": data}, **fields,
        }
        return dict(self.ok("PUT", "/v1/function", body))

    def function_rule(self, project: str, *functions: dict[str, Any], **online: Any) -> str:
        """The id of a new rule over functions, each {id, version?}."""
        scorers = [{"type": "function", **function} for function in functions]
        return self.rule(project, **{"scorers": scorers, **online})

    def insert(self, project: str, *events: dict[str, Any]) -> list[str]:
        """Insert events and return their row ids."""
        path = f"/v1/project_logs/{project}/insert"
        return list(self.ok("POST", path, {"events": list(events)})["row_ids"])

    def logs3(self, project: str, *rows: dict[str, Any]) -> dict[str, Any]:
        """Send rows to /logs3, as an SDK does, and return the answer."""
        sent = [{"project_id": project, "log_id": "g", **row} for row in rows]
        return dict(self.ok("POST", "/logs3", {"rows": sent, "api_version": 2}))

    def rows(self, project: str, **asked: Any) -> list[dict[str, Any]]:
        """Every row of the project, newest first, with score spans."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.ok("POST", f"/v1/project_logs/{project}/fetch", asked)
            found += page["events"]
            if not page["cursor"]:
                return found
            asked["cursor"] = page["cursor"]

    def row(self, project: str, row_id: str) -> dict[str, Any] | None:
        """The row, or None where there is none."""
        lookup = {"type": "path_lookup", "path": ["id"], "value": row_id}
        found = self.rows(project, filters=[lookup])
        assert len(found) <= 1
        return found[0] if found else None

    def score_spans(self, project: str, row_id: str | None = None) -> list[dict[str, Any]]:
        """The score spans of one row, or of all rows."""
        return [
            row for row in self.rows(project)
            if (row["span_attributes"] or {}).get("purpose") == "scorer"
            and row_id in {None, (row["origin"] or {}).get("id")}
        ]

    def explain(self, project: str, row_id: str) -> dict[str, Any]:
        return dict(self.ok("GET", f"/v1/project_logs/{project}/explain?id={row_id}"))

    def statuses(self, project: str, row_id: str) -> dict[str, str]:
        """What `explain` says of each rule, by its name."""
        rules = self.explain(project, row_id)["rules"]
        return {rule["rule_name"]: rule["status"] for rule in rules}

    def scored(
        self, project: str, row_id: str, *, deadline_s: float = 30.0
    ) -> dict[str, Any]:
        """Wait until all rules have decided on the row and all scorers have run; return it."""
        unsettled = {"pending", "waiting"}
        self.wait_until(
            lambda: not unsettled & set(self.statuses(project, row_id).values()),
            deadline_s=deadline_s,
            what=lambda: f"scores: {self.explain(project, row_id)['rules']}",
        )
        row = self.row(project, row_id)
        assert row is not None
        return row

    # --- the command line

    def tallyard(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command `tallyard` on this stack, in this process, which has loaded it."""
        ran = CliRunner(env=self.variables).invoke(tallyard, arguments)
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        return subprocess.CompletedProcess(arguments, ran.exit_code, ran.stdout, ran.stderr)

    # --- waiting

    @staticmethod
    def wait_until(
        state: Callable[[], T],
        *,
        deadline_s: float,
        what: str | Callable[[], str] = "the state",
    ) -> T:
        """Call `state` until it returns something true, and return that. Fails after the
        deadline."""
        value: list[T] = []

        def is_reached() -> bool:
            value[:] = [state()]
            return bool(value[0])

        if not wait_until(is_reached, deadline_s=deadline_s, every_s=0.05):
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {deadline_s:g} s for {told}")
        return value[0]

    def count(self, table: str, project: str) -> int:
        """How many rows of the table, or of a view, belong to the project."""
        with self._database.cursor() as cursor:
            cursor.execute(
                "select 1 from information_schema.columns"
                " where table_name = %s and column_name = 'project_id'", (table,),
            )
            of_object = "" if cursor.fetchone() else "join object using (object_no)"
            cursor.execute(
                f"select count(*) from {table} {of_object} where project_id = %s", (project,)
            )
            (count,) = cursor.fetchone() or (0,)
            return int(count)

    def projects(self) -> list[str]:
        """The names of the organisation's projects."""
        found = StoredProjects(self._database).list_projects(
            self.org_id(), ListPage(limit=1000), None
        )
        return [project.name for project in found]


@functools.cache
def _fork_server() -> ForkServer:
    """The fork server of this process, which ends with it."""
    return ForkServer(log=Path(os.devnull))


def _python_arguments(process: ProcessSpec) -> list[str]:
    module = [] if process.argv[0] == "python" else ["-m", process.argv[0]]
    return [*module, *process.argv[1:]]
