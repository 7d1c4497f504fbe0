"""Connections that are recycled: they are dialled, pooled, judged and retired here.

`TransportAdapter` is an ``HTTPAdapter`` over recycling pools. Such a pool stamps each idle
connection, judges it at checkout, and retires connections by generation. `PoolState` is the state
of all pools of one adapter.
"""

from resilient_requests.transport._adapter import TransportAdapter, verification
from resilient_requests.transport._generations import PoolState
from resilient_requests.transport._keepalive import KeepAlivePolicy, parse_hint
from resilient_requests.transport._pool import RecyclingPool
from resilient_requests.transport._raw import RawResponse, is_bodiless
from resilient_requests.transport._socket import UNSET, SocketReader
from resilient_requests.transport._stats import AdapterStats, OriginStats, Rotation
from resilient_requests.transport._warm import WARM_FAILURES, as_requests, warm
from resilient_requests.transport.dial import (
    Dial,
    Outcome,
    TCPKeepAlive,
    TLSContexts,
    Try,
    in_order,
    resolve,
    socket_options,
    timed,
)

__all__ = [
    "UNSET",
    "WARM_FAILURES",
    "AdapterStats",
    "Dial",
    "KeepAlivePolicy",
    "OriginStats",
    "Outcome",
    "PoolState",
    "RawResponse",
    "RecyclingPool",
    "Rotation",
    "SocketReader",
    "TCPKeepAlive",
    "TLSContexts",
    "TransportAdapter",
    "Try",
    "as_requests",
    "in_order",
    "is_bodiless",
    "parse_hint",
    "resolve",
    "socket_options",
    "timed",
    "verification",
    "warm",
]
