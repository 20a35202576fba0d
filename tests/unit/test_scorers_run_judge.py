"""Judged scorers of workers: the endpoint that each asks, and what they read to know it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

from judges import endpoint_at, judge_at

from scorers.functions.source import KeptFunctions
from scorers.functions.version import FUNCTION, FunctionKind, FunctionVersion
from scorers.judge.classifier import Classifier
from scorers.run.judge import JudgedScorers
from spans.ids import FunctionId, ProjectId, RowSeq, Xact
from spans.row import RowKey, project_logs
from spans.scoring import ScorerRef
from spans.work import Assignment, Subject

PROJECT = ProjectId(UUID(int=1))


def assignment_of(scorer: ScorerRef) -> Assignment:
    subject = Subject(
        key=RowKey(object=project_logs(PROJECT), id="a"), seq=RowSeq(1), span_id="s",
        root_span_id="s", xact=Xact(1), content_xact=Xact(1), trigger_xact=None, has_base=True,
        ended_at=None, view={},
    )
    return Assignment(subject=subject, scorer=scorer, asked=())


def test_the_endpoint_of_a_function_is_read_from_the_store_once_and_then_takes_no_thread():
    function = FunctionVersion(
        id=FunctionId(uuid4()), project_id=PROJECT, version=Xact(7), name="f", slug="f",
        kind=FunctionKind.CLASSIFIER,
        classifier=Classifier(messages=(("user", "q"),), choice_scores={"a": 1.0}, model="big"),
    )
    reads = 0

    def version_of(function_id: FunctionId, version: Xact) -> FunctionVersion:
        nonlocal reads
        reads += 1
        return function

    async def run() -> list[str]:
        others = [endpoint_at("http://big", name="big", models=("big",))]
        judge = judge_at("http://h", others=others)
        scorers = JudgedScorers(
            judge=judge, functions=KeptFunctions(version_of), spans_of=lambda _: []
        )
        wanted = assignment_of(
            ScorerRef(kind=FUNCTION, name=str(function.id), version=str(function.version))
        )
        first = await scorers.endpoint_of(wanted)
        no_threads = ThreadPoolExecutor(1)
        no_threads.shutdown()
        asyncio.get_running_loop().set_default_executor(no_threads)
        return [first, await scorers.endpoint_of(wanted)]

    assert asyncio.run(run()) == ["big", "big"]
    assert reads == 1
