"""`tallyard rescore`: plans, starts and watches re-score jobs, and says what they changed."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click

from flows.rescore.plan_text import plan_lines
from flows.rescore.rescores import JobStatus
from ops.commands.job_progress import (
    JobPace,
    exit_code,
    finished,
    list_line,
    progress_line,
    summary_lines,
    waits,
)
from ops.commands.session import Session, open_session
from rules.rescore.model import Action, JobState, Only, PausedBy, RescoreJob
from rules.rescore.report import report_json
from rules.rescore.report_text import report_lines
from rules.rescore.wire import read_rescore
from spans.duration import read_duration
from spans.errors import BadInput
from spans.ids import parse_uuid
from spans.json import JsonObject

POLL_S = 0.5
"""The pause between two looks at a job that is watched."""

POLL_FACTOR = 10
"""The pause is at least so many times as long as the look took."""

LINE_S = 5.0
"""How often a job that is watched is told where no terminal shows the line anew."""

LISTED = 20

PROJECT = click.option("--project", help="Project name (not needed if there is only one).")
WATCH = click.option(
    "--watch/--no-watch", default=None,
    help="Show the progress until the job ends (default: if the output is a terminal).",
)


class JobId(click.ParamType[UUID]):
    """The id of a job."""

    name = "id"

    def convert(
        self, value: str | UUID, param: click.Parameter | None, ctx: click.Context | None
    ) -> UUID:
        """The id that the text holds."""
        found = value if isinstance(value, UUID) else parse_uuid(value)
        if found is None:
            self.fail(f"{value!r} is no job's id; see `tallyard rescore list`", param, ctx)
        return found


JOB = click.argument("job", type=JobId())


@click.group(invoke_without_command=True)
@click.option("--filter", "btql_filter",
              help="Take the records that match this filter; '' takes all of them.")
@click.option("--id", "ids", multiple=True, help="Take the record of this id (repeatable).")
@click.option("--rule", help="Take the records that this rule selects (its name or id).")
@click.option("--since", help="Take records that were created within this time: 6h, 2d.")
@click.option("--from", "created_from", help="Take records that were created from this time on "
              "(2026-11-01T00:00:00Z).")
@click.option("--before", "created_before", help="Take records from before this time.")
@click.option("--scorer", "scorers", multiple=True,
              help="Score with this scorer of autoevals, or function by its slug (repeatable; "
              "default: those of --rule).")
@click.option("--only", type=click.Choice([each.value for each in Only]),
              help="Take records without an outcome of the scorer (missing), with a failed one "
              "(errored), or with a score of another version of it (stale).")
@click.option("--error-class", help="With --only errored: this error class alone.")
@click.option("--sampling-rate", type=click.FloatRange(0, 1, min_open=True),
              help="Take this share of the traces, 0 to 1.")
@click.option("--max-records", type=click.IntRange(1),
              help="Take at most so many records, the newest.")
@click.option("--max-per-second", type=click.FloatRange(0, min_open=True),
              help="Begin at most so many records a second.")
@click.option("--probe", type=click.IntRange(1),
              help="Score so many records first, then pause and show what they cost.")
@click.option("--max-money", type=click.FloatRange(0),
              help="Hold the job's judge calls back when they may cost more than this.")
@click.option("--max-calls", type=click.IntRange(0),
              help="Hold the job's judge calls back after so many.")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@click.option("--yes", "-y", is_flag=True, help="Start without a plan and without asking.")
@WATCH
@PROJECT
@click.pass_context
def rescore(context: click.Context, /, *, project: str | None, **given: Any) -> None:  # noqa: ANN401 click's
    """Score stored records again, in the background.

    \b
    tallyard rescore --filter "scores.Factuality < 0.5" --scorer Factuality --dry-run
    tallyard rescore --filter "" --since 7d --scorer polite --only stale

    Shows the plan and asks before it starts. The system that logged the records does not run
    again. Exits with 0 if the job is completed or goes on, 1 if it failed, 3 if some of its
    outcomes are errored, 4 if it was cancelled, 5 if it is paused.
    """
    if context.invoked_subcommand is not None:
        return
    with open_session() as session:
        found = session.project(project)
        rule = given["rule"]
        if rule is not None:
            named = session.tallyard.rules.named(session.principal, found.id, str(rule))
            given["rule"] = str(named.id)
        body = read_rescore(_request(given, datetime.now(UTC)))
        rescores, principal = session.tallyard.rescores, session.principal
        if given["dry_run"] or _wants_to_ask(is_sure=bool(given["yes"])):
            plan = rescores.plan(principal, found.id, body)
            caps = None if body.budget is None else body.budget.caps
            for line in plan_lines(plan, caps):
                click.echo(line)
            if given["dry_run"] or not plan.counted.records:
                return
            click.confirm("Start the job?", abort=True)
        job, _ = rescores.make(principal, found.id, body)
        click.echo(f"started the job {job.id}")
        is_watched = sys.stdout.isatty() if given["watch"] is None else given["watch"]
        context.exit(_follow(session, job, is_watched=is_watched))


@rescore.command(name="list")
@PROJECT
def list_jobs(*, project: str | None) -> None:
    """List the newest jobs of a project."""
    with open_session() as session:
        found = session.project(project)
        jobs = session.tallyard.rescores.list(session.principal, found.id, limit=LISTED)
    for status in jobs:
        click.echo(list_line(status))
    if not jobs:
        click.echo("no re-score job yet")


@rescore.command()
@JOB
@click.option("--watch", is_flag=True, help="Show the progress until the job ends.")
@click.pass_context
def show(context: click.Context, /, *, job: UUID, watch: bool) -> None:
    """Show a job, and how far it is. Exits as `tallyard rescore` does."""
    with open_session() as session:
        status = session.tallyard.rescores.get(session.principal, job)
        if watch:
            context.exit(_follow(session, status.job, is_watched=True))
        for line in summary_lines(status):
            click.echo(line)
        context.exit(exit_code(status))


def _action(action: Action, help_text: str) -> None:
    @rescore.command(name=action.value, help=help_text)
    @JOB
    def act(*, job: UUID) -> None:
        with open_session() as session:
            status = session.tallyard.rescores.act(session.principal, job, action)
        for line in summary_lines(status):
            click.echo(line)


_action(Action.PAUSE, "Pause a job: no more of its outcomes are begun.")
_action(Action.RESUME, "Let a paused job go on.")
_action(Action.CANCEL, "Cancel a job. The scores that it has given stay.")


@rescore.command()
@JOB
@click.argument("max_per_second", type=click.FloatRange(0))
def rate(*, job: UUID, max_per_second: float) -> None:
    """Set how many records a job begins in a second; 0 lifts the limit."""
    with open_session() as session:
        status = session.tallyard.rescores.set_rate(
            session.principal, job, max_per_second or None
        )
    for line in summary_lines(status):
        click.echo(line)


@rescore.command()
@JOB
@click.option("--yes", "-y", is_flag=True, help="Do it without asking.")
@click.pass_context
def rollback(context: click.Context, /, *, job: UUID, yes: bool) -> None:
    """Restore the scores that stood before a job, where nobody has changed them since.

    Asks first, unless the standard input is no terminal.
    """
    with open_session() as session:
        rescores, principal = session.tallyard.rescores, session.principal
        status = rescores.get(principal, job)
        if _wants_to_ask(is_sure=yes):
            for line in summary_lines(status):
                click.echo(line)
            click.confirm("Restore the scores that stood before it?", abort=True)
        status = rescores.act(principal, job, Action.ROLLBACK)
        context.exit(_follow(session, status.job, is_watched=True))


def _request(given: Mapping[str, Any], now: datetime) -> JsonObject:
    """The options as the API's request."""
    if given["btql_filter"] is None and not given["ids"] and given["rule"] is None:
        raise BadInput("say which records: --filter ('' takes all), --id or --rule")
    if not given["scorers"] and given["rule"] is None:
        raise BadInput("say which scorers: --scorer, or --rule, whose scorers are taken")
    created_from = given["created_from"]
    if given["since"] is not None:
        if created_from is not None:
            raise BadInput("give --since or --from, not both")
        created_from = (now - read_duration(given["since"])).isoformat()
    budget = {"money": given["max_money"], "calls": given["max_calls"]}
    same = (
        "only", "error_class", "sampling_rate", "max_records", "max_per_second", "probe",
        "created_before",
    )
    request: JsonObject = {
        **{name: given[name] for name in same},
        "filter": given["btql_filter"], "ids": list(given["ids"]) or None,
        "rule_id": given["rule"], "scorers": list(given["scorers"]) or None,
        "created_from": created_from,
        "budget": _given(budget) or None,
    }
    return _given(request)


