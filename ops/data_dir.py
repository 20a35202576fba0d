"""The files in the data directory, and the lock that gives one supervisor its use."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from ops.folders import private_folder
from spans.errors import SetupError


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """One process as the supervisor last saw it. `pid` is 0 while it is not running."""

    name: str
    pid: int
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What a running supervisor writes for `tallyard status` and the other commands.

    `settings` are those that the commands need as it has them.
    """

    pid: int
    api_url: str
    flower_url: str
    flower_user: str
    database_url: str
    redis_url: str
    processes: tuple[ProcessState, ...]
    settings: Mapping[str, str | int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataDir:
    """The paths in the data directory, which one supervisor at a time may use."""

    path: Path

    @property
    def logs(self) -> Path:
        """Folder of the logs, one file for each process."""
        return self.path / "logs"

    @property
    def postgres(self) -> Path:
        """Folder of the embedded PostgreSQL's data."""
        return self.path / "postgres"

    @property
    def valkey(self) -> Path:
        """Folder of the embedded Valkey's socket."""
        return self.path / "valkey"

    @property
    def bundles(self) -> Path:
        """Folder in which sandbox workers keep the bundles that they have unpacked."""
        return self.path / "bundles"

    @property
    def scratch(self) -> Path:
        """Folder in which sandbox workers make the temporary folders of jails."""
        return self.path / "scratch"

    @property
    def api_key(self) -> Path:
        """File with the local administrator's API key (mode 0600)."""
        return self.path / "api_key"

    @property
    def flower_password(self) -> Path:
        """File with Flower's password, if no setting gives one (mode 0600)."""
        return self.path / "flower_password"

    @property
    def secret_key(self) -> Path:
        """File with the key for secrets in the embedded PostgreSQL (mode 0600)."""
        return self.path / "secret_key"

    @property
    def flower_database(self) -> Path:
        """File in which Flower keeps its state between starts."""
        return self.path / "flower"

    @property
    def _lock(self) -> Path:
        return self.path / "lock"

    @property
    def _state(self) -> Path:
        return self.path / "state.json"

    def is_ours(self) -> bool:
        """Whether a supervisor ever used it. Raises SetupError if it cannot be read."""
        try:
            return self._lock.exists()
        except OSError as error:
            raise SetupError(
                f"{self.path} cannot be read ({error.strerror}): give yourself the permission, "
                "or set TALLYARD_DATA_DIR to a folder of your own."
            ) from error

    def claim(self) -> IO[str]:
        """Create the directory and lock it. Gives the lock file.

        The lock lasts until that file is closed or this process dies. Raises SetupError with
        the next step if another supervisor has the lock.
        """
        if not self.is_ours() and self.path.is_dir() and any(self.path.iterdir()):
            raise SetupError(
                f"{self.path} holds files that are not Tallyard's: set TALLYARD_DATA_DIR to a "
                "new or empty folder."
            )
        private_folder(self.path)
        private_folder(self.logs)
        lock = self._open_lock()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise SetupError(
                f"Tallyard already runs on {self.path} (process {holder}): stop it, or set "
                "TALLYARD_DATA_DIR to another folder; `tallyard status` shows what runs."
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        return lock

    def holder(self) -> int | None:
        """Process id of the supervisor that uses the directory now; None if none does."""
        if not self.is_ours():
            return None
        with self._open_lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = lock.read().strip()
                return int(text) if text.isdigit() else None
        return None

    def write_state(self, state: RunState) -> None:
        """Replace the state that `tallyard status` reads, in one step."""
        write_private(self._state, json.dumps(asdict(state), indent=2) + "\n")

    def read_state(self) -> RunState | None:
        """The state that the supervisor wrote last; None if it has written none yet."""
        if not self._state.exists():
            return None
        read = json.loads(self._state.read_text())
        read["processes"] = tuple(ProcessState(**each) for each in read["processes"])
        return RunState(**read)

    def forget_state(self) -> None:
        """Delete the state. Call it when nothing runs any more."""
        self._state.unlink(missing_ok=True)

    def secret(self, path: Path) -> str:
        """The secret in the file `path`, which the first call creates."""
        if not path.exists():
            write_private(path, secrets.token_urlsafe(18) + "\n")
        return path.read_text().strip()

    def remove(self) -> None:
        """Delete Tallyard's files in the directory, and the directory if it is empty then."""
        for folder in (
            self.postgres, self.path / "postgres.new", self.valkey, self.logs, self.bundles,
            self.scratch,
        ):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (
            self.api_key, self.flower_password, self.secret_key, self._state, self._lock
        ):
            file.unlink(missing_ok=True)
        for file in self.path.glob(f"{self.flower_database.name}*"):
            file.unlink(missing_ok=True)
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()

    def _open_lock(self) -> IO[str]:
        try:
            return os.fdopen(os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        except OSError as error:
            raise SetupError(
                f"{self._lock} cannot be opened ({error.strerror}): give yourself the "
                "permission, or set TALLYARD_DATA_DIR to a folder of your own."
            ) from error


def write_private(path: Path, text: str) -> None:
    """Replace the file `path` in one step by one that only its owner can read (mode 0600).

    A crash leaves the old file or the new one, never a part.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
