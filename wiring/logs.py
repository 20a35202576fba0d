"""Sets up logging: one line for each message, and no content of spans or keys."""

from __future__ import annotations

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class _OneLine(logging.Formatter):
    """Keeps each message on one line, so that text from outside cannot forge log lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 logging's name
        text = super().formatMessage(record)
        return "".join(char if char.isprintable() else "\ufffd" for char in text)


def set_up_logging(level: str) -> None:
    """Log messages of at least this level to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine(FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Each ring would write three lines, and Flower shows the same better.
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("celery.beat").addFilter(
        lambda record: not record.getMessage().startswith("Scheduler: Sending due task")
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
