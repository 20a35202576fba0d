"""The types of parsed JSON."""

from __future__ import annotations

from typing import TypeAlias

from typing_extensions import TypeAliasType

# Recursive, so it needs a name of its own: pydantic finds it by that name. From Python 3.12 on
# the statement `type` does the same.
Json = TypeAliasType("Json", "bool | int | float | str | list[Json] | dict[str, Json] | None")
JsonObject: TypeAlias = dict[str, Json]
