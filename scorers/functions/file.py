"""A scorer as a file: Python, TypeScript or JavaScript, or YAML that describes an LLM judge."""

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
"""What runs a file, by its suffix. The version is what the code asks for at least."""

YAML = (".yaml", ".yml")
JUDGE_KEYS = frozenset({
    "name", "slug", "description", "model", "params", "prompt", "messages", "choice_scores",
    "use_cot", "allow_skip", "metadata",
})
EMPTY = "the file is empty"
_NOT_IN_SLUGS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How a scorer is called, where that is not left to its file."""

    name: str | None = None
    slug: str | None = None


def code_function(stem: str, suffix: str, code: str, naming: Naming) -> JsonObject:
    """The body of a function that is a file of code, `stem` + `suffix`. Raises BadInput."""
    if suffix not in RUNTIMES:
        known = ", ".join((*RUNTIMES, *YAML))
        raise BadInput(f"a scorer is a file that ends in one of {known}, not in {suffix!r}")
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

    Raises BadInput for another key; whether the values are right, `read_function` says.
    """
    if content is None:
        raise BadInput(EMPTY)
    if not isinstance(content, dict):
        raise BadInput("the file holds an object: prompt or messages, and choice_scores")
    if unknown := content.keys() - JUDGE_KEYS:
        raise BadInput(
            f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(sorted(JUDGE_KEYS))}"
        )
    if ("prompt" in content) == ("messages" in content):
        raise BadInput("either prompt, a text, or messages, each with role and content")
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
    """The name in lower case, with a hyphen for whatever is no letter or digit."""
    return _NOT_IN_SLUGS.sub("-", name.lower()).strip("-") or "scorer"
