"""The rows that every contender is given: 2 KB spans of a language model's calls.

All is a function of the seed, so that processes agree on texts without passing them on.
"""

from __future__ import annotations

import random
import string
import time
import uuid
from collections.abc import Iterator

import orjson

from spans.json import JsonObject

TEXT_CHARS = 200
"""Of `output` and `expected`: what design §10 states its figures for."""

QUESTION_CHARS = 1_150
FILTER = "metadata.tier = 'gold' and span_attributes.type = 'llm'"
"""The rule's filter; every row passes it, and each contender has to find that out."""

TEXT = (
    "the of and to in that for with on as are by this from or have an they which one you had "
    "not but all were when there can their more if has out other so what time up go about than "
    "into could state only new year some take come these know see use get like then first any "
    "work now may such give over think most even find day also after way many must look before "
    "great back through long where much should well people down own just because good each"
)
ALPHABET = (string.ascii_letters + string.digits + " .").encode()
OF_BYTE = bytes(ALPHABET[number % len(ALPHABET)] for number in range(256))


def texts(count: int, *, seed: int) -> Iterator[tuple[str, str]]:
    """`count` pairs (output, expected) of random characters: the dearest Levenshtein."""
    draw = random.Random(seed)
    for _ in range(count):
        both = draw.randbytes(2 * TEXT_CHARS).translate(OF_BYTE).decode()
        yield both[:TEXT_CHARS], both[TEXT_CHARS:]


def row_id(prefix: str, number: int) -> str:
    """The id of the row `number`."""
    return f"{prefix}-{number:07d}"


def random_id(draw: random.Random) -> str:
    """An id as the SDKs make them."""
    return str(uuid.UUID(int=draw.getrandbits(128), version=4))


def rows(
    count: int, *, seed: int, prefix: str, project_id: str | None = None
) -> Iterator[JsonObject]:
    """`count` finished root spans, each of about 2 KB as JSON.

    Their ids are `row_id`s; with an empty prefix they are random, other ones for each seed.
    """
    draw = random.Random(seed + 1)
    words = TEXT.split()
    question = " ".join(draw.choices(words, k=QUESTION_CHARS // 3))[:QUESTION_CHARS]
    ended_s = time.time()
    for number, (output, expected) in enumerate(texts(count, seed=seed)):
        turn = draw.randrange(len(question))
        row: JsonObject = {
            "id": row_id(prefix, number) if prefix else random_id(draw),
            "span_id": f"{draw.getrandbits(64):016x}",
            "root_span_id": f"{draw.getrandbits(128):032x}",
            "input": [
                {"role": "system", "content": "Answer in one sentence."},
                {"role": "user", "content": question[turn:] + question[:turn]},
            ],
            "output": output,
            "expected": expected,
            "metadata": {"tier": "gold", "model": "small-1", "user": f"u{number % 97}"},
            "metrics": {
                "start": ended_s - 0.8, "end": ended_s, "prompt_tokens": 280,
                "completion_tokens": 60,
            },
            "span_attributes": {"name": "answer", "type": "llm"},
        }
        if project_id is not None:
            row["project_id"] = project_id
        yield row


def bodies(
    count: int, *, rows_each: int, seed: int, prefix: str, project_id: str
) -> Iterator[bytes]:
    """The same rows as bodies of POST /logs3."""
    batch: list[JsonObject] = []
    for row in rows(count, seed=seed, prefix=prefix, project_id=project_id):
        batch.append(row)
        if len(batch) == rows_each:
            yield orjson.dumps({"rows": batch, "api_version": 2})
            batch = []
    if batch:
        yield orjson.dumps({"rows": batch, "api_version": 2})
