"""Builds the command line of bubblewrap that makes a jail (tier A).

A jail contains only what is named here. It has no accounts, no shell, no program but the
interpreter (and node or esbuild), and of the project's files only `scorers/sandbox/inside`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from scorers.sandbox.place import Bind, Place

HOME = "/opt/tallyard"
"""The folder from which code in the jail imports `scorers.sandbox.inside`."""

PACKAGES = "/opt/packages"
BUNDLE = "/bundle"
BUILD = "/build"

INSIDE = Path(__file__).parent / "inside"

_ROOT_BYTES = 4 * 1024 * 1024             # it holds only folders and mount points
_SMALL_BYTES = 1024 * 1024
_NOBODY = "65534"
_ENVIRONMENT = {"PATH": "/usr/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "TMPDIR": "/tmp"}  # noqa: S108


def command(place: Place, binds: Sequence[Bind], *, filter_fd: int) -> list[str]:
    """The command line up to the program to run.

    `filter_fd` is an open descriptor of the outer seccomp filter.
    """
    system = [Bind(source=each, target=str(each)) for each in place.interpreter()]
    shown = [*system, *_ours(place), *place.programs(), *binds]
    as_root = os.geteuid() == 0
    return [
        str(place.bubblewrap),
        "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
        "--unshare-cgroup-try", "--die-with-parent", "--new-session", "--clearenv",
        "--hostname", "scorer",
        *_tmpfs("/", _ROOT_BYTES),
        *_folders(each.target for each in shown),
        *_bound(shown),
        "--proc", "/proc",
        "--dev", "/dev",
        *_tmpfs("/dev/shm", _SMALL_BYTES),  # noqa: S108 the jail's own
        # In a user namespace, all mounts belong to the jail's user, who could write to them. So
        # each one is made read-only by itself.
        "--remount-ro", "/dev/shm", "--remount-ro", "/dev",  # noqa: S108
        *_tmpfs("/tmp", _SMALL_BYTES), "--remount-ro", "/",  # noqa: S108 the jail's own
        *(_powers_of_root() if as_root else _mapped_user()),
        "--seccomp", str(filter_fd),
        *(word for name, value in _ENVIRONMENT.items() for word in ("--setenv", name, value)),
        "--",
    ]  # fmt: skip


def _powers_of_root() -> list[str]:
    """The flags if the worker is root: the zygote later becomes another, real user.

    A user that is only mapped would still be root to the kernel, and root has no limit on its
    number of processes.
    """
    return ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]


def _mapped_user() -> list[str]:
    return ["--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY, "--cap-drop", "ALL"]


def _ours(place: Place) -> list[Bind]:
    found = [Bind(source=INSIDE, target=f"{HOME}/scorers/sandbox/inside")]
    if place.packages is not None:
        found.append(Bind(source=place.packages, target=PACKAGES))
    return found


def _folders(targets: Iterable[str]) -> list[str]:
    """The flags that make every parent folder readable for all.

    bubblewrap itself makes missing parents readable for root alone.
    """
    whole = {PurePath(each) for each in targets}
    parents = {
        parent
        for target in whole
        for parent in target.parents
        if parent != PurePath("/") and whole.isdisjoint((parent, *parent.parents))
    }
    ordered = sorted(parents, key=lambda each: len(each.parts))
    return [word for each in ordered for word in ("--perms", "0755", "--dir", str(each))]


def _bound(binds: Sequence[Bind]) -> list[str]:
    return [
        word
        for each in binds
        for word in ("--bind" if each.writable else "--ro-bind", str(each.source), each.target)
    ]


def _tmpfs(target: str, size: int) -> list[str]:
    """The flags for a file system in memory, which without a size could take half of it."""
    return ["--size", str(size), "--tmpfs", target]
