"""A pytest plugin that resolves no name of another machine."""

from __future__ import annotations

import socket
from typing import Any

_LOCAL = ("localhost", "127.", "::1", "0.0.0.0")  # a server listens there
_real = socket.getaddrinfo


def _local_only(host: Any, *args: Any, **kwargs: Any) -> Any:
    text = host.decode() if isinstance(host, bytes) else host
    if text is not None and not text.startswith(_LOCAL):
        raise socket.gaierror(socket.EAI_NONAME, f"{text} is not on this machine")
    return _real(host, *args, **kwargs)


socket.getaddrinfo = _local_only
