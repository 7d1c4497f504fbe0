"""The facts of an attempt that other modules see: its phases, its lease, its record."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["NEXT", "AttemptRecord", "BodyReader", "Lease", "Phase"]


class Phase(str, enum.Enum):
    """The progress of an attempt."""

    START = "start"  # no connection of ours: a mock or another package's pool answers
    CONNECT = "connect"
    HANDSHAKE = "handshake"  # TLS, or CONNECT at a proxy
    SEND = "send"
    WAIT = "wait"  # the request is out, no byte of the response has come
    HEAD = "head"
    BODY = "body"

    # Python 3.11 changed format() of a mixed-in Enum; messages and logs must be the same in all.
    __str__ = str.__str__
    __format__ = str.__format__  # type: ignore[assignment]  # it formats a str


NEXT: dict[Phase, frozenset[Phase]] = {
    # SEND: the connection comes from the pool. WAIT: another package's connection class sends the
    # request itself (vcrpy's does).
    Phase.START: frozenset({Phase.CONNECT, Phase.SEND, Phase.WAIT}),
    Phase.CONNECT: frozenset({Phase.CONNECT, Phase.HANDSHAKE}),
    # CONNECT: after a failed step of a proxy's tunnel, urllib3 dials again.
    Phase.HANDSHAKE: frozenset({Phase.HANDSHAKE, Phase.CONNECT, Phase.SEND}),
    # CONNECT: http.client opens a closed connection inside send(). HEAD: an early answer.
    Phase.SEND: frozenset({Phase.SEND, Phase.CONNECT, Phase.WAIT, Phase.HEAD}),
    Phase.WAIT: frozenset({Phase.WAIT, Phase.HEAD}),
    Phase.HEAD: frozenset({Phase.WAIT, Phase.BODY}),  # WAIT: after an interim answer (1xx)
    # A subclass's connection sends a request of its own before the call's.
    Phase.BODY: frozenset({Phase.SEND, Phase.CONNECT}),
}


class Lease(Protocol):
    """The hold of an attempt on a connection, which belongs to an origin and a generation."""

    @property
    def origin(self) -> Hashable:
        """The origin of the connection: the proxy's if the proxy forwards requests."""

    def retire(self, reason: str, call_id: str | None) -> None:
        """Retire the connections of the origin, unless that was done after this one was made."""

    def was_good(self, idle_for: float) -> None:
        """A connection reused after ``idle_for`` seconds brought a response."""

    def was_stale(self, idle_for: float) -> None:
        """A connection reused after ``idle_for`` seconds was dead."""

    def retried(self) -> None:
        """Another attempt follows."""


class BodyReader(Protocol):
    """The reader of a body; asked in any thread, in the middle of a read too."""

    @property
    def is_reading(self) -> bool:
        """True if a thread is inside of a read."""

    def limit_in(self, silence: float) -> tuple[str, float] | None:
        """Return the limit that ends a silence of so many seconds, and in how many; or None."""


class AttemptRecord(NamedTuple):
    """The record of one attempt of a call: an item of ``error.attempts``; immutable, pickles.

    ``number`` counts from 1. ``reused`` is True if the connection came from the pool, and
    ``idle_for`` is the seconds that it was idle (None on a fresh one). ``phase`` is a value of
    `Phase`. ``status`` is the HTTP status, None without one. ``error`` is text, the class and the
    errno's name: the exception itself would keep frames, and prompts in them, alive. ``elapsed`` is
    in seconds. ``stopped_by`` says why no attempt followed ("not replayable", "policy", "budget",
    "deadline", "cancelled", "shut down", "exhausted"); None if one followed, or on success.

    A tuple, because each call makes one, and a frozen dataclass takes four times as long.
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
