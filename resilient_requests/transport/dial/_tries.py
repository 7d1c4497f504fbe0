"""The outcome of each address of a dial."""

from __future__ import annotations

import enum
import socket
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from resilient_requests.transport.dial._addresses import AddressInfo

__all__ = ["Outcome", "Try", "family_name"]

_FAMILIES: dict[int, str] = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


class Outcome(enum.Enum):
    """The outcome of one address."""

    CONNECTED = "connected"
    FAILED = "failed"
    OVERTAKEN = "overtaken"  # another address connected first, or the dial was ended
    UNTRIED = "untried"


class Try(NamedTuple):
    """One address of a dial.

    ``seconds`` is the time that it took, None if it was not tried. ``error`` is text, None if it
    did not fail: the exception itself would keep frames alive.
    """

    address: AddressInfo
    outcome: Outcome
    seconds: float | None = None
    error: str | None = None

    @property
    def host(self) -> str:
        """The address as text."""
        return str(self.address[4][0])

    @property
    def family(self) -> str:
        """The family, as `family_name` returns it."""
        return family_name(self.address[0])

    def __str__(self) -> str:
        return f"{self.host}: {self.error or self.outcome.value}"


def family_name(family: int) -> str:
    """Return "IPv4", "IPv6", or the system's name of another family."""
    return _FAMILIES.get(family) or str(getattr(family, "name", family))
