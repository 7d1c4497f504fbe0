"""One check per kind of argument, each naming the parameter that is wrong."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterable
from typing import Any, SupportsFloat

__all__ = [
    "count",
    "duration",
    "flag",
    "instance",
    "items",
    "number",
    "patience",
    "statuses",
]


# What socket.settimeout() and poll() can wait: milliseconds in a C int, some 24 days.
_LONGEST = 2_147_483.0


def number(
    name: str,
    value: object,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = sys.float_info.max,
) -> float:
    """Return ``value`` as a finite float greater than ``above``, not less than ``least``, not more than ``most``.

    Raises TypeError where it is no number, ValueError where it is out of range; both name the parameter.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if value != value or value in (math.inf, -math.inf):  # noqa: PLR0124  # isfinite() fails on ints beyond floats
        raise ValueError(f"{name} must be finite, not {value!r}")
    if value > most:
        raise ValueError(f"{name} must be at most {most:.7g}")
    if value < least:
        raise ValueError(f"{name} must be at least {least:g}, not {value!r}")
    if value <= above:
        raise ValueError(f"{name} must be greater than {above:g}, not {value!r}")
    return float(value)


def duration(name: str, value: object) -> float | None:
    """Return ``value`` as seconds greater than zero, at most 24 days, or None (no limit). Errors as `number`."""
    return None if value is None else number(name, value, above=0.0, most=_LONGEST)


def patience(name: str, value: object) -> float | None:
    """Return a call's own ``timeout=`` in seconds, or None: whatever is a number to requests.

    More than 24 days, the most that a socket can wait, is 24 days. Errors as `number`.
    """
    if value is None:
        return None
    if isinstance(value, SupportsFloat) and not isinstance(value, (str, bool, int)):
        value = float(value)  # of numpy, decimal or fractions
    return min(number(name, value, above=0.0, most=threading.TIMEOUT_MAX), _LONGEST)


def count(name: str, value: object, *, least: int = 0, most: int | None = None) -> int:
    """Return ``value`` as an int not less than ``least``, nor more than ``most``. Errors as `number`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}")
    return value


def flag(name: str, value: object) -> bool:
    """Return ``value``, which must be True or False. Raises TypeError naming the parameter."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
    return value


def instance(name: str, value: object, kind: type, *, optional: bool = False) -> None:
    """Raise TypeError naming the parameter unless ``value`` is a ``kind`` (or None where ``optional``)."""
    if not (isinstance(value, kind) or (optional and value is None)):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


def items(name: str, value: object) -> Iterable[Any]:
    """Return ``value``, which must be a collection and no str. Raises TypeError naming the parameter."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a collection, not {type(value).__name__}")
    return value


def statuses(name: str, value: object) -> frozenset[int]:
    """Return ``value`` as a frozenset of HTTP status codes. Errors as `number`."""
    codes = frozenset(count(name, code, least=100) for code in items(name, value))
    if codes and max(codes) > 999:  # http.client takes any three digits
        raise ValueError(f"{name} must be HTTP status codes, not {max(codes)}")
    return codes
