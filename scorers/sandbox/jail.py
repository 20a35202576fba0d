"""Starts a jail, gives it orders, and ends it with everything in it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import orjson

from scorers.sandbox import bubblewrap
from scorers.sandbox.inside import seccomp, zygote
from scorers.sandbox.place import Bind, Place, Tier, unavailable

START_S = 30.0
"""Seconds within which a jail must be ready. With autoevals preloaded, on a busy machine, a
start takes about one."""

JAIL_UID = 65532
"""The user of scorers if the worker is root. It is unused on Debian, Fedora and Alpine."""

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from scorers.sandbox.inside.zygote import main; main(sys.argv[2])"
)
_COMPLAINT_BYTES = 2000
_PROJECT = Path(__file__).parents[2]
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
_DEVICES = ("/dev/urandom", "/dev/zero")


class Jail:
    """A running jail: a zygote process that forks a supervised child for each order.

    Several threads may give it orders at once. The kernel ends the jail when the thread that
    started it ends, even if the worker is killed: so start it from a thread that stays.
    """

    def __init__(self, place: Place, binds: Sequence[Bind] = ()) -> None:
        """Start the jail, with `binds` shown in it. Raises SandboxUnavailable if that fails."""
        with ExitStack() as always, ExitStack() as failed:
            try:
                complaint = os.memfd_create("complaint", os.MFD_CLOEXEC)
                always.callback(os.close, complaint)
                self._scratch = _scratch(place)
                failed.callback(self._clear_scratch)
                self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                failed.callback(self.control.close)
                with theirs:
                    self._process = _start(
                        place, binds, self._scratch, theirs.fileno(), complaint
                    )
            except OSError as error:
                raise unavailable(f"the jail cannot be started ({error})") from error
            if not self._is_ready():
                self.end()
                raise unavailable(_said(complaint, self._process.returncode))
            failed.pop_all()

    @property
    def is_alive(self) -> bool:
        """Whether the jail is still running."""
        return self._process.poll() is None

    def line(self) -> socket.socket:
        """A socket to a new supervisor, which runs one order after another.

        Each order after the first saves the start of a supervisor. Closing the socket ends the
        supervisor. Raises OSError if the jail has ended.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(self.control, [zygote.LINE], [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        return ours

    def end(self) -> None:
        """Kill everything in the jail and remove its files. It may be called again."""
        with suppress(OSError):
            self.control.close()
        self._process.kill()
        self._process.wait()
        self._clear_scratch()

    def _clear_scratch(self) -> None:
        if self._scratch is not None:
            # Nobody writes there any more. rmtree removes links and does not follow them.
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _is_ready(self) -> bool:
        self.control.settimeout(START_S)
        try:
            return self.control.recv(len(zygote.READY)) == zygote.READY
        except OSError:
            return False
        finally:
            self.control.settimeout(None)


def _start(
    place: Place, binds: Sequence[Bind], scratch: Path | None, control: int, complaint: int
) -> subprocess.Popen[bytes]:
    outer = os.memfd_create("filter", os.MFD_CLOEXEC)
    try:
        os.write(outer, seccomp.outer_filter())
        os.lseek(outer, 0, os.SEEK_SET)
        if scratch is None:
            walls = bubblewrap.command(place, binds, filter_fd=outer)
            home = bubblewrap.HOME
        else:
            walls, home = [], str(_PROJECT)
        setting = orjson.dumps(_setting(place, binds, scratch, control)).decode()
        return subprocess.Popen(  # noqa: S603 argv is ours, no shell
            [*walls, str(place.python), "-I", "-S", "-B", "-c", _START, home, setting],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaint,
            pass_fds=(control, outer),
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(outer)


def _setting(
    place: Place, binds: Sequence[Bind], scratch: Path | None, control: int
) -> dict[str, object]:
    """The fields of a `zygote.Setting`."""
    packages = place.packages and Bind(source=place.packages, target=bubblewrap.PACKAGES)
    programs = place.programs()
    shown = [*programs, *binds, *([packages] if packages else [])]
    readable = [*map(str, place.interpreter()), *_DEVICES, str(bubblewrap.INSIDE)]
    return {
        "control": control,
        "uid": JAIL_UID if os.geteuid() == 0 else None,
        "packages": place.seen(packages) if packages else None,
        "preload": place.preload,
        "programs": {Path(each.target).name: place.seen(each) for each in programs},
        "scratch": str(scratch) if scratch else None,
        "readable": [*readable, *(str(each.source) for each in shown)],
        "writable": [str(each.source) for each in binds if each.writable],
    }


def _scratch(place: Place) -> Path | None:
    """In tier B, a new folder in which each run gets its own; in tier A None."""
    if place.tier is Tier.BUBBLEWRAP:
        return None
    try:
        made = Path(tempfile.mkdtemp(prefix="tallyard-sandbox-", dir=place.scratch))
        if os.geteuid() == 0:
            os.chown(made, JAIL_UID, JAIL_UID)
    except OSError as error:
        raise unavailable(f"the folder for its files cannot be made ({error})") from error
    return made


def _said(complaint: int, code: int | None) -> str:
    """The last line that the jail wrote to stderr before it ended, for a message."""
    start = max(0, os.fstat(complaint).st_size - _COMPLAINT_BYTES)
    text = os.pread(complaint, _COMPLAINT_BYTES, start)
    lines = text.decode(errors="replace").strip().splitlines() or ["it said nothing"]
    return f"the jail did not start (exit {code}): {lines[-1]}"
