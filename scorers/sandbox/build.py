"""Makes programs of users' code: checks source and unpacks bundles, all of it in jails.

A problem that a jail finds in the code is for its author (`CodeCheck.problem`). If no jail can
be started, that is our own failure, and is raised.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

from scorers.sandbox.bubblewrap import BUILD, BUNDLE
from scorers.sandbox.jail import JAIL_UID
from scorers.sandbox.model import (
    OURS,
    CodeCheck,
    CodeEnd,
    Limits,
    Program,
    RunResult,
    Runtime,
)
from scorers.sandbox.place import Bind, unavailable
from scorers.sandbox.pool import Sandboxes
from spans.errors import InfraError
from spans.json import JsonObject

# Enough for sources of 5 MB: node takes 200 MB of memory to check one, esbuild half of that.
SOURCE_LIMITS = Limits(time_s=10.0, memory_mb=1024, result_bytes=16 * 2**20)
# Python compiles about 1 000 files a second, and a bundle may have 20 000.
UNPACK_LIMITS = Limits(time_s=60.0, memory_mb=1024)
# Importing a bundle takes 0.3 s; with large libraries it takes seconds.
DESCRIBE_LIMITS = Limits(time_s=20.0, memory_mb=1024)

_FOLDER_MODE, _FILE_MODE = 0o755, 0o644   # readable for all, because scorers own no bundle


def check_python(sandboxes: Sandboxes, code: str) -> CodeCheck:
    """The program made from Python source, or its problem. Raises InfraError without a jail."""
    ran = sandboxes.do("check", {"code": code}, limits=SOURCE_LIMITS)
    return _of_source(ran, Runtime.PYTHON)


def transpile(sandboxes: Sandboxes, code: str) -> CodeCheck:
    """The program made from TypeScript or JavaScript, or its problem.

    Raises InfraError if no jail could be started.
    """
    ran = sandboxes.do("transpile", {"code": code}, limits=SOURCE_LIMITS)
    return _of_source(ran, Runtime.NODE)


def unpack(
    sandboxes: Sandboxes,
    content: bytes,
    *,
    encoding: str | None,
    runtime: Runtime,
    runtime_version: str,
    index: int,
) -> CodeCheck:
    """The program for function `index` of a pushed bundle, or the bundle's problem.

    It unpacks the bundle on this machine and imports it once, in jails. `content` is the upload
    with its Content-Encoding. Raises InfraError, and SandboxUnavailable if the bundles' folder
    cannot be written. It may be repeated, and by several workers at once: a bundle that is
    unpacked already is left as it is.
    """
    problem = lay_out(
        sandboxes, content, encoding=encoding, runtime=runtime, runtime_version=runtime_version
    )
    if problem is not None:
        return CodeCheck(problem=problem)
    digest = hashlib.sha256(content).hexdigest()
    bound = Bind(source=sandboxes.place.bundle(digest), target=BUNDLE)
    program = Program(
        runtime=runtime, runtime_version=runtime_version, bundle=digest, index=index
    )
    job, asked = _description(program, sandboxes.place.seen(bound))
    ran = sandboxes.do(job, asked, limits=DESCRIBE_LIMITS, binds=(bound,))
    answer, problem = _answered(ran, "The bundle cannot be loaded")
    if problem is not None:
        return CodeCheck(problem=problem)
    return CodeCheck(program=replace(program, parameters=_parameters(answer)))


def lay_out(
    sandboxes: Sandboxes, content: bytes, *, encoding: str | None, runtime: Runtime,
    runtime_version: str,
) -> str | None:
    """Unpack the bundle, in a jail, into its folder; return the problem if it has one.

    The folder appears complete or not at all. No file in it is ever opened outside of a jail.
    """
    folder = sandboxes.place.bundle(hashlib.sha256(content).hexdigest())
    if folder.is_dir():
        return None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    except OSError as error:
        raise unavailable(f"{folder.parent} cannot be written ({error.strerror})") from error
    try:
        if os.geteuid() == 0:
            os.chown(building, JAIL_UID, JAIL_UID)   # else the jail could not write there
        building.chmod(_FOLDER_MODE)
        bound = Bind(source=building, target=BUILD, writable=True)
        asked: JsonObject = {
            "content": base64.b64encode(content).decode(), "encoding": encoding,
            "runtime": runtime.value, "runtime_version": runtime_version,
            "folder": sandboxes.place.seen(bound),
        }
        ran = sandboxes.do("unpack", asked, limits=UNPACK_LIMITS, binds=(bound,))
        if ran.ended in {CodeEnd.TIMEOUT, CodeEnd.KILLED, CodeEnd.NO_RESULT}:
            # None of the bundle's code has run yet, so the machine was too slow or too small.
            raise InfraError(f"unpacking the bundle: {ran.ended.value} {ran.detail}")
        _, problem = _answered(ran, "The bundle cannot be unpacked")
        if problem is None:
            _put(building, folder)
        return problem
    finally:
        # rmtree follows no links, and the jail, which could make some, has ended.
        shutil.rmtree(building, ignore_errors=True)


def _take_over(folder: Path) -> None:
    """Make root the owner of all unpacked files, because scorers run as the user who owns them.

    A folder comes before its contents, so that nobody can change these meanwhile. Links are not
    followed.
    """
    for _, _, names, here in os.fwalk(folder, follow_symlinks=False):
        os.fchown(here, 0, 0)
        os.fchmod(here, _FOLDER_MODE)
        for name in names:
            os.chown(name, 0, 0, dir_fd=here, follow_symlinks=False)
            if stat.S_ISREG(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
                os.chmod(name, _FILE_MODE, dir_fd=here)


def _put(building: Path, folder: Path) -> None:
    """Move the finished folder to its place.

    Raises SandboxUnavailable if it cannot be moved, or be given to root.
    """
    try:
        if os.geteuid() == 0:
            _take_over(building)
        building.rename(folder)
    except OSError as error:
        if not folder.is_dir():      # else another worker was faster, with the same content
            raise unavailable(f"the bundle cannot be laid out ({error})") from error


def _description(program: Program, folder: str) -> tuple[str, JsonObject]:
    """The job, and its request, that imports a bundle and answers its handler's parameters."""
    if program.runtime is Runtime.PYTHON:
        return "describe", {"folder": folder, "index": program.index}
    told: JsonObject = {
        "bundle": True, "folder": folder, "index": program.index,
        "log_bytes": DESCRIBE_LIMITS.log_bytes, "result_bytes": DESCRIBE_LIMITS.result_bytes,
    }
    return Runtime.NODE.value, {"program": told, "records": [], "describe": True}


def _of_source(ran: RunResult, runtime: Runtime) -> CodeCheck:
    answer, problem = _answered(ran, "The source cannot be compiled")
    if problem is not None:
        line, column = answer.get("line"), answer.get("column")
        return CodeCheck(
            problem=problem,
            line=line if isinstance(line, int) else None,
            column=column if isinstance(column, int) else None,
        )
    return CodeCheck(
        program=Program(
            runtime=runtime, code=str(answer["code"]), parameters=_parameters(answer)
        )
    )


def _answered(ran: RunResult, what: str) -> tuple[JsonObject, str | None]:
    """A job's answer, and the problem that it found or that ended it."""
    if ran.ended in OURS:
        raise InfraError(ran.detail)
    if ran.ended is not CodeEnd.OK:
        return {}, f"{what}: {ran.detail or ran.ended.value}"
    if not isinstance(ran.value, dict):
        return {}, f"{what}: it answered for itself"
    problem = ran.value.get("problem")
    return ran.value, None if problem is None else str(problem)


def _parameters(answer: JsonObject) -> tuple[str, ...] | None:
    given = answer.get("parameters")
    return tuple(map(str, given)) if isinstance(given, list) else None
