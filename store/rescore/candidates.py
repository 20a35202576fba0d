"""The rows that a job may take, as statements: which are looked at, and which of them pass.

A page looks at so many heads of one object at most, newest first, whatever passes. So its time
has a bound, and the next page goes on from the last head. Rows are not read through a view: the
heads are at hand, and of each body only the columns that are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from btql.clauses import SortKey
from btql.tree import And, Path
from rules.model import Rule
from rules.rescore.condition import condition_of, conjuncts
from rules.rescore.model import JobScorer, Only, Selection
from rules.sampling import sampling_bound, sampling_prefix
from spans.ids import OrgId, ProjectId, RowSeq
from spans.scoring import OutcomeState, Role
from store.btql.access import Access, Pins, access_of
from store.btql.compiler import SqlCompiler
from store.btql.pages import ByIds, InWindow, Walk, Way, pinned
from store.btql.query import choose_way
from store.btql.text import KEYS, SqlText, SqlTexts, Statement
from store.postgres.database import Cursor
from store.postgres.leases import by_key
from store.postgres.row_views import IS_MADE_BY_SCORER_SQL

SEQ_MAX = RowSeq(2**63 - 1)
"""More than the place of any row."""

_NEWEST_FIRST = (SortKey(expr=Path(column="created"), descending=True),)
_KEPT = (*KEYS, "content_xact")
"""The columns of a head that are kept of all heads of a page."""

_HEAD_ONLY = ("first_xact", "trigger_xact", "deleted_at", "computed_scores", "computed_by")
"""Other columns that a head has and a body has not."""

# Half of all rows are score spans. A score span has computed scores that nobody computed for
# it. Those without scores are told apart by their bodies.
_OPEN = (
    "span_head.deleted_at is null"
    " and (span_head.computed_scores is null or span_head.computed_by is not null) as is_open"
)

HAS_ENDED = "(coalesce(jsonb_typeof(row.metrics -> 'end') = 'number', false))"
"""Whether the row's span is finished, as raw SQL over a body `row`."""

_SCORABLE = SqlText(
    f"(row.has_base and row.scored_version is null and {HAS_ENDED}"
    f" and not {IS_MADE_BY_SCORER_SQL})".replace("row.", "shown_span.")
)
"""What every row of a job is: whole, finished, and made by no scorer."""

_SCORES = """(case when {head}.computed_scores is null then span.logged_scores
    else coalesce(nullif(span.logged_scores, 'null'), '{{}}') || {head}.computed_scores
      || jsonb_strip_nulls(coalesce(nullif(span.logged_scores, 'null'), '{{}}')) end)"""
_SIZE = " + ".join(
    f"coalesce(octet_length(row.{name}::text), 0)" for name in ("input", "output", "expected")
)
_ENDED = ", ".join(
    f"'{state}'" for state in (
        OutcomeState.COMPLETED, OutcomeState.SKIPPED, OutcomeState.ERRORED
    )
)

_IS_LIVE = by_key(f"outcome.role = '{Role.LIVE}'")

# A scalar subquery, which is answered by the key of jobs: a NOT EXISTS would read all jobs.
_IS_NOT_UNDONE = """coalesce((
    select rolled_back_at is null from rescore_job
     where rescore_job.job_no = outcome.job_no), true)"""
"""A rollback has taken the score away, so that its outcome is history alone."""


