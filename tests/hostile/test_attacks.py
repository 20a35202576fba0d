"""Each attack runs in every kind of sandbox, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from hostile.canaries import Canaries
from hostile.cases import HERE, INVALID_SOURCE, JAVASCRIPT, PYTHON, Case, sources
from hostile.cell import MEMORY_MB, Cell, Owned
from hostile.worker import ROOT

from ops.servers.children import wait_until
from scorers.sandbox.model import Runtime
from scorers.sandbox.place import find_place

# An attack that ends by its own mistake, or for want of a module, has shown nothing.
MISTAKES = (
    "ModuleNotFoundError", "ImportError", "NameError", "UnboundLocalError", "AttributeError",
    "TypeError", "KeyError", "IndexError", "SyntaxError", "IndentationError", "ReferenceError",
    "Cannot find module", "ERR_MODULE_NOT_FOUND", "ERR_UNKNOWN_BUILTIN_MODULE",
)
# Their very subject is what the compiler, the importer or the encoder says.
MAY_BE_MISTAKEN = {"compile_bomb", "import_host_paths", "import_escape", "result_nan"}

CONTROL_S = 20.0
CONTROL_FILE_BYTES = 64 << 20


def named(cases: tuple[Case, ...]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[each.name for each in cases])


@named(PYTHON)
def test_a_python_attack_is_contained(case: Case, cell: Cell):
    jails = cell.jails("attacker", Runtime.PYTHON)
    for _ in range(case.runs):
        if case.name == "compile_bomb":
            records = [(source, cell.record()) for source in sources(case, "python")]
        else:
            (source,) = sources(case, "python")
            records = [(source, cell.record(variant=each)) for each in range(case.variants)]
        for source in dict.fromkeys(source for source, _ in records):
            own = [record for each, record in records if each == source]
            times = {"time_s": case.time_s, "load_s": case.load_s}
            rans = cell.run("attacker", Runtime.PYTHON, source, own, limits=times)
            for variant, ran in enumerate(rans):
                assert_contained(case, cell, ran, variant)
        cell.assert_quiet("attacker", Runtime.PYTHON)
    assert cell.jails("attacker", Runtime.PYTHON) == jails, "the sandbox itself was ended"


@named(JAVASCRIPT)
def test_a_javascript_attack_is_contained(case: Case, cell: Cell):
    (source,) = sources(case, "javascript")
    checked = cell.worker.ask("transpile", code=source)
    if checked["problem"]:
        assert INVALID_SOURCE in case.ended, checked
        return
    jails = cell.jails("scripter", Runtime.NODE)
    records = [cell.record(variant=each) for each in range(case.variants)]
    code = checked["program"]["code"]
    times = {"time_s": case.time_s, "load_s": case.load_s}
    rans = cell.run("scripter", Runtime.NODE, code, records, limits=times)
    for variant, ran in enumerate(rans):
        assert_contained(case, cell, ran, variant)
    cell.assert_quiet("scripter", Runtime.NODE)
    assert cell.jails("scripter", Runtime.NODE) == jails, "the sandbox itself was ended"


@pytest.mark.parametrize(
    "name", ["module_level_bomb", "compile_bomb", "code_executes_at_check"]
)
def test_looking_at_a_source_executes_nothing_of_it(name: str, cell: Cell):
    (case,) = (each for each in PYTHON if each.name == name)
    for source in sources(case, "python"):
        checked = cell.worker.ask("check", code=source)
        assert bool(checked["problem"]) != bool(checked["program"]), checked
    cell.assert_quiet("attacker", Runtime.PYTHON)


def test_the_self_test_proves_each_kind(cell: Cell):
    proof = cell.worker.ask("prove")
    assert proof["ok"], proof


def assert_contained(case: Case, cell: Cell, ran: dict[str, Any], variant: int) -> None:
    ended = ran["ended"]
    shown = f"{case.name} {variant}: {str(ran)[:1500]}"
    assert ended in case.ended, shown
    if ended == "error" and case.name not in MAY_BE_MISTAKEN:
        assert not [word for word in MISTAKES if word in ran["detail"]], f"INVALID: {shown}"
    if not case.scores_itself:
        assert 1.0 not in [score["value"] for score in ran["scores"]], f"it worked: {shown}"
    cell.assert_tells_nothing(ran)


@named(tuple(each for each in PYTHON if each.control))
def test_a_python_attack_works_where_nothing_contains_it(
    case: Case, canaries: Canaries, tmp_path: Path
):
    path = HERE / "python" / f"{case.name}.py"
    command = [sys.executable, str(HERE / "bare.py"), str(path)]
    assert_works(case, command, canaries, tmp_path)


@named(tuple(each for each in JAVASCRIPT if each.control))
def test_a_javascript_attack_works_where_nothing_contains_it(
    case: Case, canaries: Canaries, tmp_path: Path
):
    place = find_place()
    script = tmp_path / "attack.mjs"
    source = (HERE / "javascript" / f"{case.name}.ts").read_bytes()
    script.write_bytes(
        subprocess.run(
            [place.esbuild, "--loader=ts", "--format=esm", "--target=node20"],
            input=source, capture_output=True, check=True,
        ).stdout
    )
    command = [str(place.node), str(HERE / "bare.mjs"), str(script)]
    assert_works(case, command, canaries, tmp_path)


def assert_works(case: Case, command: list[str], canaries: Canaries, folder: Path) -> None:
    folder.chmod(0o700)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for _ in range(case.runs):
            said = uncontained(command, canaries, folder, theirs.fileno())
    survivor = canaries.drop / "survived"
    if case.name in ("daemon_survivor", "detached_survivor"):
        assert wait_until(lambda: survivor.exists() and survivor.read_text(), deadline_s=10)
        pid = int(survivor.read_text())
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        # Else it might write once more, into the next test.
        assert wait_until(lambda: not is_alive(pid), deadline_s=10)
    else:
        answer = said["answer"]
        score = answer["score"] if isinstance(answer, dict) else answer
        assert score == 1.0, said
    canaries.disturbed()


def is_alive(pid: int) -> bool:
    """Whether the process still runs; one that only waits to be buried has ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def uncontained(
    command: list[str], canaries: Canaries, folder: Path, descriptor: int
) -> dict[str, Any]:
    """What it answers, in a folder of its own and with limits that spare this machine."""
    record = {
        "metadata": {
            "variant": 0, "memory_mb": MEMORY_MB, "port": canaries.port,
            "unix_path": str(canaries.unix_path), "unix_abstract": canaries.unix_abstract,
            "datagram_path": str(canaries.datagram_path),
            "datagram_abstract": canaries.datagram_abstract,
            "file": str(canaries.file), "drop": str(canaries.drop),
            "owned": str(Owned.made(folder, os.geteuid()).path),
            "source": str(ROOT / "wiring" / "settings.py"), "pids": [os.getpid()],
            "visible": [], "shared": [],
        },
    }
    # By way of files: a survivor keeps a pipe open.
    given, said = folder / "given.json", folder / "said.json"
    given.write_text(json.dumps({"record": record, "others": [canaries.in_record]}))
    with given.open() as asked, said.open("w") as answered:
        subprocess.run(
            command,
            stdin=asked, stdout=answered, timeout=CONTROL_S, check=True, cwd=folder,
            env={
                "PATH": "/usr/bin:/bin", "TMPDIR": str(folder),
                "CANARY": canaries.in_environment,
            },
            pass_fds=(descriptor,),
            preexec_fn=spare_the_machine,
        )
    return json.loads(said.read_text().splitlines()[-1])


def spare_the_machine() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (CONTROL_FILE_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(CONTROL_S),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
