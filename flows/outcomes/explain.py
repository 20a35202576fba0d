"""Explains why a span has the scores that it has, and no others.

The explanation comes from what was recorded: the match record holds what each rule of that
moment decided, and the outcomes hold what became of it. Only two things are computed: the
sampling number, which is a hash, and what a rule that did not exist then would decide now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Protocol

from btql.errors import BtqlError
from btql.parse import parse_filter
from btql.paths import paths_read
from rules.budgets.model import BILLION, money_text
from rules.model import Rule
from rules.planning import PlannedRule
from rules.rescore.model import JobState
from rules.rule_set import RuleSet
from rules.sampling import sampling_number
from spans.errors import BudgetSpent, NotFound
from spans.ids import OrgId, ProjectId, RuleId
from spans.json import Json, JsonObject
from spans.outcome import CANCELLED, ORIGIN_ID_NAMES, Origin, OriginKind, RuleOrigin
from spans.repair.faults import INGEST_WARNINGS
from spans.row import RowView, is_finished, is_made_by_scorer
from spans.scoring import REASON_OF_BYTE, OutcomeState, Reason, Role
from spans.work import Subject

CANDIDATES_MAX = 20
"""Spans that are listed when an id fits several."""

REJECTED_MAX = 20
"""Rejected writes of one span that are listed: more than its parts that fail for one reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRecord:
    """What an outbox entry says about one row.

    `reasons` has one byte for each rule of `rule_set`. Until the entry is matched, `reasons` is
    empty and `rule_set` is None.
    """

    created: datetime
    matched_at: datetime | None
    attempts: int
    rule_set: RuleSet | None
    reasons: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeJob:
    """The re-score job that asked for an outcome, as it is now."""

    id: str
    state: JobState
    created: datetime
    rolled_back_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeView:
    """An outcome for display.

    `label` is a readable name of the scorer, if `scorer` is an id. `log` is what the scorer
    printed. `hindrance` says why no worker can run the outcome now, and the next step.
    `failing_since` is when its first error came that time may heal. `cost` is an estimate by
    the prices that the operator gave. `job` is the re-score job that asked for it, if it is
    still stored, and `replaced` are the scores by name in whose place the job's stand or stood.
    """

    id: str
    origin: Origin
    role: Role
    scorer: str
    label: str | None
    scorer_version: str
    subject_version: int
    state: OutcomeState
    error_class: str | None
    error_message: str | None
    scores: Json
    attempts: int
    next_attempt_at: datetime | None
    failing_since: datetime | None
    is_running: bool
    created: datetime
    finished_at: datetime | None
    run_ms: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    cost: float | None
    model: str | None
    is_cached: bool
    log: str | None
    hindrance: str | None = None
    job: OutcomeJob | None = None
    replaced: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One of the rows that an ambiguous id fits."""

    project_id: str
    project_name: str
    id: str
    span_id: str
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedPart:
    """A write that was not stored: why, and the head of it as it came.

    `project_id` is None if the write named no project that its key reaches.
    """

    project_id: str | None
    reason: str
    excerpt: str
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingStored:
    """What is known of an id under which no row stands: the writes that were rejected."""

    id: str
    rejected: tuple[RejectedPart, ...]


class ExplainStore(Protocol):
    """Where rows, match records, outcomes, rules and rejected writes are read from."""

    def candidates(
        self, org_id: OrgId, project_id: ProjectId | None, text: str
    ) -> list[Candidate]:
        """The rows whose row id or span id is `text`, at most CANDIDATES_MAX."""
        ...

    def subject(self, candidate: Candidate) -> Subject:
        """The row, with every column that filters may read."""
        ...

    def match_record(self, subject: Subject) -> MatchRecord | None:
        """The match record of the row's last outbox entry; None if there is none."""
        ...

    def outcomes(self, subject: Subject) -> list[OutcomeView]:
        """Every outcome of the row, newest first."""
        ...

    def current_rules(self, project_id: ProjectId) -> RuleSet:
        """The project's rules as they are now."""
        ...

    def rejected_parts(
        self, org_id: OrgId, project_id: ProjectId | None, ids: Sequence[str], *,
        or_of_none: bool = False,
    ) -> list[RejectedPart]:
        """The rejected writes with one of the ids as row id or span id, newest first.

        They are those to the project, with `or_of_none` also those to no project; or if
        `project_id` is None those of the whole organisation. At most REJECTED_MAX.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleAnswer:
    """What one rule did with the span, or what became of outcomes that no rule asked for.

    `status` is one of: a value of Reason; an outcome's state; `poisoned`; `waiting`,
    `waiting_for_base`, `skip_requested`, `rule_made_later`, `not_matched` (no decision is
    recorded); and, for
    outcomes that no present rule asked for, `rule_deleted`, `rescored`, `asked_by_hand`.

    `described` are those of `outcomes` that `text` describes; the others are history.
    """

    rule_id: str
    rule_name: str
    status: str
    text: str
    detail: JsonObject = field(default_factory=dict)
    outcomes: tuple[OutcomeView, ...] = ()
    described: tuple[OutcomeView, ...] = ()

    @property
    def states(self) -> dict[str, int]:
        """How many outcomes have each state, the worst state first."""
        return dict(Counter(_status(outcome) for outcome in _counted(self.described)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a span has its scores: the answer of every rule.

    `ingest_warnings` are the sentences about values that could not be stored as they came.
    `notes` are sentences on the state of the row, for whatever rule. `rejected` are writes of
    it that were not stored.
    """

    project_id: str
    id: str
    span_id: str
    root_span_id: str
    is_finished: bool
    scores: Json
    ingest_warnings: Json
    rules: tuple[RuleAnswer, ...]
    notes: tuple[str, ...] = ()
    rejected: tuple[RejectedPart, ...] = ()


