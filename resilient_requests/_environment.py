"""Defaults that an operator sets by environment variables; read when an adapter is built."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from resilient_requests import _checks
from resilient_requests._events import warn_bad_environment
from resilient_requests._keepalive import KeepAlivePolicy
from resilient_requests._retry import RetryPolicy
from resilient_requests._timeouts import Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["is_disabled", "keepalive_policy", "retry_policy", "timeouts"]

_PREFIX = "RESILIENT_REQUESTS_"
_SWITCH = ("0", "1")
_T = TypeVar("_T", int, float)


def is_disabled() -> bool:
    """Return whether the operator's kill switch is on: ``RESILIENT_REQUESTS_DISABLE=1``."""
    return _read("DISABLE", _SWITCH.index, 0) == 1


def keepalive_policy() -> KeepAlivePolicy:
    """Return the default policy, with the expiry of ``RESILIENT_REQUESTS_KEEPALIVE`` (seconds)."""
    default = KeepAlivePolicy()
    return KeepAlivePolicy(expiry=_read("KEEPALIVE", _seconds, default.expiry))


def retry_policy() -> RetryPolicy:
    """Return the default policy, with the count of ``RESILIENT_REQUESTS_MAX_RETRIES`` (0 is none)."""
    default = RetryPolicy()
    return RetryPolicy(max_retries=_read("MAX_RETRIES", _count, default.max_retries))


def timeouts() -> Timeouts:
    """Return the default limits, with the idle limit of ``RESILIENT_REQUESTS_STREAM_IDLE`` (seconds)."""
    default = Timeouts()
    assert default.idle is not None
    return Timeouts(idle=_read("STREAM_IDLE", _seconds, default.idle))


def _read(name: str, parse: Callable[[str], _T], default: _T) -> _T:
    text = os.environ.get(_PREFIX + name, "").strip()
    if not text:
        return default
    try:
        return parse(text)
    except ValueError:
        warn_bad_environment(_PREFIX + name, default)
        return default


def _seconds(text: str) -> float:
    value = _checks.duration("value", float(text))
    assert value is not None
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value