class HeadPlace(NamedTuple):
    """Where a head stands among those of its object, newest first."""

    created: datetime
    seq: RowSeq


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPage:
    """The next `looked_max` heads of an object after the place `before`, found by `way`.

    The first `taken_max` rows that pass are taken; None means all.
    """

    object_no: int
    way: Way
    before: HeadPlace
    looked_max: int
    taken_max: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What a selection asks of rows, ready to be put into statements.

    `now` is the time of the filter; rows that were created later are not taken. `access` says
    by which indexes the rows can be found.
    """

    selection: Selection
    scorers: tuple[JobScorer, ...]
    project_id: ProjectId
    now: datetime
    access: Access
    compiler: SqlCompiler
    conditions: tuple[SqlText, ...]
    texts: SqlTexts

    @property
    def start(self) -> HeadPlace:
        """The place before the first head that is looked at."""
        return HeadPlace(self.now, SEQ_MAX)

    @property
    def may_read_all(self) -> bool:
        """Whether nothing narrows the rows of an object that are looked at. With `only` each
        row's outcomes are found by their key, which leaves a planner no choice."""
        chosen = self.selection
        return (
            chosen.ids is None and chosen.only is None and chosen.records_max is None
            and not self.access.is_bounded
        )

    def way(self, cursor: Cursor, object_no: int) -> Way:
        """How the heads of an object are found."""
        if self.selection.ids is not None:
            return ByIds(pins=Pins(column="id", values=self.selection.ids))
        return choose_way(cursor, self.access, self.compiler, (object_no,))

    def selecting(self, page: HeadPage) -> Statement:
        """The statement that takes rows from a page of heads.

        Its row: how many heads it looked at, the place of the last one (`created`, `seq`), and
        three arrays of the rows taken, in their order: seqs, versions, wants.
        """
        texts = self._fresh()
        heads, taken = self._taken(page, texts)
        limit = texts.bind(page.taken_max, "bigint")
        return Statement(
            text=(
                f"{heads}, first as materialized (select * from ({taken}) taken"
                f" order by created desc, seq desc limit {limit})"
                f" {_LOOKED}, array(select seq from first),"
                " array(select content_xact from first), array(select wants from first)"
                f" {_FROM_LAST}"
            ),
            parameters=texts.parameters, is_prepared=False,
        )

    def counting(
        self, page: HeadPage, *, names: Sequence[Sequence[str]], measured: int
    ) -> Statement:
        """The statement that counts what `selecting` takes.

        `names` are the names of each scorer's scores. One of `measured` rows is measured. Its
        row: as above the heads and the last place; how many rows; how many were measured, and
        the sum of their sizes in bytes; then for each scorer on how many rows it is wanted,
        and on how many of those a logged score of one of its names is shown.
        """
        texts = self._fresh()
        heads, first = self._taken(page, texts, _told(names, measured, texts))
        if page.taken_max is not None:
            first = (
                f"select * from ({first}) taken order by created desc, seq desc"
                f" limit {texts.bind(page.taken_max, 'bigint')}"
            )
        return Statement(
            text=(
                f"{heads} {_LOOKED}, counted.* {_FROM_LAST} cross join"
                f" (select {_counts(len(names))} from ({first}) first) counted"
            ),
            parameters=texts.parameters, is_prepared=False,
        )

    def counting_rest(
        self, object_no: int, before: HeadPlace, *, names: Sequence[Sequence[str]]
    ) -> Statement:
        """The statement that counts what is taken of an object after the place `before`.

        It is a join without an order, for a planner that may read whole tables. Its row: as
        that of `counting`, from the number of rows on. No row is measured, since the texts of
        all of them would go through the join.
        """
        texts = self._fresh()
        passed, more = self._passed(texts, _told(names, None, texts), fence="")
        head = (
            f"(select {self._head_columns(more)} from span_head"
            f" where object_no = {texts.bind(object_no, 'integer')} and created > '-infinity'"
            f" and {_after(before, texts).format('span_head')}) head"
        )
        return Statement(
            text=(
                f"select {_counts(len(names))}"
                f" from ({self._wanted(passed.format(head=head), texts)}) first"
            ),
            parameters=texts.parameters, is_prepared=False,
        )

    def _fresh(self) -> SqlTexts:
        """The parameters of a statement: those of the conditions, and its own to come."""
        texts = SqlTexts()
        texts.parameters = dict(self.texts.parameters)
        return texts

    def _taken(
        self, page: HeadPage, texts: SqlTexts, extra: Sequence[str] = ()
    ) -> tuple[str, str]:
        """The beginning of a statement, which has the tables `head` and `last`, and the
        statement of the rows that are taken of the page, in no order."""
        passed, more = self._passed(texts, extra, fence=" offset 0")
        return (
            f"{self._heads(page, texts, more)}, last as materialized (select created, seq"
            " from head order by created, seq limit 1)",
            self._wanted(passed.format(head="head"), texts),
        )

    def _passed(
        self, texts: SqlTexts, extra: Sequence[str], *, fence: str
    ) -> tuple[str, set[str]]:
        """The statement of the rows that pass, and which columns of heads it reads beside those
        that it always reads.

        It has a place `{head}` for the table of heads. `fence` keeps what reads the bodies
        apart from the rest of the statement.
        """
        conditions = [_SCORABLE, *self.conditions]
        bound = sampling_bound(self.selection.sampling_rate)
        if bound is not None:
            prefix = texts.bind(sampling_prefix(self.project_id), "bytea")
            conditions.append(SqlText(
                f"(substring(sha256({prefix} || convert_to(shown_span.root_span_id, 'UTF8'))"
                f" for 8) < {texts.bind(bound, 'bytea')})"
            ))
        used = {name for one in conditions for name in one.body_columns}
        used |= {
            name for name in ("input", "output", "expected", "logged_scores")
            if any(f"row.{name}" in each for each in extra)
        }
        body = ", ".join(self._column(name) for name in sorted(used))
        more = used.intersection(_HEAD_ONLY)
        if "scores" in used:
            more |= {"computed_scores"}
        told = "".join(f", {each}" for each in extra)
        where = " and ".join(one.over("head") for one in conditions)
        text = (
            f"select row.seq, row.content_xact, row.created{told}"
            " from HEADS cross join lateral (select head.seq, head.content_xact, head.created,"
            f" {body} from span where span.seq = head.seq{fence}) row"
            f" where head.is_open and {where}"
        )
        # Braces of JSON in a condition are no places.
        return text.replace("{", "{{").replace("}", "}}").replace("HEADS", "{head}", 1), more

    @staticmethod
    def _head_columns(more: Iterable[str]) -> str:
        return ", ".join((*_KEPT, *sorted(more), _OPEN))

    def _heads(self, page: HeadPage, texts: SqlTexts, more: Iterable[str]) -> str:
        """The table `head`: the heads that are looked at, with `more` of their columns."""
        number, after = texts.bind(page.object_no, "integer"), _after(page.before, texts)
        limit = texts.bind(page.looked_max, "integer")
        first = f"order by created desc, seq desc limit {limit}"
        columns = self._head_columns(more)
        match page.way:
            case Walk():
                bounds = "".join(
                    f" and {texts.of(self.compiler.condition(bound)).over('span_head')}"
                    for window in self.access.windows if window.column == "created"
                    for bound in window.bounds
                )
                return (
                    f"with head as materialized (select {columns} from span_head"
                    f" where object_no = {number} and created > '-infinity'"
                    f" and {after.format('span_head')}{bounds} {first})"
                )
            case InWindow(column=column, condition=condition):
                indexed = " and xact > 0" if column == "xact" else ""
                found = (
                    f"select {', '.join(KEYS)} from span_head where object_no = {number}"
                    f"{indexed} and {texts.of(condition).over('span_head')}"
                )
            case ByIds(pins=pins):
                found = pinned(pins, number, texts)
            case _:
                raise AssertionError(page.way)
        return (
            f"with found as materialized ({found}), head as materialized (select one.*"
            f" from found cross join lateral (select {columns} from span_head"
            f" where span_head.object_no = {number} and span_head.seq = found.seq offset 0) one"
            f" where {after.format('one')} {first})"
        )

    @staticmethod
    def _column(name: str) -> str:
        """A column of the view of rows, made of a head and the table of bodies."""
        match name:
            case "scores":
                return f"{_SCORES.format(head='head')} as scores"
            case "object_type" | "object_id" | "project_id":
                return (
                    f"(select {name} from object where object.object_no = head.object_no)"
                    f" as {name}"
                )
            case _ if name in _HEAD_ONLY:
                return f"head.{name}"
            case _:
                return f"span.{name}"

    def _wanted(self, passed: str, texts: SqlTexts) -> str:
        """The rows that passed on which some scorer is wanted, and which ones: `wants`."""
        every = (1 << len(self.scorers)) - 1
        if self.selection.only is None:
            return f"select passed.*, {every} as wants from ({passed}) passed"
        bits = " + ".join(
            f"case when {self._wants(one, texts)} then {1 << place} else 0 end"
            for place, one in enumerate(self.scorers)
        )
        return (
            f"select passed.*, asked.wants from ({passed} offset 0) passed"
            f" cross join lateral (select {bits} as wants from outcome cross join lateral"
            " (select scorer_kind, scorer, scorer_version from scorer_use"
            " where scorer_use.use_no = outcome.use_no offset 0) used"
            " where outcome.subject_seq = passed.seq"
            " and outcome.subject_version = passed.content_xact"
            f" and {_IS_LIVE} and {_IS_NOT_UNDONE}) asked where asked.wants <> 0"
        )

    def _wants(self, one: JobScorer, texts: SqlTexts) -> str:
        """Whether a scorer is wanted on a row, as an aggregate over the row's outcomes."""
        kind = texts.bind(one.scorer.kind, "text")
        same = f"(scorer_kind = {kind} and scorer = {texts.bind(one.scorer.name, 'text')})"
        match self.selection.only:
            case Only.ERRORED:
                among = f"state in ({_ENDED})"
                is_last = f"state = '{OutcomeState.ERRORED}'"
                if self.selection.error_class is not None:
                    error_class = texts.bind(self.selection.error_class, "text")
                    is_last += f" and error_class = {error_class}"
            case Only.STALE:
                among = f"state in ('{OutcomeState.COMPLETED}', '{OutcomeState.SKIPPED}')"
                is_last = f"scorer_version <> {texts.bind(one.scorer.version, 'text')}"
            case _:
                return (
                    f"not coalesce(bool_or({same} and state <> '{OutcomeState.SUPERSEDED}'),"
                    " false)"
                )
        # An outcome of another kind that ended at the same time, or later, is the last one.
        return (
            f"max(finished_at) filter (where {same} and {among} and {is_last}) >"
            f" coalesce(max(finished_at) filter (where {same} and {among}"
            f" and ({is_last}) is not true), '-infinity')"
        )