Explained = Explanation | NothingStored | tuple[Candidate, ...]
"""What `explain` finds: one span, an id of which nothing stands, or several spans."""


def explain(
    store: ExplainStore, org_id: OrgId, project_id: ProjectId | None, text: str, *,
    or_of_none: bool = False,
) -> Explained:
    """The explanation of a span, or the candidates if `text` fits several spans.

    `text` is a row id or a span id. If no row has it, the rejected writes with this id are
    given, also those to no project with `or_of_none`. Raises NotFound if there are none either.
    """
    candidates = store.candidates(org_id, project_id, text)
    if not candidates:
        rejected = store.rejected_parts(org_id, project_id, [text], or_of_none=or_of_none)
        if not rejected:
            raise NotFound(f"no span has the row id or span id {text!r}")
        return NothingStored(id=text, rejected=tuple(rejected))
    if len(candidates) > 1:
        return tuple(candidates)
    subject = store.subject(candidates[0])
    # A match record and its outcomes are committed together. Read in this order, a record that
    # says "selected" never comes without its outcomes.
    record = store.match_record(subject)
    outcomes = store.outcomes(subject)
    project = subject.key.object.project_id
    return Explanation(
        project_id=candidates[0].project_id,
        id=subject.key.id,
        span_id=subject.span_id,
        root_span_id=subject.root_span_id,
        is_finished=is_finished(subject.view),
        scores=subject.view["scores"],
        ingest_warnings=subject.view[INGEST_WARNINGS],
        rules=tuple(_answers(subject, record, store.current_rules(project), outcomes)),
        notes=tuple(_notes(subject)),
        rejected=tuple(
            store.rejected_parts(org_id, project, [subject.key.id, subject.span_id])
        ),
    )


def explanation_json(found: Explained) -> dict[str, Any]:
    """An explanation, the rejected writes, or the candidates of an ambiguous id, as JSON."""
    if isinstance(found, NothingStored):
        return {"is_stored": False, **asdict(found)}
    if isinstance(found, Explanation):
        content = asdict(found)
        for answer, rule in zip(found.rules, content["rules"], strict=True):
            del rule["described"]               # `text` has them in words, `outcomes` in full
            rule["outcomes"] = [_outcome_json(outcome) for outcome in answer.outcomes]
        return content
    return {"ambiguous": True, "candidates": [asdict(candidate) for candidate in found]}


def _outcome_json(outcome: OutcomeView) -> dict[str, Any]:
    """The outcome as JSON. The kind of its origin decides the name of the origin's id."""
    fields = asdict(outcome)
    del fields["origin"]
    origin = outcome.origin
    if outcome.job is None:      # of a rule or a person, or the job is not stored any more
        del fields["job"]
    if origin.kind is not OriginKind.RESCORE:
        del fields["replaced"]
    return {"id": outcome.id, ORIGIN_ID_NAMES[origin.kind]: str(origin.id), **fields}


def _notes(subject: Subject) -> Iterable[str]:
    if not subject.has_base:
        yield _WAITS_FOR_BASE
    elif subject.trigger_xact is not None and not is_finished(subject.view):
        yield f"unfinished again: {_END_REMOVED}"


_WAITS_FOR_BASE = (
    "waiting for its base: only merges of the row have come, and no rule sees it before the "
    "write that makes the row (the one without _is_merge)"
)
_END_REMOVED = "a write after the span's end has removed metrics.end"


