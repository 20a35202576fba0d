"""What a job would take: calls, tokens, money and time, each with a range.

The ranges come from past outcomes of a scorer where there are enough, else from the size of the
texts. They say what is likely, not what is certain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rules.rescore.model import JobScorer
from rules.rescore.selection_count import ScorerCount, SelectionCount
from scorers.judge.prices import Prices
from spans.queues import JUDGE, SANDBOX

PAST_MIN = 10
"""Past outcomes from which an estimate is made. The deviation of fewer says too little."""

DEVIATIONS = 2.0
"""A range reaches so many standard deviations to both sides: 95 % of a normal distribution."""

CHARACTERS_A_TOKEN = (6.0, 4.0, 2.5)
"""For the least, the expected and the most tokens. English has 4 to 5 characters a token with
the tokenizers of GPT, source code and other languages fewer."""

ANSWER_TOKENS = (20.0, 200.0, 800.0)
"""Of a verdict: a choice alone, a choice after a few sentences, and after much reasoning."""

RUN_S = (1.0, 3.0, 15.0)
"""How long one call to a judge takes, seconds, where no past outcome tells."""

PROMPT_CHARACTERS = 2000
"""Of the author's words in a prompt whose size is not known: those of autoevals have 1 000 to
3 000."""

IN_PROCESS_PER_S = 2500.0
"""Rows a second that an in-process scorer scores on two cores, all in all: half of the 5 000
live spans a second that Levenshtein scores there."""

SANDBOX_PER_S = 1000.0
"""Rows a second of users' code on two cores: between the 200 of isolated runs and the 4 000 of
batches."""

RATE_FACTOR = 4.0
"""Time that is computed from one of these rates may be so many times shorter or longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A number that is not known yet: what is expected, and between what it likely is."""

    low: float = 0.0
    expected: float = 0.0
    high: float = 0.0

    def __add__(self, other: Range) -> Range:
        """The range of a sum, if both are low, or high, together."""
        return Range(
            low=self.low + other.low, expected=self.expected + other.expected,
            high=self.high + other.high,
        )

    def times(self, number: float) -> Range:
        """The range of so many of it."""
        return Range(
            low=self.low * number, expected=self.expected * number, high=self.high * number
        )

    def at_least(self, number: float) -> Range:
        """The range of what cannot be less than the number."""
        return Range(
            low=max(number, self.low), expected=max(number, self.expected),
            high=max(number, self.high),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """The mean of a number over past outcomes, and its standard deviation."""

    mean: float = 0.0
    deviation: float = 0.0

    def sum_of(self, records: int, outcomes: int) -> Range:
        """The sum over so many rows, where the moments are those of `outcomes` others.

        Both count: how far the mean of those others may be off, and how the rows differ.
        """
        spread = DEVIATIONS * self.deviation * math.sqrt(
            records * records / max(1, outcomes) + records
        )
        expected = self.mean * records
        return Range(
            low=max(0.0, expected - spread), expected=expected, high=expected + spread
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PastOutcomes:
    """What the latest outcomes of a scorer took, at any version, where a judge was asked.

    `outcomes` is their number, `run_ms` how long each ran, milliseconds, and `model` the model
    that was asked last. `names` are the names of the scores that the scorer gave.
    """

    outcomes: int = 0
    calls: Moments = Moments()
    prompt_tokens: Moments = Moments()
    completion_tokens: Moments = Moments()
    cached_tokens: Moments = Moments()
    run_ms: Moments = Moments()
    model: str | None = None
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgePrompt:
    """What a judged scorer sends with each row: to which model, and how many characters that
    no record changes. A `model` of None means that it is not known."""

    model: str | None = None
    characters: int = PROMPT_CHARACTERS


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerEstimate:
    """What one scorer would take, and where that is known from (`source`).

    `money` is in the unit of the prices; None if the model has no price. `model` is that of a
    judge. `seconds` is how long the scorer would take by itself.
    """

    scorer: JobScorer
    records: int
    source: str
    model: str | None = None
    calls: Range = Range()
    prompt_tokens: Range = Range()
    completion_tokens: Range = Range()
    money: Range | None = Range()
    seconds: Range = Range()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEstimate:
    """What all scorers of a job would take together.

    `money` leaves out scorers whose model has no price: `unpriced` has their names. Scorers of
    one queue wait for each other, those of different ones do not.
    """

    scorers: tuple[ScorerEstimate, ...]
    calls: Range
    prompt_tokens: Range
    completion_tokens: Range
    money: Range
    seconds: Range
    unpriced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What the installation can do: prices of models, and how many calls are made at once.

    Both are asked by a model's name; None stands for a model that is not known.
    """

    prices: Callable[[str | None], Prices | None]
    in_flight: Callable[[str | None], int]


