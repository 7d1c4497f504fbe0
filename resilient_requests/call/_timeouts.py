"""Time limits of calls, and the socket options by which the kernel finds dead paths."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import urllib3

from resilient_requests import _checks
from resilient_requests.call._attempt import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TCPKeepAlive", "Timeouts"]


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Time limits, in seconds, used where a call gives no ``timeout=``; immutable. None: no limit.

    ``connect``: dialling one address, the TLS handshake, a proxy's answer to CONNECT. ``write``: each 64 KiB of the
    request that the peer does not take. ``response``: from the last byte sent to the end of the response's head.
    ``idle``: no byte of the body. ``total``: one send as a whole, its retries, waits and response included.
    A call's own ``timeout=(c, r)`` sets connect, and response and idle.

    Raises TypeError or ValueError naming the parameter.
    """

    connect: float | None = 10.0
    write: float | None = 30.0
    response: float | None = 600.0
    idle: float | None = 300.0
    total: float | None = None
    _own: Limits = field(
        init=False, repr=False, compare=False
    )  # made here: a cached_property has a lock up to 3.11

    def __post_init__(self) -> None:
        for name in ("connect", "write", "response", "idle", "total"):
            _checks.duration(name, getattr(self, name))
        own = Limits(connect=self.connect, write=self.write, response=self.response, idle=self.idle)
        object.__setattr__(self, "_own", own)

    def limits(self, timeout: Any) -> Limits:
        """Return the limits of a call whose ``timeout=`` was given so: None, seconds, a pair or urllib3's Timeout.

        Raises ValueError naming the part of ``timeout`` that is wrong, as requests does, also for a wrong type.
        """
        if timeout is None:
            return self._own
        if isinstance(timeout, urllib3.Timeout):
            connect, read = self._of_urllib3(timeout)
        elif isinstance(timeout, tuple):
            if len(timeout) != 2:
                raise ValueError(
                    f"timeout must be seconds or a pair (connect, read), not {timeout!r}"
                )
            connect, read = timeout
        else:
            connect = read = timeout
        try:
            connect = _checks.patience("timeout (connect)", connect)
            read = _checks.patience("timeout (read)", read)
        except TypeError as error:
            raise ValueError(
                f"{error}: a timeout must be an int, float or None, or a pair of them"
            ) from None
        if (
            isinstance(timeout, urllib3.Timeout)
            and timeout._read is urllib3.Timeout.DEFAULT_TIMEOUT
        ):
            return Limits(
                connect=connect,
                write=self.write,
                response=read,
                idle=_least(self.idle, timeout.total),
            )
        return Limits(connect=connect, write=self.write, response=read, idle=read)

    def _of_urllib3(self, timeout: urllib3.Timeout) -> tuple[Any, Any]:
        # urllib3 marks what was not given by an Enum member, and bounds connect and read together by ``total``.
        unset = urllib3.Timeout.DEFAULT_TIMEOUT
        connect = self.connect if timeout._connect is unset else timeout._connect
        read = self.response if timeout._read is unset else timeout._read
        return _least(connect, timeout.total), _least(read, timeout.total)


def _least(*limits: Any) -> Any:
    return min((each for each in limits if each is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class TCPKeepAlive:
    """Socket options that make the kernel notice a path that has gone silent; immutable.

    Probes begin after ``idle`` seconds of silence, every ``interval`` seconds; after ``count`` unanswered ones the
    connection is dead (about 30 s with the defaults). ``user_timeout``: seconds that sent data may stay
    unacknowledged (None: the kernel's, some 15 minutes), for which probes are blind; it counts as at least ``idle +
    interval * count``, since below it would cut the probes short. Best effort: what a platform lacks is skipped.

    Raises TypeError or ValueError naming the parameter.
    """

    idle: int = 15
    interval: int = 5
    count: int = 3
    user_timeout: float | None = 30.0

    def __post_init__(self) -> None:
        # Linux refuses more (tcp(7)), on every dial.
        for name, most in (("idle", 32767), ("interval", 32767), ("count", 127)):
            _checks.count(name, getattr(self, name), least=1, most=most)
        _checks.duration("user_timeout", self.user_timeout)

    def socket_options(self) -> list[tuple[int, int, int | bytes]]:
        """Return the options in the form of urllib3's ``socket_options``, its own defaults first."""
        # A list of its own replaces urllib3's default, and with it TCP_NODELAY.
        return [*urllib3.connection.HTTPConnection.default_socket_options, *self._own()]

    def _own(self) -> Iterator[tuple[int, int, int]]:
        yield socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
        # macOS calls the idle time TCP_KEEPALIVE.
        names = {
            "TCP_KEEPIDLE": self.idle,
            "TCP_KEEPINTVL": self.interval,
            "TCP_KEEPCNT": self.count,
        }
        if not hasattr(socket, "TCP_KEEPIDLE"):
            names["TCP_KEEPALIVE"] = self.idle
        if self.user_timeout is not None:
            seconds = max(self.user_timeout, self.idle + self.interval * self.count)
            names["TCP_USER_TIMEOUT"] = int(seconds * 1000)
        for name, value in names.items():
            if hasattr(socket, name):
                yield socket.IPPROTO_TCP, getattr(socket, name), value
