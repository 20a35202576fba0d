"""Makes JavaScript of a TypeScript scorer and finds its handler, without executing it.

Types are removed and not checked, because a type checker can be made to run for ever. Packages
are not bundled: the source may import a few of node's own modules. For anything else its author
pushes a bundle.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from scorers.sandbox.inside import arguments, programs
from scorers.sandbox.inside.job import Powers

POWERS = Powers(may_execute=True, processes=32, limits_address_space=False)

MODULE_CHECK = Path(__file__).with_name("module_check.cjs")
ESBUILD_FLAGS = (
    "--loader=ts", "--format=esm", "--target=node20", "--charset=utf8",
    "--log-level=error", "--log-limit=1", "--color=false",
)
NODE_FLAGS = ("--expose-internals", "--max-old-space-size=128", "--stack-size=900")
# This list is no security boundary. No other module of node's is of use in a jail.
IMPORTS = frozenset(
    {"assert", "buffer", "crypto", "path", "querystring", "string_decoder", "url", "util"}
)
PLACE = re.compile(r"^\s*<stdin>:(\d+):(\d+):", re.MULTILINE)
MESSAGE = re.compile(r"\[ERROR\] (.+)")
MESSAGE_CHARACTERS = 500
NODE_NEEDED = "TypeScript scorers need Node.js on the workers"
ESBUILD_NEEDED = "TypeScript scorers need esbuild on the workers"


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """For {code}, answer {code, parameters} or {problem, line, column}.

    The code in the answer exports `handler`, or has a default export. `parameters` are the
    names that the handler takes; null means all.
    """
    source: str = request["code"]
    needed = NODE_NEEDED
    try:
        node = programs.path("node")
        needed = ESBUILD_NEEDED
        esbuild = programs.path("esbuild")
    except FileNotFoundError:
        return _problem(needed)
    made = _run([esbuild, *ESBUILD_FLAGS], source)
    if made.returncode != 0:
        return _refused(made.stderr)
    code = made.stdout
    looked = _run([node, *NODE_FLAGS, str(MODULE_CHECK)], code)
    if looked.returncode != 0:
        return _problem("The source is nested too deeply, or too large, to be checked.")
    found: dict[str, Any] = json.loads(looked.stdout)
    for name in found.get("imports", ()):
        if name.removeprefix("node:") not in IMPORTS:
            return _refused_import(name, source)
    if "problem" in found:
        return _problem(found["problem"])
    if "alias" in found:
        code = f"{code}export {{ {found['alias']} as handler }};\n"
    parameters = found["parameters"]
    if parameters is None:
        parameters = arguments.unless_declared(source)
    return {"code": code, "parameters": parameters}


def _run(command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    # A lone surrogate cannot be encoded, so it becomes a question mark.
    return subprocess.run(  # noqa: S603 the paths are the host's
        command, input=text, capture_output=True, check=False,
        env=programs.ENVIRONMENT, encoding="utf-8", errors="replace",
    )


def _refused(said: str) -> dict[str, Any]:
    message = MESSAGE.search(said)
    place = PLACE.search(said)
    return {
        "problem": f"SyntaxError: {message[1]}"[:MESSAGE_CHARACTERS] if message else
        "The source is nested too deeply, or too large, to be transpiled.",
        "line": int(place[1]) if place else None,
        "column": int(place[2]) + 1 if place else None,
    }


def _refused_import(name: str, source: str) -> dict[str, Any]:
    allowed = ", ".join(f"node:{each}" for each in sorted(IMPORTS))
    problem = (
        f"invalid source: it imports {name[:100]!r}, but a scorer that is not a bundle may "
        f"import only {allowed}. For packages, push a bundle."
    )
    for number, line in enumerate(source.splitlines(), start=1):
        column = max(line.find(f"{quote}{name}{quote}") for quote in "\"'`")
        if column >= 0:
            return {"problem": problem, "line": number, "column": column + 1}
    return _problem(problem)


def _problem(problem: str) -> dict[str, Any]:
    return {"problem": problem, "line": None, "column": None}
