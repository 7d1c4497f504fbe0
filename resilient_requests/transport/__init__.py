"""Connections that are recycled: how they are dialled, pooled, retired and read.

`TransportAdapter` is an ``HTTPAdapter`` over pools whose idle connections are stamped, judged at
checkout and retired by generation; `PoolState` is what one adapter knows of them.
"""

from resilient_requests.transport._adapter import TransportAdapter, verification
from resilient_requests.transport._generations import PoolState
from resilient_requests.transport._keepalive import KeepAlivePolicy, parse_hint
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
    "Rotation",
    "SocketReader",
    "TCPKeepAlive",
    "TLSContexts",
    "TransportAdapter",
    "Try",
    "as_requests",
    "is_bodiless",
    "parse_hint",
    "socket_options",
    "timed",
    "verification",
    "warm",
]