def _told(
    names: Sequence[Sequence[str]], measured: int | None, texts: SqlTexts
) -> list[str]:
    """What is told of each row that is counted: its size, if it is one of `measured`, and for
    each scorer whether a logged score of one of its names is shown."""
    size = "null::integer"
    if measured is not None:
        is_measured = f"mod(hashint8(row.seq), {texts.bind(measured, 'integer')}) = 0"
        size = f"case when {is_measured} then {_SIZE} end"
    shown = (
        "coalesce(case when row.logged_scores is not null then"
        f" jsonb_strip_nulls(row.logged_scores) ?| {texts.bind(list(each), 'text[]')}"
        f" end, false) as shown_{place}"
        for place, each in enumerate(names)
    )
    return [f"{size} as size", *shown]


def _counts(scorers: int) -> str:
    """The counts of a table of rows that are taken: see `counting`."""
    of_scorers = "".join(
        f", count(*) filter (where wants & {1 << place} <> 0)"
        f", count(*) filter (where wants & {1 << place} <> 0 and shown_{place})"
        for place in range(scorers)
    )
    return f"count(*), count(size), coalesce(sum(size), 0){of_scorers}"


def _after(before: HeadPlace, texts: SqlTexts) -> str:
    """The condition that a head comes after the place, with a place for the table's name."""
    created, seq = texts.bind(before.created, "timestamptz"), texts.bind(before.seq, "bigint")
    return f"({{0}}.created, {{0}}.seq) < ({created}, {seq})"


_LOOKED = "select (select count(*) from head), last.created, last.seq"
_FROM_LAST = "from (select) one left join last on true"


def candidates(
    selection: Selection, scorers: Iterable[JobScorer], *, project_id: ProjectId,
    org_id: OrgId, rule: Rule | None, now: datetime,
) -> Candidates:
    """What the selection asks of rows. Raises BadInput if one of its filters has an error."""
    condition = condition_of(selection, rule)
    compiler = SqlCompiler(now=now, tz_offset=0, org_id=str(org_id))
    texts = SqlTexts()
    return Candidates(
        selection=selection, scorers=tuple(scorers), project_id=project_id, now=now,
        access=access_of(And(children=conjuncts(condition)), _NEWEST_FIRST),
        compiler=compiler,
        conditions=tuple(texts.of(compiler.condition(one)) for one in conjuncts(condition)),
        texts=texts,
    )
