"""Whether a call of ours is worse than a plain one, or better. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packages.faults import HUNG, OK, WRONG, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packages.faults import Outcome

NOISE = 1.0
"""Seconds by which two runs of a call may differ: waits before retries, a busy machine."""
_RANKS = {OK: 0, HUNG: 2, WRONG: 3}


def rank(outcome: Outcome) -> int:
    """Return how bad an outcome is: an answer, an error, none at all, somebody else's answer."""
    return _RANKS.get(outcome.result, 1)


def worse(fault: Fault, plain: Outcome, ours: Outcome) -> Iterator[str]:
    """Yield each way in which ours is worse, as a sentence."""
    # On a connection that two processes share, either may read the answer of the other.
    is_luck = fault is Fault.FORK and plain.result != OK
    if rank(ours) > rank(plain) and not is_luck:
        yield f"{ours.result} instead of {plain.result}: {ours.text}"
    elif rank(ours) == rank(plain) == 1 and not is_luck and plain.result not in ours.parents:
        yield f"`except {plain.result}` does not catch {ours.result}"
    # Rule (b) of the retries: a reset on a connection that was idle is taken for the network's.
    if fault is not Fault.ACTED_REUSED and ours.applied > max(1, plain.applied):
        yield f"applied {ours.applied} times, not {plain.applied}"
    if rank(ours) == rank(plain) and not is_luck and ours.seconds > plain.seconds + NOISE:
        yield f"took {ours.seconds:.1f} s, not {plain.seconds:.1f} s"


def is_better(plain: Outcome, ours: Outcome) -> bool:
    """Return whether ours has a better outcome, or the same sooner or with fewer applications."""
    if rank(ours) != rank(plain):
        return rank(ours) < rank(plain)
    return ours.applied < plain.applied or ours.seconds < plain.seconds - NOISE
