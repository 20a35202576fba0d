"""Send datagrams to the host's sockets: from one that is unconnected, and from a pair."""

from __future__ import annotations

import socket

KNOWN = ("/dev/log", "/run/systemd/notify", "/run/systemd/journal/socket")


def handler(metadata):
    sent = []
    makers = [
        lambda kind=kind: socket.socketpair(socket.AF_UNIX, kind)[0]
        for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_STREAM,
                     socket.SOCK_SEQPACKET)
    ]
    makers += [
        lambda kind=kind: socket.socket(socket.AF_UNIX, kind)
        for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW)
    ]
    names = (metadata["datagram_path"], b"\0" + metadata["datagram_abstract"].encode(), *KNOWN)
    for make in makers:
        for name in names:
            try:
                with make() as sender:
                    sender.sendmsg([b"hello"], [], 0, name)
                    sent.append(repr(name))
            except OSError:
                continue
    return {"score": 1.0 if sent else 0.0, "metadata": {"sent": sent}}
