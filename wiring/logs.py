"""Logs: a line each, never what spans or keys contain."""

from __future__ import annotations

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class _OneLine(logging.Formatter):
    """Keeps a message on its line: a text from outside must not forge a second one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 logging's name
        text = super().formatMessage(record)
        return "".join(char if char.isprintable() else "\ufffd" for char in text)


def set_up_logging(level: str) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine(FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Each ring of the bell would be three lines; Flower shows them better.
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("celery.beat").addFilter(
        lambda record: not record.getMessage().startswith("Scheduler: Sending due task")
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
