"""GET /metrics: counters, queues and delays for Prometheus.

The counters are stored in PostgreSQL, and are updated in the transaction whose work they count.
So every API process returns the same numbers, and a restart loses none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from flows.health.health import Measurements
from flows.health.measurements import (
    BUCKET_LABELS,
    BudgetMeasure,
    QueueDepth,
    Sample,
    SandboxWorker,
    Sending,
    Waiting,
)

COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ingested_rows": ("Rows written by clients", ()),
    "repaired_rows": ("Rows stored with warnings, since a value could not be stored", ()),
    "rejected_rows": ("Rows of lenient requests that were not stored", ()),
    "expired_rows": ("Rows deleted by age, with their score spans", ()),
    "matched_rows": ("Finished rows that rules decided on", ()),
    "match_decisions": ("Decisions of a rule on a row", ("reason",)),
    "outcomes": ("Outcomes written", ("scorer", "role", "state", "error_class")),
    "retries": ("Attempts that will be followed by another", ("scorer", "error_class")),
    "stale_fences": ("Results refused because another worker had claimed the work", ()),
    "deliveries": ("Deliveries to webhooks that ended", ("kind", "state")),
    "delivery_attempts": ("Requests to webhooks; no error class: taken", ("error_class",)),
    "judge_calls": ("Calls of LLM judges", ("model",)),
    "judge_prompt_tokens": ("Tokens sent to judges", ("model",)),
    "judge_completion_tokens": ("Tokens received from judges", ("model",)),
    "judge_cached_tokens": ("Of the tokens sent to judges, those they had cached", ("model",)),
    "judge_cost": ("Estimated cost of judge calls", ("scorer", "model")),
}
HISTOGRAMS = {
    "score_wait_seconds": "From the end of a span to the start of its scorer",
    "score_run_seconds": "From the start of a scorer to its score being stored",
}


def metrics_text(measured: Measurements) -> bytes:
    """The measurements in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Metrics(measured))
    return generate_latest(registry)


class _Metrics:
    """Prometheus' collector of one scrape."""

    def __init__(self, measured: Measurements) -> None:
        self._measured = measured

    def collect(self) -> Iterator[Metric]:
        """Every metric family."""
        counted = self._measured.samples
        for name, (text, labels) in COUNTERS.items():
            yield _counter(name, text, labels, counted)
        for name, text in HISTOGRAMS.items():
            yield _histogram(name, text, counted)
        yield from queue_families(self._measured.queues)
        yield from waiting_families(self._measured.waiting)
        yield from budget_families(self._measured.waiting.budgets)
        yield from sending_families(self._measured.sending)
        yield _sandbox_workers(self._measured.sandbox_workers)


def queue_families(depths: Iterable[QueueDepth]) -> Iterator[Metric]:
    """The metrics of queues: how many items wait, and how long the oldest has waited."""
    depths_family = GaugeMetricFamily(
        "tallyard_queue_depth",
        "Outcomes (match: rows) that wait, of at most the first 10 000 outcomes or writes",
        labels=["queue"],
    )
    ages_family = GaugeMetricFamily(
        "tallyard_queue_age_seconds", "How long the oldest item has waited", labels=["queue"]
    )
    for depth in depths:
        depths_family.add_metric([depth.queue], depth.depth)
        ages_family.add_metric([depth.queue], depth.oldest_s)
    yield depths_family
    yield ages_family


def waiting_families(waiting: Waiting) -> Iterator[Metric]:
    """The metrics of what waits to be tried again, and of judge endpoints that are down."""
    retrying = GaugeMetricFamily(
        "tallyard_retrying_outcomes",
        "Outcomes that wait to be tried again, of at most the first 10 000 of a queue",
        labels=["queue", "error_class"],
    )
    next_try = GaugeMetricFamily(
        "tallyard_retrying_next_timestamp_seconds",
        "When the next of them is tried, in unix seconds", labels=["queue", "error_class"],
    )
    for one in waiting.retrying:
        retrying.add_metric([one.queue, one.error_class], one.count)
        next_try.add_metric([one.queue, one.error_class], one.next_at.timestamp())
    held = GaugeMetricFamily(
        "tallyard_circuit_held_outcomes",
        "Outcomes that wait for a judge endpoint that is down, of at most the first 10 000; "
        "an endpoint that answers has no sample",
        labels=["endpoint", "error_class"],
    )
    probe = GaugeMetricFamily(
        "tallyard_circuit_probe_timestamp_seconds",
        "When a judge endpoint that is down is tried next, in unix seconds",
        labels=["endpoint"],
    )
    for down in waiting.down:
        held.add_metric([down.endpoint, down.error_class], down.held)
        probe.add_metric([down.endpoint], down.probe_at.timestamp())
    yield from (retrying, next_try, held, probe)


