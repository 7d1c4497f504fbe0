"""A dial for a connection of urllib3, with its settings and its errors."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import urllib3.connection
import urllib3.exceptions

from resilient_requests.transport.dial._addresses import AddressInfo, in_order, resolve
from resilient_requests.transport.dial._dial import Dial, Reached
from resilient_requests.transport.dial._options import callers, set_own

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient_requests.call import Attempt

__all__ = ["dial_directly", "leave_dial_to"]


def dial_directly(
    conn: urllib3.connection.HTTPConnection, attempt: Attempt, first: AddressInfo | None
) -> tuple[socket.socket, Reached]:
    """Dial as urllib3 does, but try several addresses, and let a cancel end it.

    ``first`` is the address to begin with, if the name still has it. Raises urllib3's errors.
    """
    try:
        addresses = resolve(conn._dns_host, conn.port)
        if len(addresses) > 1:
            addresses = in_order(addresses, first)
        dial = Dial(
            addresses,
            options=conn.socket_options,
            source_address=conn.source_address,
            limit=attempt.limits.connect,
            token=attempt.token,
        )
        reached = dial.connect()
    except socket.gaierror as error:
        raise urllib3.exceptions.NameResolutionError(conn.host, conn, error) from error
    except TimeoutError as error:
        message = f"Connection to {conn.host} timed out. (connect timeout={conn.timeout})"
        raise urllib3.exceptions.ConnectTimeoutError(conn, message) from error
    except OSError as error:  # last: the two above are OSErrors as well
        message = f"Failed to establish a new connection: {error}"
        raise urllib3.exceptions.NewConnectionError(conn, message) from error
    sys.audit("http.client.connect", conn, conn.host, conn.port)  # as urllib3 and http.client do
    return reached


def leave_dial_to(
    conn: urllib3.connection.HTTPConnection, dial: Callable[[], socket.socket]
) -> socket.socket:
    """Let PySocks dial, or code that has replaced urllib3's function."""
    # Their code raises if the kernel refuses an option, so it gets the caller's options only.
    options = conn.socket_options
    conn.socket_options = callers(options)
    try:
        sock = dial()
    except urllib3.exceptions.HTTPError as error:
        # urllib3 sets no cause if a SOCKS server refuses, or for an error in that dial.
        if type(error.__context__).__module__ == "socks":
            error.__cause__ = error.__context__
        raise
    finally:
        conn.socket_options = options
    set_own(sock, options)
    return sock
