"""A scriptable HTTP server that misbehaves on demand, for testing HTTP clients against real sockets."""

from resilient_requests.testing._ledger import ConnectionRecord
from resilient_requests.testing._request import ReceivedRequest
from resilient_requests.testing._script import (
    BlackHole,
    Fin,
    FinThenReset,
    Pause,
    ReadRest,
    Reply,
    Reset,
    Send,
    Silence,
    fin,
    fin_then_reset,
    reset,
    respond,
    silence,
    sse,
    stream,
)
from resilient_requests.testing._server import FaultServer

__all__ = [
    "BlackHole",
    "ConnectionRecord",
    "FaultServer",
    "Fin",
    "FinThenReset",
    "Pause",
    "ReadRest",
    "ReceivedRequest",
    "Reply",
    "Reset",
    "Send",
    "Silence",
    "fin",
    "fin_then_reset",
    "reset",
    "respond",
    "silence",
    "sse",
    "stream",
]
