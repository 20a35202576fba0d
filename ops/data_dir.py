"""What lies in the data directory, and who may use it now."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from ops.folders import closed_folder
from spans.errors import SetupError


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """One process as the supervisor last saw it."""

    name: str
    pid: int
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What a running supervisor tells `tallyard status`."""

    pid: int
    api_url: str
    flower_url: str
    flower_user: str
    database_url: str
    redis_url: str
    processes: tuple[ProcessState, ...]


@dataclass(frozen=True, slots=True)
class DataDir:
    """The names in the data directory. Only one supervisor uses it at a time."""

    path: Path

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.path / "logs"

    @property
    def postgres(self) -> Path:
        """The embedded PostgreSQL's data."""
        return self.path / "postgres"

    @property
    def valkey(self) -> Path:
        """The embedded Valkey's socket."""
        return self.path / "valkey"

    @property
    def api_key(self) -> Path:
        """The local administrator's API key (0600)."""
        return self.path / "api_key"

    @property
    def flower_password(self) -> Path:
        """Flower's password where none was set (0600)."""
        return self.path / "flower_password"

    @property
    def flower_database(self) -> Path:
        """What Flower remembers between starts."""
        return self.path / "flower"

    @property
    def _lock(self) -> Path:
        return self.path / "lock"

    @property
    def _state(self) -> Path:
        return self.path / "state.json"

    def is_ours(self) -> bool:
        """Whether a supervisor ever used it. Raises SetupError if we may not look."""
        try:
            return self._lock.exists()
        except OSError as error:
            raise SetupError(
                f"{self.path} cannot be looked into ({error.strerror}): give yourself the "
                "permission, or set TALLYARD_DATA_DIR to a folder of yours."
            ) from error

    def claim(self) -> IO[str]:
        """Make the directory, and hold it until the returned file is closed or we die.

        Raises SetupError with the next step if another supervisor holds it.
        """
        if not self.is_ours() and self.path.is_dir() and any(self.path.iterdir()):
            raise SetupError(
                f"{self.path} holds files that are not Tallyard's: set TALLYARD_DATA_DIR to a "
                "folder of its own, new or empty."
            )
        closed_folder(self.path)
        closed_folder(self.logs)
        lock = self._open_lock()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise SetupError(
                f"Tallyard already runs on {self.path} (process {holder}): `tallyard status` "
                "shows it; stop it, or set TALLYARD_DATA_DIR to another folder."
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        return lock

    def holder(self) -> int | None:
        """Process id of the supervisor that uses it now; None if nobody does."""
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
        """Replace what `status` reads, in one step."""
        write_private(self._state, json.dumps(asdict(state), indent=2) + "\n")

    def read_state(self) -> RunState | None:
        """What the supervisor wrote last; None if it has not come so far."""
        if not self._state.exists():
            return None
        read = json.loads(self._state.read_text())
        read["processes"] = tuple(ProcessState(**each) for each in read["processes"])
        return RunState(**read)

    def forget_state(self) -> None:
        """To be called where nothing runs any more."""
        self._state.unlink(missing_ok=True)

    def secret(self, path: Path) -> str:
        """The secret kept in `path`, made at the first call."""
        if not path.exists():
            write_private(path, secrets.token_urlsafe(18) + "\n")
        return path.read_text().strip()

    def remove(self) -> None:
        """Delete what is ours in it, and itself if nothing else is left."""
        for folder in (self.postgres, self.path / "postgres.new", self.valkey, self.logs):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.api_key, self.flower_password, self._state, self._lock):
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
                "permission, or set TALLYARD_DATA_DIR to a folder of yours."
            ) from error


def write_private(path: Path, text: str) -> None:
    """Replace `path` by a file that only its owner reads (0600), whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
