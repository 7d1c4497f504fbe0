"""Time limits: those of an adapter, and those of one call."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from typing import Any

import urllib3

from resilient_requests import _checks

__all__ = ["Limits", "Timeouts", "as_urllib3", "limits_of"]

_UNSET = urllib3.Timeout.DEFAULT_TIMEOUT


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The time limits of one attempt, in seconds; None is no limit; immutable."""

    connect: float | None
    write: float | None
    response: float | None
    idle: float | None

    def longer(self) -> Limits:
        """Return limits with twice the time for the answer, for the retry of a slow one."""
        names = ("response", "idle")
        doubled = {name: 2 * value for name in names if (value := getattr(self, name)) is not None}
        return replace(self, **doubled)


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Time limits in seconds for calls that give no ``timeout=``; None is no limit; immutable.

    ``connect`` bounds dialling, the TLS handshake and a proxy's answer to CONNECT, each by itself.
    ``write`` bounds the wait until the peer takes the next 64 KiB of the request. ``response`` runs
    from the last byte sent to the end of the response's head. ``idle`` bounds a silence in the
    body. ``total`` bounds one send as a whole: retries, waits and response. A call's own
    ``timeout=(c, r)`` sets connect to c, response and idle to r; ``timeout=None`` sets nothing.

    The defaults: 10 s allow for three retransmissions of the first packet of a connection. 30 s is
    also `TCPKeepAlive`'s limit for unacknowledged data. 600 s is the response limit of the large
    providers' clients. 300 s is below the 350 s after which common gateways forget a flow, and
    above the pauses that models make.

    Raises TypeError or ValueError naming the parameter.
    """

    connect: float | None = 10.0
    write: float | None = 30.0
    response: float | None = 600.0
    idle: float | None = 300.0
    total: float | None = None
    # Not a cached_property, which takes a lock until Python 3.12.
    _limits: Limits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("connect", "write", "response", "idle", "total"):
            _checks.duration(name, getattr(self, name))
        limits = Limits(
            connect=self.connect, write=self.write, response=self.response, idle=self.idle
        )
        object.__setattr__(self, "_limits", limits)


def limits_of(timeouts: Timeouts, timeout: Any) -> Limits:
    """Return the limits of a call with this ``timeout=``, in any form that requests takes.

    None, and urllib3's mark for its default, stand for the limits of ``timeouts``. Raises
    ValueError naming the part of ``timeout`` that is wrong, for a wrong type too, as requests does.
    """
    if timeout is None or timeout is _UNSET:
        return timeouts._limits
    if isinstance(timeout, urllib3.Timeout):
        return _limits_of_urllib3(timeouts, timeout)
    if not isinstance(timeout, tuple):
        timeout = (timeout, timeout)
    if len(timeout) != 2:
        raise ValueError(f"timeout must be seconds or a pair (connect, read), not {timeout!r}")
    connect = _seconds("timeout (connect)", timeout[0], timeouts.connect)
    if timeout[1] is _UNSET:
        return Limits(
            connect=connect, write=timeouts.write, response=timeouts.response, idle=timeouts.idle
        )
    read = _seconds("timeout (read)", timeout[1], None)
    return Limits(connect=connect, write=timeouts.write, response=read, idle=read)


def as_urllib3(timeout: Any) -> Any:
    """Return a ``timeout=`` that `limits_of` has accepted, with numbers that a socket accepts.

    Numbers of Decimal, Fraction and numpy become floats: socket.settimeout refuses them. Any other
    value returns unchanged.
    """
    if isinstance(timeout, tuple):
        return tuple(map(_plain, timeout))
    if isinstance(timeout, urllib3.Timeout):
        given = (timeout.total, timeout._connect, timeout._read)
        plain = tuple(map(_plain, given))
        return timeout if all(map(operator.is_, plain, given)) else urllib3.Timeout(*plain)
    return _plain(timeout)


def _plain(value: Any) -> Any:
    is_taken = value is None or value is _UNSET or isinstance(value, (int, float))
    return value if is_taken else float(value)


def _limits_of_urllib3(timeouts: Timeouts, timeout: urllib3.Timeout) -> Limits:
    # In urllib3, ``total`` bounds connect and read together. Its constructor has checked the
    # values.
    given, total = (timeout._connect, timeout._read), timeout.total
    connect = _seconds("timeout (connect)", given[0], timeouts.connect)
    response = _seconds("timeout (read)", given[1], timeouts.response)
    idle = _seconds("timeout (read)", given[1], timeouts.idle)
    return Limits(
        connect=_least(connect, total),
        write=timeouts.write,
        response=_least(response, total),
        idle=_least(idle, total),
    )


def _seconds(name: str, value: object, default: float | None) -> float | None:
    if value is _UNSET:
        return default
    try:
        return _checks.patience(name, value)
    except TypeError as error:
        raise ValueError(
            f"{error}: a timeout must be an int, float or None, or a pair of them"
        ) from None


def _least(*limits: Any) -> float | None:
    return min((each for each in limits if each is not None), default=None)
