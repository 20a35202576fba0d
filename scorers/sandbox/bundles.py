"""Tracks the use of the bundles that are unpacked on this machine, and removes unused ones.

A bundle's files were written in a jail, so none of them is opened here. Folders are only dated,
renamed and removed, and removing follows no links.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from scorers.sandbox.place import Place

BUILDING_S = 3600.0
"""Seconds after which a folder that is still being made was left behind by a killed worker."""

UNFINISHED = "."
"""The first character of the names of folders that are being made or removed."""


def use(place: Place, digest: str) -> bool:
    """Whether the bundle is unpacked on this machine. If it is, this dates its last use."""
    try:
        os.utime(place.bundle(digest))
    except OSError:
        return False
    return True


def drop_unused(place: Place, *, unused_s: float) -> int:
    """Remove bundles unused for `unused_s` seconds, and folders left unfinished.

    Returns how many folders were removed. A run that is under way keeps the files that it has
    open; the next run unpacks the bundle again.
    """
    if place.bundles is None or not place.bundles.is_dir():
        return 0
    now_s = time.time()
    dropped = 0
    for folder in place.bundles.iterdir():
        age_s = BUILDING_S if folder.name.startswith(UNFINISHED) else unused_s
        with suppress(OSError):     # another worker of this machine may remove it first
            if now_s - folder.lstat().st_mtime > age_s:
                _remove(folder)
                dropped += 1
    return dropped


def _remove(folder: Path) -> None:
    going = folder.with_name(f"{UNFINISHED}going-{folder.name.lstrip(UNFINISHED)}")
    if folder != going:
        folder.rename(going)        # so that a worker sees either the whole bundle or none
    shutil.rmtree(going, ignore_errors=True)