def estimate(
    counted: SelectionCount, scorers: Sequence[JobScorer], *, past: Sequence[PastOutcomes],
    prompts: Sequence[JudgePrompt], rates: Rates, max_per_second: float | None = None,
) -> JobEstimate:
    """What the scorers would take on the rows that were counted.

    `past` and `prompts` are in the order of the scorers; a prompt counts only for scorers that
    ask judges. `max_per_second` is the most rows that the job begins in a second.
    """
    parts = tuple(
        _of_scorer(one, count.records, before, prompt, rates)
        if one.queue != JUDGE or before.outcomes >= PAST_MIN
        else _from_sizes(one, count.records, counted.record_bytes, prompt, rates)
        for one, count, before, prompt in zip(
            scorers, counted.scorers, past, prompts, strict=True
        )
    )
    queues: dict[str, Range] = {}
    for part in parts:
        queue = part.scorer.queue
        queues[queue] = queues.get(queue, Range()) + part.seconds
    seconds = Range(
        low=max((each.low for each in queues.values()), default=0.0),
        expected=max((each.expected for each in queues.values()), default=0.0),
        high=max((each.high for each in queues.values()), default=0.0),
    )
    if max_per_second is not None:
        seconds = seconds.at_least(counted.records / max_per_second)
    return JobEstimate(
        scorers=parts,
        calls=_sum(part.calls for part in parts),
        prompt_tokens=_sum(part.prompt_tokens for part in parts),
        completion_tokens=_sum(part.completion_tokens for part in parts),
        money=_sum(part.money for part in parts if part.money is not None),
        seconds=seconds,
        unpriced=tuple(part.scorer.shown_as for part in parts if part.money is None),
    )


def share_of(counted: SelectionCount, records: int) -> SelectionCount:
    """The counts of the first `records` rows, if they are like all the others."""
    if counted.records <= records:
        return counted
    share = records / counted.records
    return SelectionCount(
        records=records,
        scorers=tuple(
            ScorerCount(
                records=math.ceil(each.records * share), kept=math.ceil(each.kept * share)
            )
            for each in counted.scorers
        ),
        record_bytes=counted.record_bytes, measured=counted.measured,
    )


def _sum(ranges: Iterable[Range]) -> Range:
    return sum(ranges, start=Range())


def _of_scorer(
    one: JobScorer, records: int, past: PastOutcomes, prompt: JudgePrompt, rates: Rates
) -> ScorerEstimate:
    # Code in a sandbox may ask judges too, which only its past outcomes tell.
    if past.outcomes < PAST_MIN:
        wait_s = records / (SANDBOX_PER_S if one.queue == SANDBOX else IN_PROCESS_PER_S)
        seconds = Range(low=wait_s / RATE_FACTOR, expected=wait_s, high=wait_s * RATE_FACTOR)
        return ScorerEstimate(
            scorer=one, records=records, source="it asks no judge", seconds=seconds
        )
    return _from_past(one, records, past, prompt, rates)


def _from_past(
    one: JobScorer, records: int, past: PastOutcomes, prompt: JudgePrompt, rates: Rates
) -> ScorerEstimate:
    model = prompt.model or past.model
    number = past.outcomes
    prompt_tokens = past.prompt_tokens.sum_of(records, number)
    completion_tokens = past.completion_tokens.sum_of(records, number)
    asked = past.prompt_tokens.mean
    cached = min(1.0, past.cached_tokens.mean / asked) if asked else 0.0
    run_ms = past.run_ms.sum_of(records, number)
    return ScorerEstimate(
        scorer=one, records=records, model=model,
        source=f"of {number:,} past outcome{'s' if number > 1 else ''}",
        calls=past.calls.sum_of(records, number), prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        # The most is if nothing is cached.
        money=_money(rates.prices(model), prompt_tokens, completion_tokens, cached),
        seconds=run_ms.times(1 / (1000 * max(1, rates.in_flight(model)))),
    )


def _from_sizes(
    one: JobScorer, records: int, record_bytes: float, prompt: JudgePrompt, rates: Rates
) -> ScorerEstimate:
    characters = record_bytes + prompt.characters
    low, expected, high = (characters / each for each in CHARACTERS_A_TOKEN)
    prompt_tokens = Range(low=low, expected=expected, high=high).times(records)
    low, expected, high = ANSWER_TOKENS
    completion_tokens = Range(low=low, expected=expected, high=high).times(records)
    low, expected, high = RUN_S
    return ScorerEstimate(
        scorer=one, records=records, model=prompt.model, source="from the size of the texts",
        calls=Range(low=records, expected=records, high=records), prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        money=_money(rates.prices(prompt.model), prompt_tokens, completion_tokens, 0.0),
        seconds=Range(low=low, expected=expected, high=high).times(
            records / max(1, rates.in_flight(prompt.model))
        ),
    )


def _money(
    prices: Prices | None, prompt: Range, completion: Range, cached: float
) -> Range | None:
    """The cost of so many tokens, of whose prompts the share `cached` is cached."""
    if prices is None:
        return None

    def cost(of_prompt: float, of_completion: float, share: float) -> float:
        per_prompt = prices.prompt + (prices.cached - prices.prompt) * share
        return (of_prompt * per_prompt + of_completion * prices.completion) / 1e6

    expected = cost(prompt.expected, completion.expected, cached)
    return Range(
        low=min(expected, cost(prompt.low, completion.low, cached)), expected=expected,
        high=max(expected, cost(prompt.high, completion.high, 0.0)),
    )
