"""What others see of an attempt: its phases, its place among connections, its record afterwards."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["NEXT", "AttemptRecord", "BodyReader", "Lease", "Phase"]


class Phase(str, enum.Enum):
    """How far an attempt came."""

    START = "start"  # no connection of ours was asked for: a mock answered, or another pool
    CONNECT = "connect"
    HANDSHAKE = "handshake"  # TLS, or CONNECT at a proxy
    SEND = "send"
    WAIT = "wait"  # the request is out, no byte of the response has come
    HEAD = "head"
    BODY = "body"

    # Python 3.11 changed how a mixed-in Enum formats; messages and logs must not depend on it.
    __str__ = str.__str__
    __format__ = str.__format__  # type: ignore[assignment]  # a str is what it formats


NEXT: dict[Phase, frozenset[Phase]] = {
    # SEND: on a connection from the pool. WAIT: another package's connection class sends by itself
    # (vcrpy's).
    Phase.START: frozenset({Phase.CONNECT, Phase.SEND, Phase.WAIT}),
    Phase.CONNECT: frozenset({Phase.CONNECT, Phase.HANDSHAKE}),
    # CONNECT: urllib3 dials anew for each step of a proxy's tunnel that has failed.
    Phase.HANDSHAKE: frozenset({Phase.HANDSHAKE, Phase.CONNECT, Phase.SEND}),
    # CONNECT: http.client opens a closed connection inside send(). HEAD: an early answer.
    Phase.SEND: frozenset({Phase.SEND, Phase.CONNECT, Phase.WAIT, Phase.HEAD}),
    Phase.WAIT: frozenset({Phase.WAIT, Phase.HEAD}),
    Phase.HEAD: frozenset({Phase.WAIT, Phase.BODY}),  # WAIT: behind an interim answer
    Phase.BODY: frozenset(),
}


class Lease(Protocol):
    """An attempt's connection, as one of those of its origin and generation."""

    @property
    def origin(self) -> Hashable:
        """The origin of the connection: a proxy's where that forwards."""

    def retire(self, reason: str, call_id: str | None) -> None:
        """Retire the connections of the origin, unless that was done since this one was made."""

    def was_good(self, idle_for: float) -> None:
        """A reused connection brought a response."""

    def was_stale(self, idle_for: float) -> None:
        """A reused connection turned out dead."""

    def is_retried(self) -> None:
        """Another attempt follows."""


class BodyReader(Protocol):
    """What reads the body of a response; asked in any thread, in the middle of a read too."""

    @property
    def is_reading(self) -> bool:
        """Whether a thread is inside of a read."""

    def limit_in(self, silence: float) -> tuple[str, float] | None:
        """Return the limit that ends a silence of so many seconds, and in how many; or None."""


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
