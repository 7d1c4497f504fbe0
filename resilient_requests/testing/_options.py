"""What each option of a reply, a step or a server may be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

from resilient_requests.testing._arguments import (
    choice,
    collection,
    count,
    flag,
    instance,
    seconds,
    text,
    wait,
)

Wait: TypeAlias = float | threading.Event
Ending = Literal["reset", "fin", "silence", "fin_then_reset"]
Framing = Literal["length", "chunked", "close"]
Reading: TypeAlias = Literal["all", "head"] | int
Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
IdleFault = Literal["reset", "drop"]
IdleEnd = Literal["reset", "fin"]

_C_INT = 2**31 - 1


def check(**options: object) -> None:
    """Raise TypeError or ValueError, naming it, for the first option that is wrong."""
    for name, value in options.items():
        if value is not None or name not in _OPTIONAL:
            _CHECKS[name](name, value)


def _sequence(name: str, value: object) -> tuple[Any, ...]:
    instance(name, value, Sequence)  # no iterator: it would be used up here
    return collection(name, value)


def _chunks(name: str, value: object) -> None:
    for each in _sequence(name, value):
        instance(f"{name} (an item)", each, int, bytes)
        if isinstance(each, int):
            count(f"{name} (an item)", each, least=1)


def _interim(name: str, value: object) -> None:
    for each in _sequence(name, value):
        count(f"{name} (an item)", each, least=100, most=199)


def _cut(name: str, value: Any) -> None:
    if isinstance(value, tuple) and len(value) == 2:
        choice(f"{name} (its place)", value[0], ("head",))
        value = value[1]
    count(name, value)


def _read(name: str, value: object) -> None:
    if isinstance(value, int):
        count(name, value)
    else:
        choice(name, value, ("all", "head"), " or a number of bytes")


def _slow_read(name: str, value: object) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"{name} must be a pair of a number of bytes and seconds, not {value!r}")
    count(f"{name} (its bytes)", value[0], least=1)
    seconds(f"{name} (its seconds)", value[1])


def _path(name: str, value: Any) -> None:
    instance(name, value, str)
    # Besides paths there are "*", "host:port" of CONNECT, and nothing after the host of a URL.
    if "?" in value or not (value.startswith("/") or value in {"", "*"} or ":" in value):
        raise ValueError(f"{name} must begin with '/' and have no query, not be {value!r}")


def _callable(name: str, value: object) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")


_OPTIONAL = frozenset(
    {
        "chunks",
        "cut",
        "drip",
        "ending",
        "head_pause",
        "idle_limit",
        "keep_alive",
        "reason",
        "receive_buffer",
        "slow_read",
    }
)
_CHECKS: Mapping[str, Callable[[str, object], None]] = {
    "after": wait,
    "applies": flag,
    "body": lambda name, value: instance(name, value, bytes, str),
    "chunks": _chunks,
    "content_type": text,
    "count": count,
    "cut": _cut,
    "done": flag,
    "drip": partial(seconds, positive=True),
    "ending": partial(choice, allowed=get_args(Ending)),
    "framing": partial(choice, allowed=get_args(Framing)),
    "gzip": flag,
    "head_pause": wait,
    "how": partial(choice, allowed=get_args(IdleEnd)),
    "idle_fault": partial(choice, allowed=get_args(IdleFault)),
    "idle_limit": seconds,
    "interim": _interim,
    "keep_alive": text,
    "listen_backlog": partial(count, most=_C_INT),
    "notify": flag,
    "path": _path,
    "patience": partial(seconds, positive=True),
    "predicate": _callable,
    "read": _read,
    "reason": text,
    "receive_buffer": partial(count, least=1, most=_C_INT),
    "slow_read": _slow_read,
    "status": partial(count, least=100, most=999),
    "timeout": seconds,
    "tls": flag,
    "until": wait,
}
