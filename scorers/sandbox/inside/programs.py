"""The paths, in this jail, of the few programs that a job may become or start."""

from __future__ import annotations

ENVIRONMENT = {
    "PATH": "/usr/bin",
    "HOME": "/tmp",  # noqa: S108 the jail's own
    "TMPDIR": "/tmp",  # noqa: S108 the jail's own
    "LANG": "C.UTF-8",
    "OPENSSL_CONF": "/dev/null",  # node fails if it sees a configuration that it may not read
}
"""The whole environment of such a program."""

_found: dict[str, str] = {}


def register(found: dict[str, str]) -> None:
    """Set the paths by name, as the worker gives them when the jail starts, before any fork."""
    _found.update(found)


def path(name: str) -> str:
    """The path of the program. Raises FileNotFoundError if the machine does not have it."""
    if name not in _found:
        raise FileNotFoundError(f"this machine has no {name}")
    return _found[name]
