"""What a JSON value is, once it has been parsed."""

from __future__ import annotations

from typing import TypeAlias

# Recursive aliases need `type` (3.12); mypy understands this quoted form on 3.11.
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = dict[str, Json]
