"""Names of scores that are paths, statements, control characters or novels."""

from __future__ import annotations

NAMES = (
    "../../../../etc/cron.d/x", "x" * 10_000, "a\x1b[2Jb", "'; DROP TABLE row; --",
    "<img src=x onerror=alert(1)>", "\u202egnp.exe", "", " ", "a\nb", "__proto__", "\ufeff",
)


def handler(metadata):
    return {"score": 0.0, "name": NAMES[metadata["variant"]]}
