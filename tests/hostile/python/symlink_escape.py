"""Follow links of our own making to host files; leave one where a host might open it."""

from __future__ import annotations

import os


def handler(metadata):
    worked = []
    for make, name in ((os.symlink, "soft"), (os.link, "hard")):
        try:
            make(metadata["file"], name)
            with open(name) as file:
                worked.append(file.read())
        except OSError:
            continue
    try:
        os.symlink("/", "top")
        with open("top" + metadata["file"]) as file:
            worked.append(file.read())
    except OSError:
        pass
    left = os.path.abspath("soft")
    return {"score": 1.0 if worked else 0.0, "metadata": {"file": left, "read": worked}}
