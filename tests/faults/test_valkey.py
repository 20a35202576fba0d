"""While Valkey is lost, emptied or frozen, logging works. Later, all spans get scores."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from checker import Checker
from fakes.judge import FakeJudge
from load import span
from stack import Stack

from ops.servers.children import Child
from ops.servers.valkey import start_valkey

AGAIN_S = 60.0


class Valkey:
    """A Valkey that can be killed and started again on the same socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.child: Child
        self.start()

    def start(self) -> None:
        self.child, self.url = start_valkey(
            self.folder / "valkey", log=self.folder / "valkey.log"
        )

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def kill(self, *, keep_data: bool) -> None:
        """SIGKILL; the next start finds the data, or nothing."""
        dump = self.folder / "valkey" / "dump.rdb"
        if keep_data:
            with self.client() as client:
                client.save()
        else:
            dump.unlink(missing_ok=True)
        self.child.kill()


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with tempfile.TemporaryDirectory(prefix="tallyard-test-") as folder:
        own = Valkey(Path(folder))
        yield own
        own.child.kill()


def log_some(stack: Stack, checker: Checker, prefix: str) -> None:
    """Three requests, each answered 2xx."""
    for request in range(3):
        events = [
            span(f"{prefix}{request}n{place}", metadata={"judged": place == 0})
            for place in range(5)
        ]
        number = checker.log.send(events)
        stack.insert(checker.project, *events)
        checker.log.acknowledge(number)


def test_logging_goes_on_and_all_is_scored_whatever_becomes_of_valkey(
    make_stack: Callable[..., Stack], check_project: Callable[..., Checker],
    judge: FakeJudge, valkey: Valkey,
) -> None:
    stack = make_stack(redis_url=valkey.url)
    stack.start("api", "match", "heavy", "judge", "beat")
    checker = check_project(stack, judge)

    def await_scores(after: str) -> None:
        stack.wait_until(
            checker.is_quiet, deadline_s=AGAIN_S,
            what=lambda: f"scores after {after}: {checker.violations()[:3]}",
        )

    log_some(stack, checker, "before")
    valkey.kill(keep_data=True)
    valkey.start()
    log_some(stack, checker, "restarted")
    await_scores("a restart with its data")

    log_some(stack, checker, "flushing")
    with valkey.client() as client:
        client.flushall()
    log_some(stack, checker, "flushed")
    await_scores("FLUSHALL")

    log_some(stack, checker, "losing")
    valkey.kill(keep_data=False)
    log_some(stack, checker, "without")
    assert stack.http("GET", "/health/ready").status == 200
    valkey.start()
    await_scores("its absence, and a start with nothing")

    valkey.child.process.send_signal(signal.SIGSTOP)
    log_some(stack, checker, "frozen")
    valkey.child.process.send_signal(signal.SIGCONT)
    await_scores("a freeze")
    checker.assert_holds()
