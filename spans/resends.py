"""Which requests are later tries of an earlier one, and get its answer instead of being stored.

A request whose rows all have ids needs no answer from memory: stored again, it changes nothing.
Where the server made an id, a second try would be a second row. So its answer is remembered, if
the client tells its tries apart: by an `Idempotency-Key`, or by counting them in
`x-stainless-retry-count`, as the REST clients do, which send 0 the first time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from spans.errors import BadInput
from spans.ids import Xact

RETRY_WINDOW_S = 70.0
"""How long after an answer an equal request with a higher count may be its next try, seconds.
The REST clients wait 60 s for an answer, and at most 8 s before they try again."""


class ResendName(NamedTuple):
    """What the tries of one request have in common: the API key, and a hash of 32 bytes."""

    key_id: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Resend:
    """How a request is recognised when it is tried again.

    `tries` counts the tries before this one. It is None if the client gave an Idempotency-Key,
    which alone decides then. `body_hash` has 32 bytes.
    """

    name: ResendName
    body_hash: bytes
    tries: int | None

    def is_answered_by(self, earlier: Remembered) -> bool:
        """Whether this is a later try of what got the remembered answer.

        A count that has been answered is not answered again: two clients may send equal
        requests, and each counts its own tries. Raises BadInput if the Idempotency-Key came
        with another body.
        """
        if self.tries is None:
            if self.body_hash != earlier.body_hash:
                raise BadInput(
                    "this key came with another body before: use a new key for a new request",
                    path="Idempotency-Key",
                )
            return True
        return self.tries > earlier.tries and earlier.age_s <= RETRY_WINDOW_S


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestAnswer:
    """The ids of the written rows, in the request's order, and their version `xact`."""

    row_ids: tuple[str, ...]
    xact: Xact


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """An answer, the latest try that got it, and when that was, in seconds before now.

    `answer` is a number until the answer is made: the place in the group of the request that it
    will be the answer to.
    """

    body_hash: bytes
    tries: int
    age_s: float
    answer: IngestAnswer | int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAnswers:
    """Where the answers of a group's requests come from.

    `sources` has one item for each request: an answer that was given before, or the place in
    the group of the request whose answer it gets; its own, if it is to be stored. `remembered`
    is what is to be remembered anew.
    """

    sources: tuple[IngestAnswer | int, ...]
    remembered: Mapping[ResendName, Remembered]


def answers_of(
    resends: Iterable[Resend | None], known: Mapping[ResendName, Remembered]
) -> GroupAnswers:
    """What the requests of a group get, in their order, after what is `known` already.

    None stands for a request that needs no memory. Raises BadInput (see `is_answered_by`).
    """
    sources: list[IngestAnswer | int] = []
    remembered: dict[ResendName, Remembered] = {}
    for place, resend in enumerate(resends):
        if resend is None:
            sources.append(place)
            continue
        earlier = remembered.get(resend.name) or known.get(resend.name)
        is_later_try = earlier is not None and resend.is_answered_by(earlier)
        answer = earlier.answer if earlier is not None and is_later_try else place
        sources.append(answer)
        remembered[resend.name] = Remembered(
            body_hash=resend.body_hash, tries=resend.tries or 0, age_s=0.0, answer=answer
        )
    return GroupAnswers(sources=tuple(sources), remembered=remembered)
