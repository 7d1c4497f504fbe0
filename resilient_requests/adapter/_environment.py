"""Settings of operators, by environment variables."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, TypeVar

from resilient_requests import _checks
from resilient_requests.call import warn_bad_environment

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["count_of", "is_on", "seconds_of"]

_PREFIX = "RESILIENT_REQUESTS_"
_PACKAGE = "resilient_requests."
_ON = ("1", "true", "yes", "on")
_OFF = ("0", "false", "no", "off")
_T = TypeVar("_T")


def is_on(name: str) -> bool:
    """Return True if ``RESILIENT_REQUESTS_<name>`` is a switch that is on; a bad value is off."""
    return _read(name, _switch, False, f"neither on ({', '.join(_ON)}) nor off")


def seconds_of(name: str, default: float) -> float:
    """Return the seconds in a variable; ``default`` if it is unset, blank or bad."""
    return _read(name, _seconds, default, "no number of seconds above 0")


def count_of(name: str, default: int) -> int:
    """Return the count in a variable; ``default`` if it is unset, blank or bad."""
    return _read(name, _count, default, "no whole number from 0")


def _read(name: str, parse: Callable[[str], _T], default: _T, complaint: str) -> _T:
    text = os.environ.get(_PREFIX + name, "").strip()
    if not text:
        return default
    try:
        return parse(text)
    except ValueError:
        warn_bad_environment(_PREFIX + name, default)
        # A warning too, for operators who keep no log. It omits the value, which may be a secret.
        message = f"{_PREFIX}{name} is {complaint}: using {default}"
        warnings.warn(message, RuntimeWarning, stacklevel=_callers_level())
        return default


def _callers_level() -> int:
    """Return the number of frames from `_read` to the code that makes the adapter."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals["__name__"].startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level


def _switch(text: str) -> bool:
    if text.lower() not in (*_ON, *_OFF):
        raise ValueError
    return text.lower() in _ON


def _seconds(text: str) -> float:
    value = _checks.duration("value", float(text))
    assert value is not None
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value
