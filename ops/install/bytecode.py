"""The project's own bytecode, so that its processes do not each compile it when they start."""

from __future__ import annotations

import compileall
import tomllib
from dataclasses import dataclass

from ops.install.environments import Environment
from ops.install.pieces import Making


@dataclass(frozen=True)
class Bytecode:
    """The bytecode of the project that is installed, editable, in the environment.

    Only the first start needs it: later, Python compiles what has changed.
    """

    environment: Environment
    name = "Tallyard's bytecode"
    after = ()

    def is_complete(self) -> bool:
        """Whether the environment is there: both are made together."""
        return self.environment.is_complete()

    def make(self, making: Making) -> None:
        """Compile all rooms, which takes half a second while packages are fetched."""
        making.now("compiles the project")
        project = self.environment.project
        if project is None:
            return
        about = tomllib.loads((project / "pyproject.toml").read_text())
        for room in about["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
            compileall.compile_dir(str(project / room), quiet=2)