def budget_families(budgets: Iterable[BudgetMeasure]) -> Iterator[Metric]:
    """The metrics of budgets: caps, what is spent and reserved, and what they hold back."""
    names = ["budget", "subject", "subject_id", "period"]
    of_unit = [*names, "unit"]
    cap = GaugeMetricFamily(
        "tallyard_budget_cap", "Cap on judge calls, in money (as prices count) or calls",
        labels=of_unit,
    )
    spent = GaugeMetricFamily(
        "tallyard_budget_spent", "What is spent of it in the present period", labels=of_unit
    )
    reserved = GaugeMetricFamily(
        "tallyard_budget_reserved", "What is reserved of it for calls that have not ended",
        labels=of_unit,
    )
    held = GaugeMetricFamily(
        "tallyard_budget_held_outcomes",
        "Outcomes that wait for room in it, of at most the first 10 000 of a queue",
        labels=names,
    )
    for one in budgets:
        labels = [one.budget, one.subject, one.subject_id, one.period]
        for unit, most, gone, kept in (
            ("money", one.money, one.money_spent, one.money_reserved),
            ("calls", one.calls, one.calls_spent, one.calls_reserved),
        ):
            if most is not None:
                cap.add_metric([*labels, unit], most)
            spent.add_metric([*labels, unit], gone)
            reserved.add_metric([*labels, unit], kept)
        held.add_metric(labels, one.held)
    yield from (cap, spent, reserved, held)


def sending_families(sending: Sending) -> Iterator[Metric]:
    """The metrics of what is on its way to webhooks, and of automations that were paused."""
    for name, text, value in (
        ("pending_deliveries", "Deliveries on their way, of at most the first 10 000",
         float(sending.pending)),
        ("pending_delivery_age_seconds", "How long the oldest of them has waited",
         sending.oldest_s),
        ("disabled_automations", "Automations that Tallyard has paused since their receivers "
         "took nothing", float(sending.disabled_count)),
    ):
        yield GaugeMetricFamily(f"tallyard_{name}", text, value=value)


def _sandbox_workers(workers: Iterable[SandboxWorker]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "tallyard_sandbox_workers", "Workers for users' code, by kind and state of the sandbox",
        labels=["tier", "contains"],
    )
    number = Counter((worker.tier or "", worker.is_ok) for worker in workers)
    for (tier, is_ok), count in number.items():
        family.add_metric([tier, "yes" if is_ok else "no"], count)
    return family


def _counter(
    name: str, text: str, labels: tuple[str, ...], counted: Iterable[Sample]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"tallyard_{name}", text, labels=labels)
    found = False
    for sample in counted:
        if sample.name == name:
            family.add_metric([sample.labels.get(label, "") for label in labels], sample.value)
            found = True
    if not found and not labels:
        family.add_metric([], 0)
    return family


def _histogram(name: str, text: str, counted: Iterable[Sample]) -> HistogramMetricFamily:
    by_bound: dict[str, float] = {}
    total = 0.0
    for sample in counted:
        if sample.name == f"{name}_bucket":
            by_bound[sample.labels["le"]] = sample.value
        elif sample.name == f"{name}_sum":
            total = sample.value
    cumulated = accumulate(by_bound.get(bound, 0.0) for bound in BUCKET_LABELS)
    family = HistogramMetricFamily(f"tallyard_{name}", text)
    family.add_metric([], list(zip(BUCKET_LABELS, cumulated, strict=True)), sum_value=total)
    return family