def _answers(
    subject: Subject,
    record: MatchRecord | None,
    current: RuleSet,
    outcomes: Sequence[OutcomeView],
) -> Iterable[RuleAnswer]:
    then: dict[RuleId, tuple[PlannedRule, Reason]] = {}
    if record is not None and record.rule_set is not None:
        reasons = [REASON_OF_BYTE[code] for code in record.reasons]
        then = {
            planned.rule.id: (planned, reason)
            for planned, reason in zip(record.rule_set.rules, reasons, strict=True)
        }
    now = {planned.rule.id: planned for planned in current.rules}
    known = {RuleOrigin(rule_id) for rule_id in (*then, *now)}
    origins = {one.origin for one in outcomes if one.origin not in known}
    for origin in sorted(origins, key=lambda origin: (origin.kind, str(origin.id))):
        yield _of_other_origin(origin, tuple(one for one in outcomes if one.origin == origin))
    for rule_id in sorted(then.keys() | now.keys()):
        own = tuple(one for one in outcomes if one.origin == RuleOrigin(rule_id))
        planned, reason = then.get(rule_id, (now.get(rule_id), None))
        assert planned is not None  # noqa: S101 the id comes from one of the two
        current_ones = tuple(
            one for one in own if one.subject_version == subject.content_xact
        )
        if current_ones:
            yield _of_outcomes(planned.rule, current_ones, history=own)
        elif reason is not None:
            is_gone = rule_id not in now
            yield _of_reason(planned, reason, subject, is_gone=is_gone, history=own)
        else:
            yield _undecided(planned, subject, record, history=own)


def _of_other_origin(origin: Origin, outcomes: tuple[OutcomeView, ...]) -> RuleAnswer:
    """The answer for outcomes that no rule of then or now requested."""
    name, status = {
        OriginKind.RULE: ("a rule that has been deleted", "rule_deleted"),
        OriginKind.RESCORE: (f"re-score job {origin.id}{_job_text(outcomes)}", "rescored"),
        OriginKind.MANUAL: (f"asked for by hand ({origin.id})", "asked_by_hand"),
    }[origin.kind]
    return RuleAnswer(
        rule_id=str(origin.id), rule_name=name, status=status,
        text="; ".join(outcome_text(one) for one in outcomes),
        outcomes=outcomes, described=outcomes,
    )


def _job_text(outcomes: Sequence[OutcomeView]) -> str:
    """When the job of the outcomes was made, and what became of it."""
    job = next((one.job for one in outcomes if one.job is not None), None)
    if job is None:
        return ""
    text = f" of {job.created.isoformat(timespec='seconds')}, {job.state}"
    if job.rolled_back_at is not None:
        text += f", rolled back on {job.rolled_back_at.isoformat(timespec='seconds')}"
    return text


def _of_outcomes(
    rule: Rule, current: tuple[OutcomeView, ...], *, history: tuple[OutcomeView, ...]
) -> RuleAnswer:
    """The answer of a rule that selected the span. Outcomes of older content are history."""
    return RuleAnswer(
        rule_id=str(rule.id), rule_name=rule.name, status=_status(_counted(current)[0]),
        text="; ".join(outcome_text(one) for one in current),
        outcomes=history, described=current,
    )


def _counted(outcomes: tuple[OutcomeView, ...]) -> list[OutcomeView]:
    """The outcomes that make up the rule's status, the worst first."""
    # Shadows do not count, nor outcomes that another version has superseded, unless there are
    # no others.
    live = [one for one in outcomes if one.role is Role.LIVE] or outcomes
    counted = [one for one in live if one.state is not OutcomeState.SUPERSEDED] or live
    return sorted(counted, key=lambda one: _WORST_FIRST.index(one.state))


def _status(one: OutcomeView) -> str:
    return "poisoned" if one.error_class == "poisoned" else one.state.value


_WORST_FIRST = (
    OutcomeState.ERRORED, OutcomeState.PENDING, OutcomeState.SUPERSEDED, OutcomeState.SKIPPED,
    OutcomeState.COMPLETED,
)


