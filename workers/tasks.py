"""Celery's tasks: each answers a queue's bell and runs a flow until there is nothing left.

Their arguments carry nothing, so a task that is lost, doubled, late or out of order does no
harm: what there is to do, and who does it, stands in PostgreSQL. Their results are for Flower.
"""

from __future__ import annotations

from workers.celery import app

# What a task does is imported when it runs: beat and Flower load this module for the names
# alone, and would carry scorers, SQL and all in 25 MB each.


@app.task(name="tallyard.match", queue="match")
def match() -> str:
    """Match what waits. Safe to repeat: entries are leased, and outcomes unique."""
    from workers.process import run  # noqa: PLC0415

    return run("match")


@app.task(name="tallyard.score_heavy", queue="heavy")
def score_heavy() -> str:
    """Run slow scorers. Safe to repeat: a result counts only under its claim's fence."""
    from workers.process import run  # noqa: PLC0415

    return run("heavy")


@app.task(name="tallyard.judge", queue="judge")
def judge() -> str:
    """Ask LLM judges. Safe to repeat: a verdict counts only under its claim's fence."""
    from workers.process import run  # noqa: PLC0415

    return run("judge")


@app.task(name="tallyard.sandbox", queue="sandbox")
def sandbox() -> str:
    """Run users' code. Safe to repeat: a verdict counts only under its claim's fence."""
    from workers.process import run  # noqa: PLC0415

    return run("sandbox")


@app.task(name="tallyard.upkeep", queue="upkeep")
def upkeep() -> str:
    """Drop what is past its retention time. Safe to repeat: what is gone is gone."""
    from workers.process import run  # noqa: PLC0415

    return run("upkeep")
