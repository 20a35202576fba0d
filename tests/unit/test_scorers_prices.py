"""What models cost: the endpoint's prices first, then the table, which a file can replace."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from judges import endpoint_at

from scorers.judge.endpoints import Endpoints
from scorers.judge.prices import FREE, LIST_PRICES, Prices, PriceTable
from spans.errors import SetupError
from wiring.judges.prices import read_prices
from wiring.settings import read_settings

ONE = Prices(prompt=1.0, cached=0.1, completion=4.0)
TWO = Prices(prompt=2.0, cached=2.0, completion=8.0)

TABLE = """
as_of: 2026-11-01
prices:
  gpt-5-mini: {prompt: 0.25, cached: 0.025, completion: 2}
  llama-*: {prompt: 0.5, completion: 1}
  an-embedding: {prompt: 0.02}
"""


def read(folder: Path, text: str) -> PriceTable:
    file = folder / "prices.yaml"
    file.write_text(text, encoding="utf-8")
    return read_prices(file)


def test_an_endpoints_own_prices_come_before_those_of_the_table() -> None:
    default = endpoint_at("http://judge/v1")
    own = replace(endpoint_at("http://gpu/v1", name="gpu", models=("llama-*",)), prices=TWO)
    table = PriceTable(prices={"llama-8b": ONE, "other": ONE})

    endpoints = Endpoints(default, (own,), table)

    assert endpoints.prices_of("llama-8b") == TWO
    assert endpoints.prices_of("other") == ONE
    assert endpoints.prices_of("unknown") is None
    assert endpoints.prices_of(None) == FREE


def test_a_full_name_comes_before_a_beginning_and_a_longer_beginning_before_a_shorter() -> None:
    table = PriceTable(prices={"a-*": ONE, "a-b*": TWO, "a-bc": FREE})

    assert table.of("a-x") == ONE
    assert table.of("a-bx") == TWO
    assert table.of("a-bc") == FREE
    assert table.of("b") is None


def test_the_table_knows_a_model_of_a_certain_day_and_no_model_of_another_kind() -> None:
    assert LIST_PRICES.of("gpt-4o-mini-2024-07-18") == LIST_PRICES.of("gpt-4o-mini")
    assert LIST_PRICES.of("gpt-4o-2024-05-13") != LIST_PRICES.of("gpt-4o")
    assert LIST_PRICES.of("gpt-4o-audio-preview") is None
    assert LIST_PRICES.of("gpt-5-pro") is None
    assert LIST_PRICES.as_of is not None


def test_billionths_are_exact_and_rounded_up() -> None:
    assert Prices(prompt=0.1, cached=0.025, completion=0.3).billionths(10, 4, 1) == (
        600 + 100 + 300
    )
    assert Prices(prompt=0.00001, cached=0.0, completion=0.0).billionths(1, 0, 0) == 1
    assert FREE.billionths(10**6, 0, 10**6) == 0


def test_the_dearest_outcome_takes_the_dearer_of_both_prices_of_a_prompt() -> None:
    odd = Prices(prompt=1.0, cached=3.0, completion=0.0)

    assert odd.dearest(10, 0) == odd.billionths(10, 10, 0)


def test_a_file_replaces_the_table(tmp_path: Path) -> None:
    table = read(tmp_path, TABLE)

    assert table.as_of == date(2026, 11, 1)
    assert table.of("gpt-5-mini") == Prices(prompt=0.25, cached=0.025, completion=2.0)
    assert table.of("llama-70b") == Prices(prompt=0.5, cached=0.5, completion=1.0)
    assert table.of("an-embedding") == Prices(prompt=0.02, cached=0.02, completion=0.0)
    assert table.of("gpt-4o") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the file: must be an object"),
        ("prices: {}", "as_of: is missing, and must be the day"),
        ("as_of: soon\nprices: {}", "as_of: must be the day"),
        ("as_of: 2026-11-01\nprices: {m: {prompt: -1}}", r"m\.prompt: must be a number"),
        ("as_of: 2026-11-01\nprices: {m: {}}", r"prices\.m\.prompt: is missing"),
        ("as_of: 2026-11-01\nprices: {m: 3}", r"prices\.m: must be an object"),
        ("as_of: 2026-11-01\nprices: {m: {prompt: 1, x: 1}}", r"prices\.m\.x: no such field"),
        ("as_of: 2026-11-01\nprices: {'a*b': {prompt: 1}}", r"may only stand at the end"),
        ("as_of: 2026-11-01\nprice: {}", "price: no such field"),
    ],
)
def test_a_mistake_is_told_by_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SetupError, match=problem):
        read(tmp_path, text)


def test_the_settings_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(TABLE, encoding="utf-8")

    own = read_settings({"TALLYARD_PRICES": str(file)})

    assert own.judge_endpoints.table.as_of == date(2026, 11, 1)
    assert read_settings({}).judge_endpoints.table == LIST_PRICES
    with pytest.raises(SetupError, match="cannot be read"):
        read_settings({"TALLYARD_PRICES": str(tmp_path / "none.yaml")})
