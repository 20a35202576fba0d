"""PostgreSQL dies under load: clients are told to come back, and everything heals by itself."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checker import CheckedRule, Checker, query
from fakes.judge import FakeJudge
from load import Load, span
from sqlalchemy import NullPool, create_engine
from stack import Stack

from ops.servers.children import Child, wait_until
from ops.servers.postgres import start_postgres
from spans.ids import RowSeq, Xact
from store.migrate import upgrade
from store.postgres.database import Database
from store.postgres.versions import draw_versions

FAST = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
AGAIN_S = 60.0
NOTICED = "PostgreSQL"
"""A worker's log names it when it is away."""


class Postgres:
    """A PostgreSQL that can die and be started again on the same data and socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.child: Child
        self.start()

    def start(self) -> None:
        self.child, self.url = start_postgres(
            self.folder / "postgres", log=self.folder / "postgres.log", settings=FAST
        )

    def die(self, how: signal.Signals) -> None:
        """SIGQUIT is its immediate shutdown, SIGKILL the end of the postmaster alone."""
        self.child.process.send_signal(how)
        assert wait_until(lambda: not self.child.is_running, deadline_s=10)


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="tallyard-test-") as folder:
        path = Path(folder)
        path.chmod(0o755)   # the server is not ours when we are root
        own = Postgres(path)
        engine = create_engine(own.url, poolclass=NullPool)
        upgrade(engine)
        engine.dispose()
        yield own
        own.child.stop(patience_s=5)


@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.long)])
def test_deaths_of_postgres_are_503_meanwhile_and_lose_nothing(
    make_stack: Callable[..., Stack], check_project: Callable[..., Checker],
    judge: FakeJudge, postgres: Postgres, rounds: int,
) -> None:
    stack = make_stack(database_url=postgres.url)
    stack.start("api", "match", "heavy", "judge", "beat")
    checker = check_project(stack, judge)
    pids = [stack.children[name].process.pid for name in ("api", "match", "judge")]

    with Load(stack, checker.project, checker.log, seed=4) as load:
        for how in [signal.SIGQUIT, signal.SIGKILL] * rounds:
            until = load.answered + 3
            stack.wait_until(lambda until=until: load.answered >= until, deadline_s=AGAIN_S)
            refused = len(checker.log.refusals)
            postgres.die(how)
            stack.wait_until(
                lambda refused=refused: len(checker.log.refusals) > refused, deadline_s=30,
                what="a 503",
            )
            postgres.start()
        until = load.answered + 3
        stack.wait_until(lambda: load.answered >= until, deadline_s=AGAIN_S)

    stack.wait_until(checker.is_quiet, deadline_s=AGAIN_S, what="quiet")
    assert {status for status, _ in checker.log.refusals} == {503}
    assert all(float(retry_after or 0) >= 1 for _, retry_after in checker.log.refusals)
    assert pids == [stack.children[name].process.pid for name in ("api", "match", "judge")]
    checker.assert_holds()


def test_no_version_or_place_is_given_twice_though_postgres_dies_before_its_first_checkpoint(
    postgres: Postgres,
) -> None:
    database = Database(postgres.url)
    drawn: list[tuple[Xact, RowSeq]] = []

    for _ in range(3):
        with database.cursor() as cursor:
            (xact,), (place,) = draw_versions(cursor, 1, new_rows=1)
            drawn.append((xact, place))
        postgres.die(signal.SIGQUIT)
        postgres.start()
        database.close()   # its connections are gone

    assert drawn == sorted(set(drawn))
    assert len({xact for xact, _ in drawn}) == len({place for _, place in drawn}) == 3


def test_a_claim_whose_worker_lives_survives_any_number_of_deaths_of_postgres(
    make_stack: Callable[..., Stack], judge: FakeJudge, postgres: Postgres
) -> None:
    stack = make_stack(database_url=postgres.url, lease_s="60")
    stack.start("api", "match", "heavy", "judge", "beat")
    project = stack.project()
    rule = stack.rule(project, "Factuality")
    checker = Checker(
        stack.database_url, project, rules=(CheckedRule(id=rule, scorers=("Factuality",)),),
        judge=judge,
    )
    checker.watch()
    judge.then(*["ok;delay=14"] * 3)
    request = checker.log.send([span("slow")])
    stack.insert(project, span("slow"))
    checker.log.acknowledge(request)

    stack.wait_until(lambda: judge.calls, deadline_s=30, what="the call")
    for _ in range(2):
        noticed = stack.log_text("match").count(NOTICED)
        postgres.die(signal.SIGKILL)
        stack.wait_until(
            lambda noticed=noticed: stack.log_text("match").count(NOTICED) > noticed,
            deadline_s=30, what="a worker to notice",
        )
        postgres.start()

    stack.wait_until(checker.is_quiet, deadline_s=AGAIN_S, what="quiet")
    checker.assert_holds()
    found = query(stack.database_url, "select state, deaths from outcome")
    assert found == [{"state": "completed", "deaths": 0}]
