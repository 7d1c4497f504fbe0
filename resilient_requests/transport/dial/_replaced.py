"""Which of the functions that dial somebody has replaced: theirs are used then."""

from __future__ import annotations

import _socket
import socket
from typing import TYPE_CHECKING, Any

import urllib3.connection
import urllib3.util.connection

from resilient_requests.call import foreign_in

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["can_wait_on_several", "is_callers_own", "is_ours_to_dial"]


def is_ours_to_dial(new_conn: Callable[..., object]) -> bool:
    """Whether nobody has replaced what dials: ``_new_conn`` of a connection, ``create_connection``.

    By the module that a function was written in: that holds also for what was replaced before our
    import, and for wrappers that copy the name of what they wrap.
    """
    create = urllib3.util.connection.create_connection
    return getattr(new_conn, "__globals__", None) is vars(urllib3.connection) and getattr(
        create, "__globals__", None
    ) is vars(urllib3.util.connection)


def can_wait_on_several(kind: Any) -> bool:
    """Whether sockets of this class connect without blocking; those of PySocks do not."""
    connect = getattr(kind, "connect", None)
    if connect is _socket.socket.connect:
        return True
    return getattr(connect, "__module__", "").partition(".")[0] in ("gevent", "eventlet")


def is_callers_own(error: OSError) -> bool:
    """Whether code of the caller has raised this in a dial, such as a signal handler, and no socket."""
    # A package that replaces sockets raises their errors in its own modules.
    owners = (socket.socket, socket.socket.connect)
    modules = (getattr(each, "__module__", None) or "" for each in owners)
    roots = frozenset(name.partition(".")[0] for name in modules)
    return foreign_in(error, roots) is not None
