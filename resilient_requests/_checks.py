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


# The longest wait of socket.settimeout() and poll(): milliseconds in a C int, about 24 days.
_LONGEST = 2_147_483.0


def number(
    name: str,
    value: object,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = sys.float_info.max,
) -> float:
    """Return ``value`` as a finite float above ``above``, from ``least`` to ``most``.

    Raises TypeError if it is no number, ValueError if it is out of range; both name the parameter.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    # Compared, since math.isfinite() raises OverflowError on an int larger than any float.
    if value != value or value in (math.inf, -math.inf):  # noqa: PLR0124
        raise ValueError(f"{name} must be finite, not {value!r}")
    if value > most:
        raise ValueError(f"{name} must be at most {most:.7g}")
    if value < least:
        raise ValueError(f"{name} must be at least {least:g}, not {value!r}")
    if value <= above:
        raise ValueError(f"{name} must be greater than {above:g}, not {value!r}")
    return float(value)


def duration(name: str, value: object) -> float | None:
    """Return ``value`` as seconds above zero, at most 24 days; None: no limit. Errors: `number`."""
    return None if value is None else number(name, value, above=0.0, most=_LONGEST)


def patience(name: str, value: object) -> float | None:
    """Return a call's own ``timeout=`` in seconds, or None, from any number that requests takes.

    A longer time than 24 days becomes 24 days, the most that a socket can wait. Errors as `number`.
    """
    if value is None:
        return None
    if isinstance(value, SupportsFloat) and not isinstance(value, (str, bool, int)):
        value = float(value)  # a number of numpy, decimal or fractions
    return min(number(name, value, above=0.0, most=threading.TIMEOUT_MAX), _LONGEST)


def count(name: str, value: object, *, least: int = 0, most: int | None = None) -> int:
    """Return ``value`` as an int from ``least`` to ``most`` (None: no limit). Errors: `number`."""
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
    """Raise TypeError naming the parameter unless ``value`` is a ``kind`` (or an allowed None)."""
    if not (isinstance(value, kind) or (optional and value is None)):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


def items(name: str, value: object) -> Iterable[Any]:
    """Return ``value``, a collection but no str. Raises TypeError naming the parameter."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a collection, not {type(value).__name__}")
    return value


def statuses(name: str, value: object) -> frozenset[int]:
    """Return ``value`` as a frozenset of HTTP status codes. Errors as `number`."""
    codes = frozenset(count(name, code, least=100) for code in items(name, value))
    if codes and max(codes) > 999:  # http.client takes any three digits
        raise ValueError(f"{name} must be HTTP status codes, not {max(codes)}")
    return codes
