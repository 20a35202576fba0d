"""Bundles that are unpacked on this machine: used, and dropped when nobody does any more.

What a bundle holds was written in a jail, so it is never opened here: folders are dated,
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
"""A folder that has been in the making for so long was left behind by a killed worker."""

UNFINISHED = "."
"""How the names of folders begin that are being made, or removed."""


def use(place: Place, digest: str) -> bool:
    """Whether the bundle is unpacked here; if so, it counts as used just now."""
    try:
        os.utime(place.bundle(digest))
    except OSError:
        return False
    return True


def drop_unused(place: Place, *, unused_s: float) -> int:
    """Remove what nobody has used for so long, and what was left half made; how many.

    A run that began before keeps what it has open; the next one unpacks the bundle anew.
    """
    if place.bundles is None or not place.bundles.is_dir():
        return 0
    now_s = time.time()
    dropped = 0
    for folder in place.bundles.iterdir():
        age_s = BUILDING_S if folder.name.startswith(UNFINISHED) else unused_s
        with suppress(OSError):     # another worker of this machine was faster
            if now_s - folder.lstat().st_mtime > age_s:
                _remove(folder)
                dropped += 1
    return dropped


def _remove(folder: Path) -> None:
    going = folder.with_name(f"{UNFINISHED}going-{folder.name.lstrip(UNFINISHED)}")
    if folder != going:
        folder.rename(going)        # whole or not at all, for whoever looks for it
    shutil.rmtree(going, ignore_errors=True)
