"""Where in this jail the few programs are that a job may become or start."""

from __future__ import annotations

ENVIRONMENT = {
    "PATH": "/usr/bin",
    "HOME": "/tmp",  # noqa: S108 the jail's own
    "TMPDIR": "/tmp",  # noqa: S108 the jail's own
    "LANG": "C.UTF-8",
    "OPENSSL_CONF": "/dev/null",  # node ends if it may see that there is one, and not read it
}
"""All that such a program finds in its environment."""

_found: dict[str, str] = {}


def register(found: dict[str, str]) -> None:
    """By name, as the worker says it when the jail starts; before any fork."""
    _found.update(found)


def path(name: str) -> str:
    """Raises FileNotFoundError if the machine has none."""
    if name not in _found:
        raise FileNotFoundError(f"this machine has no {name}")
    return _found[name]
