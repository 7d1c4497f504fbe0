"""Socket options with which the kernel finds dead paths."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import urllib3.connection

from resilient_requests import _checks

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TCPKeepAlive", "socket_options"]


@dataclass(frozen=True, kw_only=True)
class TCPKeepAlive:
    """Socket options that let the kernel notice a silent path; immutable.

    Probes begin after ``idle`` seconds of silence and repeat every ``interval`` seconds. After
    ``count`` unanswered probes the connection is dead: 30 s with the defaults. ``user_timeout`` is
    the seconds that sent data may stay unacknowledged, since Linux sends no probes in that time;
    None is the kernel's limit, some 15 minutes. It counts as at least ``idle + interval * count``:
    a smaller value would cut the probes short. An option that the platform lacks or refuses is
    skipped.

    The defaults: 15 s are below the 30 s after which the strictest common NATs forget a flow. User
    timeouts below 30 s ended connections to healthy peers that were slow to read, and outages of
    9 s that would have healed.

    Raises TypeError or ValueError naming the parameter.
    """

    idle: int = 15
    interval: int = 5
    count: int = 3
    user_timeout: float | None = 30.0

    def __post_init__(self) -> None:
        # Linux refuses larger values (tcp(7)), and would do so at every dial.
        for name, most in (("idle", 32767), ("interval", 32767), ("count", 127)):
            _checks.count(name, getattr(self, name), least=1, most=most)
        _checks.duration("user_timeout", self.user_timeout)


def socket_options(keepalive: TCPKeepAlive) -> list[tuple[int, int, int | bytes]]:
    """Return the options in the form of urllib3's ``socket_options``, its own defaults first."""
    # A given list replaces urllib3's defaults, and TCP_NODELAY is one of these.
    return [*urllib3.connection.HTTPConnection.default_socket_options, *_own(keepalive)]


def _own(keepalive: TCPKeepAlive) -> Iterator[tuple[int, int, int]]:
    yield socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
    names = {
        "TCP_KEEPIDLE": keepalive.idle,
        "TCP_KEEPINTVL": keepalive.interval,
        "TCP_KEEPCNT": keepalive.count,
    }
    if not hasattr(socket, "TCP_KEEPIDLE"):
        names["TCP_KEEPALIVE"] = keepalive.idle  # macOS's name for the idle time
    if keepalive.user_timeout is not None:
        least = keepalive.idle + keepalive.interval * keepalive.count
        names["TCP_USER_TIMEOUT"] = int(max(keepalive.user_timeout, least) * 1000)
    for name, value in names.items():
        if hasattr(socket, name):
            yield socket.IPPROTO_TCP, getattr(socket, name), value
