"""Celery's tasks: each answers a queue's bell and runs a flow until there is nothing left.

Their arguments carry nothing, so a task that is lost, doubled, late or out of order does no
harm: what there is to do, and who does it, stands in PostgreSQL. Their results are for Flower.
"""

from __future__ import annotations

from workers import process
from workers.celery import app
from workers.loops import judge_until_empty, match_until_empty, score_heavy_until_empty, tidy_up


@app.task(name="tallyard.match", queue="match")
def match() -> str:
    """Match what waits. Safe to repeat: entries are leased, and outcomes unique."""
    return match_until_empty(process.services())


@app.task(name="tallyard.score_heavy", queue="heavy", soft_time_limit=840, time_limit=900)
def score_heavy() -> str:
    """Run slow scorers. Safe to repeat: a result counts only under its claim's fence."""
    return score_heavy_until_empty(process.services())


@app.task(name="tallyard.judge", queue="judge")
def judge() -> str:
    """Ask LLM judges. Safe to repeat: a verdict counts only under its claim's fence."""
    return judge_until_empty(process.services(), process.judge)


@app.task(name="tallyard.upkeep", queue="upkeep")
def upkeep() -> str:
    """Drop what is past its retention time. Safe to repeat: what is gone is gone."""
    return tidy_up(process.services())
