"""Fill every place that can be written, with bytes and with names; 128 MB at most."""

from __future__ import annotations

import os
import sys

PLACES = (
    ".", "/tmp", "/dev/shm", "/dev", "/", "/run", "/var/tmp", "/opt", "/usr", "/proc", "/home",
)
BLOCK = b"x" * (1 << 20)
MOST_BLOCKS, MOST_NAMES = 128, 5000
BLOCKS_WORKED, NAMES_WORKED = 64, 2000


def handler():
    blocks = names = 0
    for place in (*PLACES, *sys.path):
        number = 0
        try:
            while blocks < MOST_BLOCKS:
                fd = os.open(f"{place}/fill-{number}", os.O_CREAT | os.O_WRONLY, 0o600)
                number += 1
                try:
                    for _ in range(4):
                        blocks += os.write(fd, BLOCK) >> 20
                finally:
                    os.close(fd)
        except OSError:
            continue
    for place in PLACES:
        try:
            while names < MOST_NAMES:
                os.close(os.open(f"{place}/name-{names}", os.O_CREAT | os.O_WRONLY, 0o600))
                names += 1
        except OSError:
            continue
    worked = blocks > BLOCKS_WORKED or names > NAMES_WORKED
    return {"score": 1.0 if worked else 0.0, "metadata": {"blocks": blocks, "names": names}}
