"""Makes a case that fails as small as it can be while it fails in the same way."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fuzzing.cases import without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fuzzing.cases import Case

LINE = 64


def shrink(case: Case, fails: Callable[[Case], bool], seconds: float) -> Case:
    """Return the smallest case found within so long for which ``fails`` still returns True."""
    until = time.monotonic() + seconds
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for candidate in _smaller(case):
            if time.monotonic() > until:
                return case
            if fails(candidate):
                case, is_smaller = candidate, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """Yield cases that may be smaller, those with the largest step first."""
    simple: dict[str, Any] = {
        "tls": False,
        "is_halved": False,
        "method": "GET",
        "ending": "open",
        "way": "content",
    }
    for name, value in simple.items():
        if getattr(case, name) != value:
            yield replace(case, **{name: value})
    if len(case.pieces) > 1:
        yield case.in_one_piece()
        for at in range(len(case.pieces) - 1):
            joined = case.pieces[at] + case.pieces[at + 1]
            yield replace(case, pieces=(*case.pieces[:at], joined, *case.pieces[at + 2 :]))
    for begin, end in _ranges(case.data):
        yield without(case, begin, end)


def _ranges(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the ranges to leave out: halves, quarters and so on down to single bytes, and lines."""
    size = len(data) // 2
    is_lines_due = True
    while size:
        if is_lines_due and size < LINE:
            is_lines_due = False
            yield from _lines(data)
        for begin in range(0, len(data), size):
            yield begin, min(begin + size, len(data))
        size //= 2


def _lines(data: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    for line in data.splitlines(keepends=True):
        yield at, at + len(line)
        at += len(line)
