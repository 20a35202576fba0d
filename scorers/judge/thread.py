"""Makes a trace's conversation available to templates, and turns values into prompt text."""

from __future__ import annotations

from scorers.arguments import as_text
from spans.json import Json, JsonObject

ROLE_CHARACTERS_MAX = 40


class ThreadMessage(dict[str, Json]):
    """One message. A section sees an object; as a value it reads `role: content`."""


class Thread(list[Json]):
    """Messages in order. A section sees a list; as a value they read as a transcript."""


def thread_variables(messages: list[Json]) -> JsonObject:
    """The variables by which templates use a conversation; `messages` are {role, content}.

    `thread` leaves out the system messages. All other variables but `thread_with_system` are
    taken from `thread`.
    """
    with_system = Thread(
        ThreadMessage(message) for message in messages if isinstance(message, dict)
    )
    thread = Thread(message for message in with_system if _role(message) != "system")
    users = Thread(message for message in thread if _role(message) == "user")
    assistants = Thread(message for message in thread if _role(message) == "assistant")
    pairs: list[Json] = [
        {"human": human, "assistant": assistant}
        for human, assistant in zip(users, assistants, strict=False)  # the last may be missing
    ]
    return {
        "thread": thread,
        "thread_with_system": with_system,
        "thread_count": len(thread),
        "first_message": thread[0] if thread else None,
        "last_message": thread[-1] if thread else None,
        "user_messages": users,
        "assistant_messages": assistants,
        "human_ai_pairs": pairs,
    }


def prompt_text(value: Json) -> str:
    """The value as a prompt shows it: a string or message as text, anything else as JSON."""
    match value:
        case Thread():
            return "\n\n".join(_turn(message) for message in value)
        case ThreadMessage():
            return f"{_role(value)}: {_content(value)}"
        case _:
            return as_text(value)


def _turn(message: Json) -> str:
    # The content is indented, so that no line of it can pass for the start of another message.
    lines = _content(message).split("\n")
    return f"{_role(message).capitalize()}:\n" + "\n".join(f"  {line}" for line in lines)


def _role(message: Json) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    return " ".join(as_text(role or "unknown").split())[:ROLE_CHARACTERS_MAX]


def _content(message: Json) -> str:
    """The text of a message, whether it is a string or a list of parts."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return "" if content is None else as_text(content)
    return "\n".join(
        str(part["text"]) if isinstance(part, dict) and "text" in part else as_text(part)
        for part in content
    )
