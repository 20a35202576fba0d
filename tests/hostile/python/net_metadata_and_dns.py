"""Leave the machine: a cloud's metadata service, a public address, DNS, raw and odd sockets."""

from __future__ import annotations

import errno
import socket

# Addresses of documentation (RFC 5737) and of the metadata services: no test sends to others.
STREAMS = ("169.254.169.254", "192.0.2.1")
UNDER_WAY = {0, errno.EINPROGRESS, errno.ETIMEDOUT}
ODD = (
    ("AF_INET", "SOCK_RAW", socket.IPPROTO_ICMP), ("AF_PACKET", "SOCK_RAW", 0),
    ("AF_NETLINK", "SOCK_RAW", 0), ("AF_VSOCK", "SOCK_STREAM", 0),
    ("AF_ALG", "SOCK_SEQPACKET", 0),
    ("AF_BLUETOOTH", "SOCK_RAW", 0), ("AF_CAN", "SOCK_RAW", 1), ("AF_TIPC", "SOCK_RDM", 0),
)


def handler():
    reached = []
    for host in STREAMS:
        try:
            with socket.socket() as peer:
                peer.setblocking(False)
                if peer.connect_ex((host, 80)) in UNDER_WAY:
                    reached.append(host)
        except OSError:
            continue
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.sendto(b"\0" * 12, ("192.0.2.53", 53))
            reached.append("dns")
    except OSError:
        pass
    for family, kind, protocol in ODD:
        try:
            # Without a name for it the number will do: any unknown one is as odd.
            number = getattr(socket, family, 31)
            with socket.socket(number, getattr(socket, kind), protocol):
                reached.append(family)
        except OSError:
            continue
    return {"score": 1.0 if reached else 0.0, "metadata": {"reached": reached}}