def outcome_text(one: OutcomeView) -> str:
    """A sentence on one scorer's outcome. An error's message may have several lines."""
    name = f"{one.label or one.scorer} {one.scorer_version}"
    if one.role is not Role.LIVE:
        name = f"{one.role.value} {name}"
    at = one.finished_at.isoformat(timespec="milliseconds") if one.finished_at else ""
    match one.state:
        case OutcomeState.COMPLETED:
            scored = f"{name} scored {_score_text(one.scores)}{_replaced_text(one)}"
            return f"{scored} at {at}{_call_text(one)}"
        case OutcomeState.SKIPPED:
            return f"{name} declined to judge at {at}{_call_text(one)}"
        case OutcomeState.SUPERSEDED if one.error_class == CANCELLED:
            return f"{name}: closed when the job was cancelled, at {at}"
        case OutcomeState.SUPERSEDED if one.error_message:
            return f"{name}: superseded before it ran: {one.error_message}"
        case OutcomeState.SUPERSEDED if one.origin.kind is OriginKind.RESCORE:
            return f"{name}: superseded: the content changed before its turn"
        case OutcomeState.SUPERSEDED:
            return (
                f"{name}: superseded before it ran: the content changed, the rule or the "
                "function was deleted, or another version took its place"
            )
        case OutcomeState.ERRORED:
            asked = _call_text(one)
            return f"{name} errored at {at}: {one.error_class}: {one.error_message}{asked}"
        case OutcomeState.PENDING:
            return f"{name} pending, {_pending_text(one)}"


def _replaced_text(one: OutcomeView) -> str:
    """In whose place the scores of a job's outcome stand; nothing if there were none."""
    values = [
        f"{name} {value:g}" if len(one.replaced) > 1 else f"{value:g}"
        for name, value in sorted(one.replaced.items())
    ]
    return f" in place of {', '.join(values)}" if values else ""


def _pending_text(one: OutcomeView) -> str:
    """Which attempt is next, when, or why not, and what the last one said."""
    if one.is_running:
        return f"attempt {one.attempts} is running"
    when = one.next_attempt_at
    due = one.hindrance or (
        f"next at {when.isoformat(timespec='seconds')}" if when else "next at once"
    )
    last = ""
    if one.error_class and one.error_class != BudgetSpent.error_class():
        last = f"; the last said {one.error_class}"
        if one.error_message and one.error_message not in due:
            last += f": {one.error_message}"
    if since := one.failing_since:
        last += f" (failing since {since.isoformat(timespec='seconds')})"
    return f"attempt {one.attempts + 1}, {due}{last}"


def _call_text(one: OutcomeView) -> str:
    """What was asked of a judge, and what it cost; nothing for other scorers."""
    if one.model is None:
        return ""
    if one.is_cached:
        return f" ({one.model}, answered from the cache)"
    cached = f", {one.cached_tokens} of them cached" if one.cached_tokens else ""
    cost = f", cost {money_text(round(one.cost * BILLION))}" if one.cost is not None else ""
    return (
        f" ({one.model}: {one.prompt_tokens or 0} tokens of prompt{cached}, "
        f"{one.completion_tokens or 0} of the answer{cost})"
    )


def _score_text(scores: Json) -> str:
    if not isinstance(scores, list):
        return "nothing"
    objects = [score for score in scores if isinstance(score, dict)]
    if len(objects) == 1:
        return str(objects[0].get("score"))
    return ", ".join(f"{score.get('name')} {score.get('score')}" for score in objects)


def _of_reason(
    planned: PlannedRule,
    reason: Reason,
    subject: Subject,
    *,
    is_gone: bool,
    history: tuple[OutcomeView, ...],
) -> RuleAnswer:
    rule = planned.rule
    text, detail = _reason_text(planned, reason, subject)
    if is_gone:
        text += " (the rule has been deleted since)"
    return RuleAnswer(
        rule_id=str(rule.id), rule_name=rule.name, status=reason.value, text=text,
        detail=detail, outcomes=history,
    )


def _reason_text(
    planned: PlannedRule, reason: Reason, subject: Subject
) -> tuple[str, JsonObject]:
    rule = planned.rule
    match reason:
        case Reason.FILTER_FALSE | Reason.FILTER_NULL:
            value = "false" if reason is Reason.FILTER_FALSE else "null, which selects nothing"
            values = values_read(rule.btql_filter, subject.view)
            read = ", ".join(f"{path} = {value!r}" for path, value in values.items())
            is_same = subject.xact == subject.trigger_xact
            reads = "it reads" if is_same else "of the row as it is now it reads"
            return (
                f"the filter {rule.btql_filter!r} was {value}; {reads} {read or 'nothing'}",
                {"filter": rule.btql_filter, "values": values},
            )
        case Reason.SAMPLED_OUT:
            number = sampling_number(rule.id, subject.root_span_id)
            return (
                f"sampled out: the trace's number {number:.6f} is not below the rate "
                f"{rule.sampling_rate:g}",
                {"sampling_number": number, "sampling_rate": rule.sampling_rate},
            )
        case Reason.WRONG_TARGET:
            wanted: list[Json] = [*rule.apply_to_span_names]
            if rule.apply_to_root_span:
                wanted.insert(0, "root spans")
            return (
                f"wrong target: the rule is for {', '.join(map(str, wanted))}",
                {"apply_to": wanted, "is_root": subject.view["is_root"],
                 "name": _name(subject.view)},
            )
        case Reason.FILTER_ERROR:
            return f"the filter has an error: {planned.filter_error}", {}
        case Reason.SELECTED:
            return _selected_text(subject), {}
        case _:
            return _PLAIN_REASONS[reason], {}


