"""Settings that an operator makes by environment variables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from resilient_requests import _checks
from resilient_requests.call._log import warn_bad_environment

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["count_of", "is_on", "seconds_of"]

_PREFIX = "RESILIENT_REQUESTS_"
_T = TypeVar("_T", int, float)


def is_on(name: str) -> bool:
    """Return whether ``RESILIENT_REQUESTS_<name>`` is a switch that is on."""
    return _read(name, ("0", "1").index, 0) == 1


def seconds_of(name: str, default: float) -> float:
    """Return the seconds that a variable gives; ``default`` where it gives none, or a bad value."""
    return _read(name, _seconds, default)


def count_of(name: str, default: int) -> int:
    """Return the count that a variable gives; ``default`` where it gives none, or a bad value."""
    return _read(name, _count, default)


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
