"""Kombu's Redis transport, changed so that a worker survives a lost connection.

If the connection to Redis is lost while a task runs, Celery later acknowledges the task's
message over a closed channel. Kombu 5.7 then raises `'NoneType' object has no attribute
'hostname'`. The worker then ends, or stays connected and takes no more work. Here such
acknowledgements are dropped, because a ring that is lost or arrives twice does no harm.
"""

from __future__ import annotations

from typing import TextIO

from kombu.transport import redis


class RedisQoS(redis.QoS):
    """The messages that are delivered and not yet acknowledged. Signatures are kombu's."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge the message, unless its channel is closed."""
        if not self.channel.closed and not self._has_lost_connection():
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]  # kombu has no types

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002
        """Reject the message, unless its channel is closed."""
        if not self.channel.closed and not self._has_lost_connection():
            super().reject(delivery_tag, requeue=requeue)  # type: ignore[no-untyped-call]

    def restore_unacked_once(self, stderr: TextIO | None = None) -> None:
        """Return unacknowledged messages when the channel closes, if still connected."""
        if not self._has_lost_connection():
            super().restore_unacked_once(stderr=stderr)  # type: ignore[no-untyped-call]

    def _has_lost_connection(self) -> bool:
        connection = self.channel.connection
        return connection is None or connection.client is None


class RedisChannel(redis.Channel):
    """A channel that uses `RedisQoS`."""

    QoS = RedisQoS


class RedisTransport(redis.Transport):
    """A transport that uses `RedisChannel`."""

    Channel = RedisChannel
