"""A pushed Python bundle: importing it, and finding the function that was meant.

The client's own library comes with the bundle and collects what the user's module defines; its
lazy mode keeps it from logging in and from running evaluations as they are defined.
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
    # What is loaded here under a name that the bundle brings would hide it: `scorers`, for one.
    brought = {each.stem for each in Path(folder).iterdir() if each.suffix in ("", ".py")}
    for name in tuple(sys.modules):
        if name.partition(".")[0] in brought:
            del sys.modules[name]
    sys.path.insert(0, folder)
    framework = importlib.import_module("braintrust.framework")
    # As the client itself does; there is no other way.
    with framework._set_lazy_load(True):  # noqa: SLF001, FBT003
        importlib.import_module("register")
    functions = importlib.import_module("braintrust.framework2").global_.functions
    if index >= len(functions):
        raise LookupError(
            f"The bundle defines {len(functions)} functions; number {index + 1} was asked for."
        )
    handler: Callable[..., object] = functions[index].handler
    return handler
