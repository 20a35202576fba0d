"""Judges for tests, at the fake one or anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scorers.judge.client import Judge
from scorers.judge.endpoints import DEFAULT_ENDPOINT, Api, Endpoint, Endpoints
from scorers.judge.prices import Prices, PriceTable
from spans.clock import Clock, system_clock


def endpoint_at(
    url: str, *, key: str | None = "sk-judge", timeout_s: float = 5.0, in_flight: int = 256,
    api: Api = "auto", name: str = DEFAULT_ENDPOINT, models: tuple[str, ...] = (),
) -> Endpoint:
    """The default endpoint, there, or one with that name and models."""
    return Endpoint(
        base_url=url, api_key=key, timeout_s=timeout_s, in_flight=in_flight, api=api,
        name=name, models=models,
    )


def judge_at(
    url: str, *, key: str | None = "sk-judge", model: str = "m", timeout_s: float = 5.0,
    in_flight: int = 256, api: Api = "auto", others: Sequence[Endpoint] = (),
    clock: Clock = system_clock, prices: Mapping[str, Prices] | None = None,
) -> Judge:
    """A judge whose default endpoint is there; `prices` by the names of models."""
    default = endpoint_at(url, key=key, timeout_s=timeout_s, in_flight=in_flight, api=api)
    return Judge(
        Endpoints(default, others, PriceTable(prices=prices or {})), model=model,
        embedding_model="small", clock=clock,
    )
