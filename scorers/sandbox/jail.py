"""One jail: started, given orders, and ended with everything in it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import orjson

from scorers.sandbox import bubblewrap
from scorers.sandbox.bubblewrap import Bind
from scorers.sandbox.inside import seccomp, zygote
from scorers.sandbox.place import Place, Tier, unavailable

START_S = 30.0
"""Until a jail must be ready; with autoevals preloaded on a busy machine it takes a second."""

JAIL_UID = 65532
"""Who scorers are when the worker is root: nobody's on Debian, Fedora and Alpine."""

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from scorers.sandbox.inside.zygote import main; main(sys.argv[2])"
)
_COMPLAINT_BYTES = 2000
_PROJECT = Path(__file__).parents[2]


class Jail:
    """A running jail. It may be given orders from several threads at once.

    It ends with the thread that started it, however that ends: start it from one that stays.
    """

    def __init__(self, place: Place, binds: Sequence[Bind] = ()) -> None:
        """Raises SandboxUnavailable if it does not come up."""
        complaint = os.memfd_create("complaint", os.MFD_CLOEXEC)
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = _start(place, binds, theirs.fileno(), complaint)
            self.control.settimeout(START_S)
            try:
                is_ready = self.control.recv(64) == zygote.READY
            except OSError:
                is_ready = False
            if not is_ready:
                self.end()
                raise unavailable(_said(complaint, self._process.returncode))
            self.control.settimeout(None)
        finally:
            os.close(complaint)

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def end(self) -> None:
        """Kill everything in it. Harmless if it has ended."""
        with suppress(OSError):
            self.control.close()
        self._process.kill()
        self._process.wait()


def _start(
    place: Place, binds: Sequence[Bind], control: int, complaint: int
) -> subprocess.Popen[bytes]:
    outer = os.memfd_create("filter", os.MFD_CLOEXEC)
    try:
        os.write(outer, seccomp.outer_filter())
        os.lseek(outer, 0, os.SEEK_SET)
        return subprocess.Popen(  # noqa: S603 argv is ours, no shell
            _argv(place, binds, control, outer),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaint,
            pass_fds=(control, outer),
            env={"PATH": "/usr/bin:/bin"},
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise unavailable(f"{place.bubblewrap} cannot be started ({error})") from error
    finally:
        os.close(outer)


def _argv(place: Place, binds: Sequence[Bind], control: int, outer: int) -> list[str]:
    setting: dict[str, object] = {
        "control": control,
        "uid": JAIL_UID if os.geteuid() == 0 else None,
        "packages": bubblewrap.PACKAGES if place.packages else None,
        "preload": place.preload,
        "programs": {},
        "scratch": None,
        "readable": (),
        "writable": (),
    }
    python = [str(place.python), "-I", "-S", "-B", "-c", _START]
    if place.tier is Tier.BUBBLEWRAP:
        programs = _programs(place)
        setting["programs"] = {Path(each.target).name: each.target for each in programs}
        walls = bubblewrap.command(place, [*binds, *programs], filter_fd=outer)
        return [*walls, *python, bubblewrap.HOME, orjson.dumps(setting).decode()]
    raise unavailable("tier B is not here")


def _programs(place: Place) -> list[Bind]:
    found = (("node", place.node), ("esbuild", place.esbuild))
    return [
        Bind(source=path, target=f"/usr/bin/{name}") for name, path in found if path is not None
    ]


def _said(complaint: int, code: int | None) -> str:
    """What the jail said before it ended."""
    text = os.pread(complaint, _COMPLAINT_BYTES, max(0, os.fstat(complaint).st_size - 2000))
    lines = text.decode(errors="replace").strip().splitlines() or ["it said nothing"]
    return f"the jail did not start (exit {code}): {lines[-1]}"
