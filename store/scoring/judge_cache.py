"""Keeps answers of judges, so that an identical call later need not be made."""

from __future__ import annotations

import asyncio

import orjson

from scorers.judge.ask import Choice
from store.postgres.database import Database


class JudgeAnswers:
    """Implements scorers.judge.ask.AnswerCache. An answer is used for `days` days."""

    def __init__(self, database: Database, *, days: float) -> None:
        self._database = database
        self._days = days

    async def find(self, key: bytes) -> Choice | None:
        return await asyncio.to_thread(self._find, key)

    async def keep(self, key: bytes, chosen: Choice) -> None:
        """Keep an answer. Safe to repeat: the later answer replaces the earlier one."""
        await asyncio.to_thread(self._keep, key, chosen)

    def _find(self, key: bytes) -> Choice | None:
        with self._database.cursor() as cursor:
            cursor.execute(
                """select answer from judge_answer
                    where request_sha256 = %s
                      and created > now() - make_interval(secs => %s)""",
                (key, self._days * 86400),
            )
            found = cursor.fetchone()
        if found is None:
            return None
        (answer,) = found
        return Choice(choice=answer["choice"], rationale=answer["rationale"])

    def _keep(self, key: bytes, chosen: Choice) -> None:
        answer = orjson.dumps({"choice": chosen.choice, "rationale": chosen.rationale})
        with self._database.cursor() as cursor:
            cursor.execute(
                """insert into judge_answer (request_sha256, answer) values (%s, %s::jsonb)
                   on conflict (request_sha256)
                   do update set answer = excluded.answer, created = now()""",
                (key, answer.decode()),
            )
