"""tenacity's loop, entered only after a first failure that may be repeated."""

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
    """Repeat ``attempt`` while ``is_due`` is True; return its last result or raise its last error.

    ``first`` replays the attempt made before, so that tenacity counts it too. The loop is built per
    call: tenacity keeps statistics on the object, in thread-local storage that nested calls reset.
    """
    upcoming = [attempt, first]

    def once() -> _T:
        return (upcoming.pop() if len(upcoming) > 1 else attempt)()

    loop = tenacity.Retrying(
        # `is_due` alone stops the loop. tenacity asks `stop` before the wait, so a call that is
        # cancelled in the wait would make one more attempt.
        stop=tenacity.stop.stop_never,
        retry=is_due,
        wait=lambda _: wait(),
        sleep=sleep,
        reraise=True,
    )
    try:
        return loop(once)
    finally:
        # The loop refers to itself: emptied, it is freed without the garbage collector.
        vars(loop).clear()
