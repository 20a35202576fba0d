"""A Protocol is a promise that more than one class keeps: the product's own, or a fake's."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = sorted(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
TESTS = ROOT / "tests"
FAKES = TESTS / "fakes"

# Protocols that one class meets, each with its reason.
ALONE = {
    "ops.servers.children.ChildProcess": "the other implementation is the library's Popen",
    "scorers.results.AutoevalsScore": "the type of a class of autoevals, which ships no types",
}


def modules_of(folder: Path, base: Path) -> Iterator[str]:
    """The importable modules of a folder that define a class."""
    for path in sorted(folder.rglob("*.py")):
        is_outside = {"migrations", "inside"} & set(path.parts) or path.stem == "__main__"
        if not is_outside and re.search(r"^class \w", path.read_text(), re.MULTILINE):
            yield ".".join(path.relative_to(base).with_suffix("").parts)


def classes_of(folder: Path, base: Path) -> dict[str, type]:
    """The classes of a folder, by module and name."""
    return {
        f"{name}.{each.__qualname__}": each
        for name in modules_of(folder, base)
        for each in vars(importlib.import_module(name)).values()
        if isinstance(each, type) and each.__module__ == name
    }


PRODUCT = {name: each for room in ROOMS for name, each in classes_of(ROOT / room, ROOT).items()}
PROTOCOLS = {
    name: each for name, each in PRODUCT.items() if getattr(each, "_is_protocol", False)
}
FAKE = classes_of(FAKES, TESTS)


def members_of(protocol: type) -> dict[str, Any]:
    """What a class must have to meet the Protocol, also what its bases ask for."""
    return {
        name: member
        for base in reversed(protocol.__mro__)
        if getattr(base, "_is_protocol", False) and base is not Protocol
        for name, member in vars(base).items()
        if not name.startswith("_") or name == "__call__"
    }


def shape_of(function: Any) -> tuple[bool, list[tuple[str, Any]]]:
    """Whether it is async, and the name and kind of each parameter that a caller must give."""
    parameters = inspect.signature(function).parameters.values()
    required = [
        (each.name, each.kind) for each in parameters if each.default is inspect.Parameter.empty
    ]
    return inspect.iscoroutinefunction(function), required


def accepts(function: Any, promised: Any) -> bool:
    """Whether the function can be called wherever the promised one can."""
    own = inspect.signature(function).parameters
    return shape_of(function) == shape_of(promised) and all(
        name in own and own[name].kind == parameter.kind
        for name, parameter in inspect.signature(promised).parameters.items()
    )


def meets(each: type, protocol: type) -> bool:
    """Whether the class has every member of the Protocol, in the promised form."""
    fields = {name for base in each.__mro__ for name in inspect.get_annotations(base)}
    for name, promised in members_of(protocol).items():
        own = inspect.getattr_static(each, name, None)
        if isinstance(promised, property):
            if own is None and name not in fields:
                return False
        elif not inspect.isfunction(own) or not accepts(own, promised):
            return False
    return True


def implementations(protocol: type) -> set[str]:
    candidates = {**PRODUCT, **FAKE}
    return {
        name for name, each in candidates.items()
        if name not in PROTOCOLS and meets(each, protocol)
    }


def test_a_protocol_has_a_second_implementation_or_a_fake() -> None:
    alone = {
        name: sorted(found)
        for name, protocol in PROTOCOLS.items()
        if len(found := implementations(protocol)) < 2
    }
    assert alone.keys() == ALONE.keys(), alone


def test_a_fake_of_a_protocol_is_used_by_a_test() -> None:
    imported = {
        node.module
        for path in TESTS.rglob("*.py") if FAKES not in path.parents
        for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
    }
    homes = {
        name.rpartition(".")[0]
        for protocol in PROTOCOLS.values() for name in implementations(protocol) if name in FAKE
    }
    assert homes - imported == set()


def test_a_class_that_says_that_it_implements_a_protocol_does() -> None:
    by_name = {name.rpartition(".")[2]: protocol for name, protocol in PROTOCOLS.items()}
    claimed = {
        name: [by_name[word] for word in re.findall(r"\w+", paragraph) if word in by_name]
        for name, each in {**PRODUCT, **FAKE}.items()
        for paragraph in (inspect.getdoc(each) or "").split("\n\n")
        if paragraph.startswith("Implements ")
    }
    assert len(claimed) > len(PROTOCOLS)      # the docstrings are found
    assert {name for name, protocols in claimed.items() if not protocols} == set()
    broken = {
        name for name, protocols in claimed.items() for protocol in protocols
        if not meets({**PRODUCT, **FAKE}[name], protocol)
    }
    assert broken == set()


class OneMethod(Protocol):
    @property
    def size(self) -> int: ...

    def put(self, key: str, *, at: int) -> None: ...


class Good:
    size = 1

    def put(self, key: str, *, at: int, twice: bool = False) -> None: ...


class WithoutTheProperty:
    def put(self, key: str, *, at: int) -> None: ...


class WithAnotherName:
    size = 1

    def put(self, name: str, *, at: int) -> None: ...


class WithMoreToGive:
    size = 1

    def put(self, key: str, *, at: int, twice: bool) -> None: ...


class Async:
    size = 1

    async def put(self, key: str, *, at: int) -> None: ...


def test_a_class_meets_a_protocol_only_with_each_member_in_the_promised_form() -> None:
    others = (WithoutTheProperty, WithAnotherName, WithMoreToGive, Async)
    assert meets(Good, OneMethod)
    assert [each.__name__ for each in others if meets(each, OneMethod)] == []