def _given(options: JsonObject) -> JsonObject:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _wants_to_ask(*, is_sure: bool) -> bool:
    """Whether somebody is there to be asked, and did not say yes already."""
    return not is_sure and sys.stdin.isatty()


def _follow(session: Session, job: RescoreJob, *, is_watched: bool) -> int:
    """Shows the job's progress until it ends or is paused, if it is watched; the exit code."""
    rescores, principal = session.tallyard.rescores, session.principal
    if not is_watched:
        click.echo(f"`tallyard rescore show {job.id} --watch` shows how far it is")
        return 0
    try:
        status = _watch(session, job)
        if status.job.paused_by is PausedBy.PROBE and status.job.state is JobState.PAUSED:
            _show_report(session, job.id)
            if _wants_to_ask(is_sure=False) and click.confirm("Go on with all records?"):
                rescores.act(principal, job.id, Action.RESUME)
                status = _watch(session, job)
            else:
                click.echo(
                    f"`tallyard rescore resume {job.id}` goes on, `... cancel {job.id}` ends it"
                )
    except KeyboardInterrupt:
        click.echo(f"\nIt goes on. `tallyard rescore show {job.id} --watch` comes back to it.")
        if job.rollback_at is None:
            click.echo(f"`tallyard rescore cancel {job.id}` ends it.")
        return 0
    for line in summary_lines(status):
        click.echo(line)
    if status.job.state is JobState.COMPLETED and status.job.rollback_at is None:
        click.echo(f"`tallyard rescore report {job.id}` says what it changed")
    return exit_code(status)


