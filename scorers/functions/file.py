"""Makes a function of a file of Python, TypeScript, JavaScript, or YAML (an LLM judge)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from spans.errors import BadInput
from spans.json import Json, JsonObject

RUNTIMES: Mapping[str, tuple[str, str]] = {
    ".py": ("python", "3"), ".ts": ("node", "20"), ".mts": ("node", "20"),
    ".js": ("node", "20"), ".mjs": ("node", "20"),
}
"""The runtime of a file and its least version, by the file's suffix."""

YAML = (".yaml", ".yml")
JUDGE_KEYS = frozenset({
    "name", "slug", "description", "model", "params", "prompt", "messages", "choice_scores",
    "use_cot", "allow_skip", "metadata",
})
EMPTY = "the file is empty"
_NOT_IN_SLUGS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """The name and slug of a scorer, if its file is not to decide them."""

    name: str | None = None
    slug: str | None = None


def code_function(stem: str, suffix: str, code: str, naming: Naming) -> JsonObject:
    """The body of a function whose code is in the file `stem` + `suffix`. Raises BadInput."""
    if suffix not in RUNTIMES:
        known = ", ".join((*RUNTIMES, *YAML))
        raise BadInput(f"a scorer's file must end in one of {known}, not in {suffix!r}")
    if not code.strip():
        raise BadInput(EMPTY)
    runtime, version = RUNTIMES[suffix]
    inline: Json = {
        "type": "inline", "code": code,
        "runtime_context": {"runtime": runtime, "version": version},
    }
    name = naming.name or stem
    return {
        "name": name, "slug": naming.slug or slug_of(naming.name or stem),
        "function_type": "scorer", "function_data": {"type": "code", "data": inline},
    }


def judge_function(stem: str, content: Json, naming: Naming) -> JsonObject:
    """The body of an LLM judge, from its parsed YAML: {name?, slug?, description?, model?,
    params?, prompt | messages, choice_scores, use_cot?, allow_skip?, metadata?}.

    Raises BadInput for an unknown key. The values are checked later, by `read_function`.
    """
    if content is None:
        raise BadInput(EMPTY)
    if not isinstance(content, dict):
        raise BadInput(
            "the file must hold an object with prompt or messages, and choice_scores"
        )
    if unknown := content.keys() - JUDGE_KEYS:
        raise BadInput(
            f"unknown keys: {', '.join(sorted(unknown))}; "
            f"the known ones are {', '.join(sorted(JUDGE_KEYS))}"
        )
    if ("prompt" in content) == ("messages" in content):
        raise BadInput(
            "set either prompt (a text) or messages (a list, each with role and content)"
        )
    prompt: Json = (
        {"type": "completion", "content": content["prompt"]} if "prompt" in content
        else {"type": "chat", "messages": content["messages"]}
    )
    name = naming.name or content.get("name") or stem
    slug = naming.slug or content.get("slug") or slug_of(str(name))
    parser: Json = {
        "type": "llm_classifier", "choice_scores": content.get("choice_scores"),
        "use_cot": content.get("use_cot", False),
        "allow_skip": content.get("allow_skip", False),
    }
    options: Json = {"model": content.get("model"), "params": content.get("params") or {}}
    return {
        "name": name, "slug": slug, "description": content.get("description"),
        "function_type": "scorer", "function_data": {"type": "prompt"},
        "prompt_data": {"prompt": prompt, "options": options, "parser": parser},
        "metadata": content.get("metadata"),
    }


def slug_of(name: str) -> str:
    """The name in lower case, with one hyphen for each run of characters but a-z and 0-9."""
    return _NOT_IN_SLUGS.sub("-", name.lower()).strip("-") or "scorer"
