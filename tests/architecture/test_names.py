"""Each class name stands for one thing, no module is named by a gerund, no folder is flat."""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = sorted(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
FILES_MAX = 15
"""A folder with more is a flat list again: it has capabilities of its own."""

# Class names that stand for two things, each with its reason.
SHARED_NAMES: dict[str, str] = {}

# Folders that may have more files, each with its reason.
LARGE_FOLDERS = {
    "ops/commands": "a module for each subcommand of `tallyard`",
    "api": "a module for each capability, beside what all endpoints share",
    "btql": "one language, read in the order of its passes",
    "scorers/sandbox/inside": "one program, bound into jails as a whole",
    "spans": "the vocabulary that every room reads, with a module for each word",
}


def test_a_class_name_stands_for_one_thing():
    homes = defaultdict(list)
    for path in SOURCES:
        if "migrations" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(str(path.relative_to(ROOT)))
    twice = {name: paths for name, paths in homes.items() if len(paths) > 1}
    assert {name: paths for name, paths in twice.items() if name not in SHARED_NAMES} == {}
    assert set(SHARED_NAMES) <= set(twice), "a reason for a name that stands for one thing"


def test_no_folder_is_a_flat_list():
    sizes = defaultdict(int)
    for path in SOURCES:
        if path.name != "__init__.py":
            sizes[str(path.parent.relative_to(ROOT))] += 1
    large = {folder: size for folder, size in sizes.items() if size > FILES_MAX}
    assert set(large) <= set(LARGE_FOLDERS), large


def test_a_module_is_not_named_by_a_gerund():
    # `running` and the like say that something goes on, not what the module holds.
    nouns = {"planning", "sampling", "paging", "lending", "wiring", "scoring", "gc_tuning"}
    named = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        for part in (*path.relative_to(ROOT).parts[:-1], path.stem)
        if part.endswith("ing") and part not in nouns
    ]
    assert named == []
