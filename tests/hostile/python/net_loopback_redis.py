"""Speak to the broker or the database on the loopback."""

from __future__ import annotations

import socket


def handler(metadata):
    ports = (metadata["port"], 6379, 5432)
    for family, host in (
        (socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1"),
    ):
        for port in ports:
            try:
                with socket.socket(family, socket.SOCK_STREAM) as peer:
                    peer.settimeout(0.2)
                    peer.connect((host, port))
                    peer.sendall(b"PING\r\n")
                    return {"score": 1.0, "metadata": {"reached": f"{host}:{port}"}}
            except OSError:
                continue
    return 0.0
