"""The endpoints of judges: where a model is asked, with which key, at which prices and limits.

One is the default, which asks all models that no other endpoint has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from scorers.judge.prices import ANY, FREE, Prices, PriceTable

DEFAULT_ENDPOINT = "default"

Api: TypeAlias = Literal["auto", "chat", "responses"]
"""Which API models speak; "auto" asks over one and then, if there is no such API, the other."""

_SETTINGS = {
    "url": "TALLYARD_JUDGE_BASE_URL", "key": "TALLYARD_JUDGE_API_KEY",
    "model": "TALLYARD_JUDGE_MODEL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One OpenAI-compatible endpoint, as it is set up.

    `models` are the names of the models that are asked here; one that ends with `*` stands for
    all that begin so. `timeout_s` is the deadline of one HTTP call. At most `in_flight` calls
    of one process are under way at once. Its `prices` come before those of the table.
    """

    base_url: str
    api_key: str | None = field(repr=False)
    timeout_s: float
    in_flight: int
    name: str = DEFAULT_ENDPOINT
    models: tuple[str, ...] = ()
    api: Api = "auto"
    prices: Prices | None = None

    def setting(self, part: str) -> str:
        """What the operator must look at to change the endpoint's "url", "key" or "model"."""
        if self.name == DEFAULT_ENDPOINT:
            return _SETTINGS[part]
        named = "the model's name" if part == "model" else f"the {part}"
        return f"{named} of the endpoint {self.name} (TALLYARD_JUDGES)"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The default endpoint, and others by the models that are asked there.

    `table` has the prices of models whose endpoint has none.
    """

    default: Endpoint
    others: Sequence[Endpoint] = ()
    table: PriceTable = field(default_factory=PriceTable)

    def __iter__(self) -> Iterator[Endpoint]:
        yield self.default
        yield from self.others

    def of(self, model: str) -> Endpoint:
        """The endpoint that has the model by name, else by its longest beginning."""
        best, length = self.default, -1
        for endpoint in self.others:
            for pattern in endpoint.models:
                if pattern == model:
                    return endpoint
                start = pattern.removesuffix(ANY)
                if start != pattern and model.startswith(start) and len(start) > length:
                    best, length = endpoint, len(start)
        return best

    def prices_of(self, model: str | None) -> Prices | None:
        """What the model costs; None if nobody knows. No model stands for moderation."""
        if model is None:
            return FREE
        return self.of(model).prices or self.table.of(model)


def url_problem(base_url: str) -> str | None:
    """Why no calls can be made to the URL; None if they can."""
    try:
        parts = urlsplit(base_url)
        _ = parts.port  # reading it raises ValueError for a bad port
    except ValueError:   # whose message quotes a part of the URL, perhaps of a password
        return "is not a URL, or its port is no number"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "must start with http:// or https://"
    if parts.username or parts.password or parts.query or parts.fragment:
        return "must not hold a user, password or query: the key has a place of its own"
    return None


def key_problem(api_key: str | None) -> str | None:
    """Why the key cannot be sent; None if it can."""
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        return "holds a character that an HTTP header cannot carry"
    return None
