"""Reads and writes the YAML of rule files, scorer files and settings given to commands.

The language is YAML 1.2, in which `on`, `no` and `12:30` are strings. Values are reduced to
those of JSON: keys and dates are strings, as they are written in the file.
"""

from __future__ import annotations

import io
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from spans.errors import BadInput
from spans.json import Json, JsonObject
from wiring.text_files import read_text_file

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_SCALARS = frozenset(f"{_TAG}{kind}" for kind in ("null", "bool", "int", "float"))
_TEXTS = frozenset(f"{_TAG}{kind}" for kind in ("str", "timestamp", "value"))   # value is "="
_COLLECTIONS = frozenset(f"{_TAG}{kind}" for kind in ("seq", "map"))


def read_yaml_file(file: Path) -> Json:
    """The file's content; None if it is empty. Raises BadInput, which names file and line."""
    return read_yaml(read_text_file(file), source=str(file))


def read_yaml(text: str, *, source: str) -> Json:
    """The text's content; None if it is empty. Raises BadInput, which names source and line."""
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
        return None if node is None else _Document(yaml, source).value(node)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = ", ".join(filter(None, (error.context, error.problem)))
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character U+{error.character:04X} is not allowed"
    except RecursionError:
        line, problem = 1, "it is nested too deeply"
    raise BadInput(f"{source}:{line}: not valid YAML: {problem}")


def write_yaml(content: JsonObject) -> str:
    """The content as YAML text, its keys in their order. `read_yaml` gives the same content."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    # The library declares the type of this attribute as None only.
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    written = io.StringIO()
    yaml.dump(content, written)
    return written.getvalue()


class _Document:
    """Turns the nodes of one YAML document, which the library parsed, into JSON values."""

    def __init__(self, yaml: YAML, source: str) -> None:
        self._yaml = yaml
        self._source = source
        self._within: list[Node] = []

    def value(self, node: Node) -> Json:
        """The node's value. Raises BadInput for a value that JSON cannot hold."""
        if node in self._within:
            raise self._refused(node, "an alias refers to a value that contains it")
        if node.tag not in _SCALARS | _TEXTS | _COLLECTIONS:
            raise self._refused(node, f"the tag {node.tag} is not known")
        self._within.append(node)
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node)
            if isinstance(node, SequenceNode):
                return [self.value(item) for item in node.value]
            return self._scalar(node)
        finally:
            self._within.pop()

    def _scalar(self, node: Node) -> Json:
        if node.tag in _TEXTS:
            return str(node.value)
        try:
            value: Json = self._yaml.constructor.construct_object(node)
        except (ValueError, KeyError) as error:   # the file gives a tag: `!!int x`
            kind = str(node.tag).removeprefix(_TAG)
            # The value is not shown: it may be a key.
            raise self._refused(node, f"the value is not of the type {kind}") from error
        return value

    def _mapping(self, node: MappingNode) -> JsonObject:
        """The mapping's own keys, each once, over the keys that `<<` merges in."""
        own: JsonObject = {}
        merged: JsonObject = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise self._refused(key, "a key must be a string")
            name = str(key.value)
            if name in lines:
                raise self._refused(
                    key, f"the key {name!r} is given twice, first on line {lines[name]}"
                )
            lines[name] = _line(key)
            if key.tag == _MERGE:
                merged = self._merged(value)
            else:
                own[name] = self.value(value)
        return {**merged, **own}

    def _merged(self, node: Node) -> JsonObject:
        """The keys that `<<` merges in. Of several mappings, the first has precedence."""
        merged: JsonObject = {}
        for item in node.value if isinstance(node, SequenceNode) else [node]:
            content = self.value(item)
            if not isinstance(content, dict):
                raise self._refused(item, "`<<` can only merge mappings")
            merged = {**content, **merged}
        return merged

    def _refused(self, node: Node, problem: str) -> BadInput:
        return BadInput(f"{self._source}:{_line(node)}: {problem}")


def _line(node: Node) -> int:
    """The line of the node, from 1."""
    line: int = node.start_mark.line
    return line + 1
