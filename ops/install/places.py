"""Where set-up keeps things, and the stamps that say that something is complete."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.install.failure import SetupFailed
from ops.install.pieces import Making

CACHE = Path(".cache")
STAMP = "tallyard-lock.json"


@contextmanager
def guarded(name: str, making: Making) -> Iterator[None]:
    """Hold the lock of that name: a second process that installs the same waits here.

    Raises SetupFailed if it is ended meanwhile, or if there is nowhere to write.
    """

    def is_free() -> bool:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        CACHE.mkdir(exist_ok=True)
        guard = (CACHE / f"{name.replace('/', '-')}.lock").open("w")
    except OSError as error:
        raise SetupFailed(f"Cannot write to {CACHE.absolute()}: {error.strerror}.") from error
    with guard:
        making.wait_until(is_free)
        yield


def stamped(folder: Path) -> list[str]:
    """The fingerprints in the folder's stamp; empty if there is none."""
    try:
        found = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []


def stamp(folder: Path, fingerprints: list[str]) -> None:
    """Say that the folder is complete. It is the last thing that is written there."""
    (folder / STAMP).write_text(json.dumps(fingerprints))
