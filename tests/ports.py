"""Ports of the loopback that stay a test's own, also while nobody listens on them.

The kernel gives a server that asks for any port one of its ephemeral range that is free. While
a test's API is dead, its clients could then reach a server of another test.
"""

from __future__ import annotations

import random
import socket

OWN = range(12_000, 32_000)
"""Below the ephemeral range of Linux (32768 to 60999) and of macOS."""

_dice = random.SystemRandom()


def own_port() -> int:
    """A port of 127.0.0.1 that is free, and that the kernel gives to nobody."""
    with own_listener() as listener:
        return int(listener.getsockname()[1])


def own_listener() -> socket.socket:
    """A socket that listens on such a port."""
    while True:
        try:
            return socket.create_server(("127.0.0.1", _dice.choice(OWN)))
        except OSError:
            continue
