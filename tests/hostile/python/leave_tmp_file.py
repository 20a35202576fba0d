"""Leave a module where the next call may import it. Success is to find it again."""

from __future__ import annotations

import os


def handler(metadata):
    found = 0.0
    places = (".", os.environ["TMPDIR"], *metadata["shared"])
    paths = [f"{place}/poison_left.py" for place in places]
    for path in paths:
        try:
            with open(path) as file:
                found = 1.0 if file.read() else found
        except OSError:
            continue
    for path in paths:
        try:
            with open(path, "w") as file:
                file.write("POISON = True\n")
        except OSError:
            continue
    return found
