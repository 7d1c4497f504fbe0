"""One check per kind of argument, each naming the parameter that is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

__all__ = ["count", "duration", "flag", "instance", "items", "names", "number", "statuses"]


def number(name: str, value: object, *, above: float = -math.inf, least: float = -math.inf) -> float:
    """Return ``value`` as a finite float greater than ``above`` and not less than ``least``.

    Raises TypeError where it is no number, ValueError where it is out of range; both name the parameter.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least:g}, not {value!r}")
    if value <= above:
        raise ValueError(f"{name} must be greater than {above:g}, not {value!r}")
    return float(value)


def duration(name: str, value: object) -> float | None:
    """Return ``value`` as seconds greater than zero, or None (no limit). Errors as `number`."""
    return None if value is None else number(name, value, above=0.0)


def count(name: str, value: object, *, least: int = 0) -> int:
    """Return ``value`` as an int not less than ``least``. Errors as `number`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
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
    if codes and max(codes) > 599:
        raise ValueError(f"{name} must be HTTP status codes, not {max(codes)}")
    return codes


def names(name: str, value: object) -> frozenset[str]:
    """Return ``value``, a collection of str, as a frozenset. Raises TypeError naming the parameter."""
    found = frozenset(items(name, value))
    for each in found:
        instance(f"{name} (an item)", each, str)
    return found
