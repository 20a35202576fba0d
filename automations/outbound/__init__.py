"""Requests to addresses that users choose: where they may go, and the client that makes them.

All of them pass one policy. What Tallyard's operator chooses, such as the endpoints of judges,
does not: the operator may point it anywhere.
"""

from __future__ import annotations
