"""What a JSON value is, once it has been parsed."""

from __future__ import annotations

from typing import TypeAlias

from typing_extensions import TypeAliasType

# Recursive, and known by its name to who reads dataclasses of it (`type`, from 3.12 on).
Json = TypeAliasType("Json", "bool | int | float | str | list[Json] | dict[str, Json] | None")
JsonObject: TypeAlias = dict[str, Json]
