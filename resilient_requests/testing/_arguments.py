"""One check per kind of argument, each naming the parameter that is wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any

_LONGEST = 2_147_483  # poll() waits milliseconds in a C int, some 24 days


def instance(name: str, value: object, *kinds: type) -> None:
    """Raise TypeError naming the parameter unless ``value`` is of one of the kinds; True is no number."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        allowed = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
        raise TypeError(f"{name} must be {allowed}, not {type(value).__name__}")


def flag(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is True or False."""
    instance(name, value, bool)


def count(name: str, value: Any, *, least: int = 0, most: int | None = None) -> None:
    """Raise TypeError unless ``value`` is an int, ValueError unless it is from ``least`` to ``most``."""
    instance(name, value, int)
    if value < least or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, not {value}")


def seconds(name: str, value: Any, *, positive: bool = False) -> None:
    """Raise TypeError unless ``value`` is a number, ValueError unless a wait can last so many seconds."""
    instance(name, value, float, int)
    if not 0 <= value <= _LONGEST or (positive and not value):  # NaN is in no range
        bounds = "greater than 0 and at most" if positive else "from 0 to"
        raise ValueError(f"{name} must be {bounds} {_LONGEST}, not {value!r}")


def wait(name: str, value: object, *others: type) -> None:
    """Raise as `seconds` does unless ``value`` is an event, or of one of the other kinds."""
    instance(name, value, *others, float, int, threading.Event)
    if isinstance(value, (float, int)):
        seconds(name, value)


def choice(name: str, value: object, allowed: Iterable[str], others: str = "") -> None:
    """Raise TypeError unless ``value`` is a str, ValueError unless it is one of those that are allowed."""
    words = f"{name} must be {' or '.join(map(repr, allowed))}{others}, not"
    if not isinstance(value, str):
        raise TypeError(f"{words} {type(value).__name__}")
    if value not in allowed:
        raise ValueError(f"{words} {value!r}")


def text(name: str, value: Any) -> None:
    """Raise TypeError unless ``value`` is a str, ValueError unless a head can hold it."""
    instance(name, value, str)
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be latin-1, not {value!r}") from None


def collection(name: str, value: object) -> tuple[Any, ...]:
    """The items of a collection; raises TypeError where ``value`` is none, or is text, bytes or a mapping."""
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a collection, not {type(value).__name__}")
    return tuple(value)


def pairs(name: str, value: object) -> tuple[tuple[str, str], ...]:
    """The header fields of a mapping or of a collection of pairs; raises TypeError, or ValueError as `text` does."""
    found = tuple(value.items()) if isinstance(value, Mapping) else collection(name, value)
    for pair in found:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(
                f"{name} must be a mapping or pairs of name and value, not hold {pair!r}"
            )
        for each in pair:
            text(f"{name} (an item)", each)
    return found
