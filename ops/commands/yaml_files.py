"""YAML whose keys are text as it was written.

YAML 1.1 reads `yes`, `no`, `on` and `off` as booleans, and those are what a judge's choices
are often called.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

STR = "tag:yaml.org,2002:str"


class _TextKeys(yaml.SafeLoader):
    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False  # noqa: FBT001, FBT002 it overrides
    ) -> dict[Hashable, Any]:
        self.flatten_mapping(node)   # `<<` is looked for before it becomes a text
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = STR
        return super().construct_mapping(node, deep=deep)


def read_yaml(text: str) -> Any:  # noqa: ANN401 as `yaml.safe_load`, any YAML
    """What `yaml.safe_load` gives, with every key a text. Raises yaml.YAMLError."""
    loader = _TextKeys(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
