"""What a cell is: a client's call, what goes wrong in it, and through which adapter it goes."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple


class Fault(enum.Enum):
    """What goes wrong; the values stand in the ids of the tests."""

    RESET = "reset"
    """The path resets an idle connection when it is used again: nothing was processed."""
    SILENT = "silent"
    """The path swallows what is sent on an idle connection."""
    ACTED = "acted"
    """The server acts on a request on a new connection, and resets instead of answering."""
    ACTED_REUSED = "acted-reused"
    """The same on a connection that was idle, where rule (b) sends the request again."""
    STALL = "stall"
    """Half of the body comes, then nothing."""
    FORK = "fork"
    """A process whose client is warm forks, and both of them call."""


class Way(enum.Enum):
    """Through which adapter a call goes."""

    PLAIN = "plain"
    OURS = "ours"


class Call(enum.Enum):
    """Which of a client's two calls."""

    READ = "read"
    WRITE = "write"


class Cell(NamedTuple):
    """One call of one client under one fault."""

    fault: Fault
    way: Way
    call: Call

    @property
    def name(self) -> str:
        """The three values, as they cross the boundary of a process."""
        return " ".join(part.value for part in self)

    @classmethod
    def of(cls, name: str) -> Cell:
        """Return the cell of that name."""
        fault, way, call = name.split()
        return cls(Fault(fault), Way(way), Call(call))


OK = "ok"
WRONG = "wrong"
"""A call returned, and not with its own answer."""
HUNG = "hung"
"""A call had not returned when its cell was ended."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a cell.

    ``result``: OK, WRONG, HUNG, or the class of the error. ``parents``: the classes that an
    ``except`` clause for the error may name. ``requests``: read by the server from the fault on.
    ``applied``: the most that one POST or PATCH was acted on. ``seconds``: of the call.
    """

    result: str
    seconds: float
    requests: int = 0
    applied: int = 0
    parents: tuple[str, ...] = ()
    text: str = ""
