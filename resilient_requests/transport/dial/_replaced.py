"""Tells whether another package has replaced functions that dial; its own are then used."""

from __future__ import annotations

import _socket
from typing import TYPE_CHECKING, Any

import urllib3.connection
import urllib3.util.connection

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["can_wait_on_several", "is_ours_to_dial"]


def is_ours_to_dial(new_conn: Callable[..., object]) -> bool:
    """Return True if ``_new_conn`` of a connection and ``create_connection`` are urllib3's own.

    The module in which a function was written decides. That holds for replacements made before our
    import too, and for wrappers that copy the name of the wrapped function.
    """
    create = urllib3.util.connection.create_connection
    return getattr(new_conn, "__globals__", None) is vars(urllib3.connection) and getattr(
        create, "__globals__", None
    ) is vars(urllib3.util.connection)


def can_wait_on_several(kind: Any) -> bool:
    """Return True if sockets of this class connect without blocking; those of PySocks cannot."""
    connect = getattr(kind, "connect", None)
    if connect is _socket.socket.connect:
        return True
    return getattr(connect, "__module__", "").partition(".")[0] in ("gevent", "eventlet")
