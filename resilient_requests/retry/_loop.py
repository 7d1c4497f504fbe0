"""tenacity's loop, entered after a first failure that may be repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import tenacity
import tenacity.stop

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["repeat"]

_T = TypeVar("_T")


def repeat(
    first: Callable[[], _T],
    attempt: Callable[[], _T],
    *,
    is_due: Callable[[tenacity.RetryCallState], bool],
    wait: Callable[[], float],
    sleep: Callable[[float], None],
) -> _T:
    """Repeat ``attempt`` as long as ``is_due`` says so; return its last result, or raise its last error as it is.

    ``first`` stands for the attempt that was made already, so that tenacity's own count is true. Built
    per call: tenacity keeps its statistics on the object, in thread-local storage that nested calls reset.
    """
    upcoming = [attempt, first]

    def once() -> _T:
        return (upcoming.pop() if len(upcoming) > 1 else attempt)()

    loop = tenacity.Retrying(
        stop=tenacity.stop.stop_never,
        retry=is_due,
        wait=lambda _: wait(),
        sleep=sleep,
        reraise=True,
    )
    try:
        return loop(once)
    finally:
        vars(
            loop
        ).clear()  # it refers to itself, and to all of this, until the garbage collector comes by
