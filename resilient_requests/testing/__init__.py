"""A scriptable HTTP server that misbehaves on demand, for tests on real sockets."""

from resilient_requests.testing._recorder import ConnectionRecord
from resilient_requests.testing._request import ReceivedRequest
from resilient_requests.testing._script import (
    fin,
    fin_then_reset,
    reset,
    respond,
    silence,
    sse,
    stream,
)
from resilient_requests.testing._server import FaultServer
from resilient_requests.testing._steps import (
    BlackHole,
    Fin,
    FinThenReset,
    Pause,
    ReadRest,
    Reply,
    Reset,
    Send,
    Silence,
)

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
