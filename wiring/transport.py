"""Kombu's Redis transport, which must not stumble over a connection that is gone.

What is under way while the broker's connection is lost is acknowledged, or given back, over a
channel that is closed. Kombu 5.7 then raises (`'NoneType' object has no attribute 'hostname'`),
and the worker ends, or is connected and alive and takes nothing any more. Here that is dropped:
a ring that is lost, or heard twice, does no harm.
"""

from __future__ import annotations

from typing import TextIO

from kombu.transport import redis


class QoS(redis.QoS):
    """What is delivered and not yet acknowledged. Signatures are kombu's."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge, unless the channel that it came over is closed."""
        if not self.channel.closed and not self._has_lost_connection():
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]  # kombu has no types

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002
        """Reject, unless the channel that it came over is closed."""
        if not self.channel.closed and not self._has_lost_connection():
            super().reject(delivery_tag, requeue=requeue)  # type: ignore[no-untyped-call]

    def restore_unacked_once(self, stderr: TextIO | None = None) -> None:
        """Give back what is not acknowledged as the channel closes, if there is where to."""
        if not self._has_lost_connection():
            super().restore_unacked_once(stderr=stderr)  # type: ignore[no-untyped-call]

    def _has_lost_connection(self) -> bool:
        connection = self.channel.connection
        return connection is None or connection.client is None


class Channel(redis.Channel):
    """A channel with that."""

    QoS = QoS


class Transport(redis.Transport):
    """A transport with those channels."""

    Channel = Channel
