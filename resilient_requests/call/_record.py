"""What is told of an attempt once it is over."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["AttemptRecord"]


class AttemptRecord(NamedTuple):
    """What one attempt of a call did: an item of ``error.attempts``; immutable, pickles.

    ``number`` counts from 1; ``reused`` says whether the connection came from the pool, idle for
    ``idle_for`` seconds (None on a fresh one); ``phase`` is how far it came; ``status`` the HTTP
    status (None without one); ``error`` is text, the class and the errno's name, never the
    exception, which would keep frames and prompts alive; ``elapsed`` seconds; ``stopped_by`` says
    why no further attempt followed ("not replayable", "policy", "budget", "deadline", "cancelled",
    "shut down", "exhausted"; None where one did follow, or on success). A tuple, because each call
    makes one, and a frozen dataclass takes four times as long.
    """

    number: int
    reused: bool
    idle_for: float | None
    phase: str
    bytes_sent: int
    bytes_received: int
    status: int | None
    error: str | None
    elapsed: float
    stopped_by: str | None = None
