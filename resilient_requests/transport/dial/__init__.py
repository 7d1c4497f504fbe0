"""The dial of a connection: addresses, sockets and their options, TLS contexts and handshakes.

A `Dial` connects to the first address of a name that answers; a call can end it at any moment.
"""

from resilient_requests.transport.dial._addresses import AddressInfo, Remembered, in_order, resolve
from resilient_requests.transport.dial._dial import Dial, Reached
from resilient_requests.transport.dial._handshake import (
    duplicate,
    is_watched,
    timed,
)
from resilient_requests.transport.dial._options import SocketOption, callers, own, set_own
from resilient_requests.transport.dial._replaced import is_ours_to_dial
from resilient_requests.transport.dial._tcp import TCPKeepAlive, socket_options
from resilient_requests.transport.dial._tls import SHARED_CONTEXTS, TLSContexts
from resilient_requests.transport.dial._tries import Outcome, Try, family_name
from resilient_requests.transport.dial._urllib3 import dial_directly, leave_dial_to

__all__ = [
    "SHARED_CONTEXTS",
    "AddressInfo",
    "Dial",
    "Outcome",
    "Reached",
    "Remembered",
    "SocketOption",
    "TCPKeepAlive",
    "TLSContexts",
    "Try",
    "callers",
    "dial_directly",
    "duplicate",
    "family_name",
    "in_order",
    "is_ours_to_dial",
    "is_watched",
    "leave_dial_to",
    "own",
    "resolve",
    "set_own",
    "socket_options",
    "timed",
]
