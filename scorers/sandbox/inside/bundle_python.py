"""Imports a pushed Python bundle and finds one of its functions.

The client's own library comes with the bundle and collects the functions that the user's module
defines. Its lazy mode keeps it from logging in, and from running evaluations when they are
defined.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path


def load_handler(folder: str, index: int) -> Callable[..., object]:
    """The handler of the bundle's function `index`. Executes the user's modules.

    Raises LookupError if there are fewer functions, and whatever the modules raise.
    """
    # A module that is loaded here already would hide the bundle's own module of the same name,
    # such as `scorers`.
    brought = {each.stem for each in Path(folder).iterdir() if each.suffix in ("", ".py")}
    for name in tuple(sys.modules):
        if name.partition(".")[0] in brought:
            del sys.modules[name]
    sys.path.insert(0, folder)
    framework = importlib.import_module("braintrust.framework")
    # The client's own command line uses these private names; there is no public way.
    with framework._set_lazy_load(True):  # noqa: SLF001, FBT003
        importlib.import_module("register")
    functions = importlib.import_module("braintrust.framework2").global_.functions
    if index >= len(functions):
        raise LookupError(
            f"The bundle defines {len(functions)} functions; number {index + 1} was asked for."
        )
    handler: Callable[..., object] = functions[index].handler
    return handler
