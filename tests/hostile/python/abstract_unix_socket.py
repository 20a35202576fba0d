"""Connect to the host's unix sockets, by path and by abstract name, of every type."""

from __future__ import annotations

import socket

KNOWN = (
    "/var/run/docker.sock", "/run/docker.sock", "/run/dbus/system_bus_socket",
    "/run/systemd/private", "/var/run/postgresql/.s.PGSQL.5432", "/tmp/.s.PGSQL.5432",
    "/run/containerd/containerd.sock",
)
TYPES = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)


def handler(metadata):
    for name in (metadata["unix_path"], b"\0" + metadata["unix_abstract"].encode(), *KNOWN):
        for kind in TYPES:
            try:
                with socket.socket(socket.AF_UNIX, kind) as peer:
                    peer.settimeout(0.2)
                    peer.connect(name)
                    return {"score": 1.0, "metadata": {"reached": repr(name)}}
            except OSError:
                pass
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                    peer.sendto(b"hello", name)
                    return {"score": 1.0, "metadata": {"sent": repr(name)}}
            except OSError:
                continue
    return 0.0