def _selected_text(subject: Subject) -> str:
    """Why a row that the rule selected has no outcome of its present content."""
    if subject.content_xact <= (subject.trigger_xact or 0):
        return "selected; its outcomes are not stored any more"
    if is_made_by_scorer(subject.view):
        return f"selected, and changed by a later write; {_PLAIN_REASONS[Reason.IS_SCORE_SPAN]}"
    if is_finished(subject.view):
        return (
            "selected, but a later write changed the content and asked not to be scored "
            "(_skip_async_scoring)"
        )
    return (
        "selected, but a later write changed the content, and the span is not finished any "
        f"more: {_END_REMOVED}"
    )


_PLAIN_REASONS = {
    Reason.PAUSED: "the rule was paused",
    Reason.IS_SCORE_SPAN: "the span was made by a scorer; such spans are never scored",
    Reason.DISABLED: "scoring is disabled on the row (_async_scoring_state)",
    Reason.SUPERSEDED: "a later write changed the row before it was matched",
    Reason.NOT_FINISHED: "not finished: metrics.end had been removed again",
    Reason.DELETED: "the row had been deleted",
    Reason.UNSUPPORTED_SCOPE: "the rule's scope is not the span",
    Reason.POISONED: "matching the span killed its worker each time that it was tried",
}


def _undecided(
    planned: PlannedRule,
    subject: Subject,
    record: MatchRecord | None,
    *,
    history: tuple[OutcomeView, ...],
) -> RuleAnswer:
    """The answer of a rule without a recorded decision: why, and what it would decide now."""
    rule = planned.rule
    status, text = _why_undecided(subject, record)
    if status in {"rule_made_later", "not_matched"}:
        reason = planned.decide(subject.view)
        would, _ = _reason_text(planned, reason, subject)
        would = "it would select the span" if reason is Reason.SELECTED else would
        text += f"; now: {would}. `tallyard rules score-recent` scores stored rows"
    return RuleAnswer(
        rule_id=str(rule.id), rule_name=rule.name, status=status, text=text, outcomes=history
    )


def _why_undecided(subject: Subject, record: MatchRecord | None) -> tuple[str, str]:
    if is_made_by_scorer(subject.view):
        return Reason.IS_SCORE_SPAN.value, _PLAIN_REASONS[Reason.IS_SCORE_SPAN]
    if not subject.has_base:
        return "waiting_for_base", _WAITS_FOR_BASE
    is_waiting = record is not None and record.matched_at is None
    if not is_finished(subject.view) and not is_waiting:
        if subject.trigger_xact is not None:
            return Reason.NOT_FINISHED.value, f"not finished: {_END_REMOVED}"
        return (
            Reason.NOT_FINISHED.value,
            "not finished: metrics.end is not set; a REST client must send it",
        )
    if subject.trigger_xact is None:
        return (
            "skip_requested",
            "no write has queued the row for matching: each was feedback, or set "
            "_skip_async_scoring",
        )
    if record is None:
        return "not_matched", "the match record is older than its retention time"
    if record.matched_at is None:
        return "waiting", f"waiting to be matched since {record.created.isoformat()}"
    return (
        "rule_made_later",
        f"the rule was made after the span was matched at {record.matched_at.isoformat()}",
    )


def values_read(text: str, row: RowView) -> JsonObject:
    """The values that a filter reads of a row, by path; null for a path that is not there."""
    try:
        paths = paths_read(parse_filter(text))
    except BtqlError:
        return {}
    return {".".join(map(str, path)): _at(row, path) for path in sorted(paths, key=str)}


def _at(row: RowView, path: Sequence[str | int]) -> Json:
    value: Any = row
    for part in path:
        if isinstance(part, int) and isinstance(value, list):
            value = value[part] if -len(value) <= part < len(value) else None
        elif isinstance(part, str) and isinstance(value, dict):
            value = value.get(part)
        else:
            return None
    return value  # type: ignore[no-any-return]


def _name(row: RowView) -> Json:
    attributes = row.get("span_attributes")
    return attributes.get("name") if isinstance(attributes, dict) else None
