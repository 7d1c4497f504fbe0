"""The steps that a server takes for one request, as frozen data."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import NoneType
from typing import Literal, TypeAlias, get_args

from resilient_requests.testing._arguments import LONGEST, check, check_choice, check_wait

Wait: TypeAlias = float | threading.Event
Reading: TypeAlias = Literal["all", "head"] | int


@dataclass(frozen=True)
class Send:
    """Send ``data`` and ``body`` as they are, in one write; an answer to HEAD omits ``body``."""

    data: bytes = b""
    body: bytes = b""

    def __post_init__(self) -> None:
        check("data", self.data, bytes)
        check("body", self.body, bytes)


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds, or until the event is set. The connection ends if the peer leaves."""

    until: Wait

    def __post_init__(self) -> None:
        check_wait("until", self.until)


@dataclass(frozen=True)
class ReadRest:
    """Read the unread rest of the request."""


@dataclass(frozen=True)
class Silence:
    """Neither read, answer nor close, until the peer leaves or the server closes."""


@dataclass(frozen=True)
class BlackHole:
    """Discard all bytes and answer nothing, until the peer leaves or the server closes."""


@dataclass(frozen=True)
class Reset:
    """End the connection with a RST, after all sent bytes have left this side."""


@dataclass(frozen=True)
class Fin:
    """End the connection with a FIN; on TLS a close_notify precedes it only if ``notify``."""

    notify: bool = False

    def __post_init__(self) -> None:
        check("notify", self.notify, bool)


@dataclass(frozen=True)
class FinThenReset:
    """Send a FIN, and a RST once the peer has had it."""


Step: TypeAlias = Send | Pause | ReadRest | Silence | BlackHole | Reset | Fin | FinThenReset


@dataclass(frozen=True)
class Reply:
    """How the server treats one request.

    The server reads "all" of the request, only the "head", or so many bytes of the body. With
    ``slow_read`` it reads so many bytes at a time, then pauses for so many seconds. Then it takes
    the steps in order. With ``applies`` the request counts as applied when the steps begin,
    provided that it was read whole. After the last step the server reads the rest of the request,
    and the connection serves the next one. Raises TypeError or ValueError naming the parameter.
    """

    steps: tuple[Step, ...] = ()
    read: Reading = "all"
    applies: bool = True
    slow_read: tuple[int, float] | None = None

    def __post_init__(self) -> None:
        check("steps", self.steps, tuple)
        for step in self.steps:
            check("steps (an item)", step, *get_args(Step))
        if isinstance(self.read, int):
            check("read", self.read, int, least=0)
        else:
            check_choice("read", self.read, ("all", "head"), " or a number of bytes")
        check("applies", self.applies, bool)
        check("slow_read", self.slow_read, tuple, NoneType)
        if self.slow_read is not None:
            if len(self.slow_read) != 2:
                raise TypeError(f"slow_read must be bytes and seconds, not {self.slow_read!r}")
            check("slow_read (its bytes)", self.slow_read[0], int, least=1)
            check("slow_read (its seconds)", self.slow_read[1], float, int, least=0, most=LONGEST)
