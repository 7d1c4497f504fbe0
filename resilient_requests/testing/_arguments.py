"""Checks of arguments; each error names the parameter that is wrong."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable, Mapping
from types import NoneType
from typing import Any

LONGEST = 2_147_483  # poll() takes milliseconds in a C int: some 24 days


def check(
    name: str, value: object, *kinds: Any, least: float = -math.inf, most: float = math.inf
) -> None:
    """Raise TypeError for a value of another kind, ValueError for a number out of range."""
    # True is an int, but a bool in place of a number is a mistake.
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        allowed = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
        raise TypeError(f"{name} must be {allowed}, not {type(value).__name__}")
    if isinstance(value, float | int) and not least <= value <= most:  # this refuses NaN too
        bounds = f"at least {least}" if most == math.inf else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, not {value!r}")


def check_wait(name: str, value: object, *others: type) -> None:
    """Raise unless ``value`` is a number of seconds, an event, or of one of the other kinds."""
    check(name, value, float, int, threading.Event, *others, least=0, most=LONGEST)


def check_choice(name: str, value: object, allowed: Collection[str], others: str = "") -> None:
    """Raise TypeError unless ``value`` is a str, ValueError unless it is one of those allowed."""
    if not isinstance(value, str) or value not in allowed:
        error = ValueError if isinstance(value, str) else TypeError
        raise error(f"{name} must be {' or '.join(map(repr, allowed))}{others}, not {value!r}")


def check_text(name: str, value: object, *others: type) -> None:
    """Raise TypeError unless ``value`` is a str, ValueError unless a head can hold it."""
    check(name, value, str, *others)
    if isinstance(value, str) and any(letter > "\xff" for letter in value):
        raise ValueError(f"{name} must be latin-1, not {value!r}")


def collected(name: str, value: object) -> tuple[Any, ...]:
    """Return the items of a collection. Raises TypeError for text, bytes and mappings too."""
    # The items of bytes are numbers: they would pass as seconds, or as sizes.
    if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a collection, not {type(value).__name__}")
    return tuple(value)


def fields(name: str, value: object) -> tuple[tuple[str, str], ...]:
    """Return the header fields of a mapping, or of a collection of pairs of latin-1 text."""
    found = tuple(value.items()) if isinstance(value, Mapping) else collected(name, value)
    for pair in found:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"{name} must be pairs of name and value, not hold {pair!r}")
        for each in pair:
            check_text(f"{name} (an item)", each)
    return found