def _watch(session: Session, job: RescoreJob) -> JobStatus:
    """Shows the job's progress while there is more to see; how it is then."""
    pause, pace = threading.Event(), JobPace()   # the event is never set: `wait` only sleeps
    shows_anew = sys.stdout.isatty()
    told_at = -LINE_S
    width = 0
    while True:
        now = time.monotonic()
        status = session.tallyard.rescores.get(session.principal, job.id)
        pace.see(now, finished(status.progress))
        line = progress_line(status, pace)
        if shows_anew:
            click.echo(f"\r{line:<{width}}", nl=False)
            width = len(line)
        elif now - told_at >= LINE_S or not waits(status):
            click.echo(line)
            told_at = now
        if not waits(status):
            if shows_anew:
                click.echo()
            return status
        # Counting a job of a million takes a quarter of a second.
        pause.wait(max(POLL_S, POLL_FACTOR * (time.monotonic() - now)))


def _show_report(session: Session, job_id: UUID) -> None:
    found = session.tallyard.rescores.report(session.principal, job_id)
    # A file or a pipe has no width, so nothing is cut off.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    for line in report_lines(found, width=width, encoding=encoding):
        click.echo(line)


@rescore.command()
@JOB
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def report(*, job: UUID, as_json: bool) -> None:
    """Say what a job changed: counts, scores before and after, flips, and money."""
    with open_session() as session:
        if not as_json:
            _show_report(session, job)
            return
        found = session.tallyard.rescores.report(session.principal, job)
    click.echo(json.dumps(report_json(found), indent=2, ensure_ascii=False))
