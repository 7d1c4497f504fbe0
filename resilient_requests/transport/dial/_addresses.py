"""The addresses of a name: resolved, ordered for the tries, with the last good one first."""

from __future__ import annotations

import itertools
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import urllib3.exceptions
import urllib3.util.connection

from resilient_requests.transport.dial import _limits

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AddressInfo", "Remembered", "in_order", "resolve"]

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""One item of ``socket.getaddrinfo()``: family, type, protocol, canonical name, socket address."""

# Some platforms lack the name; -5 is Linux's number for a name without an address.
_EAI_NODATA: int = getattr(socket, "EAI_NODATA", -5)


def resolve(host: str, port: int) -> Sequence[AddressInfo]:
    """Return the addresses of ``host`` in the order of the resolver (RFC 6724), at least one.

    Other packages replace ``socket.getaddrinfo`` and urllib3's ``allowed_gai_family``, so both are
    looked up at each call.

    Raises socket.gaierror, also if the resolver returns nothing; another OSError at a limit of the
    machine; urllib3's LocationParseError if the host can be no name.
    """
    # urllib3 keeps the brackets of an IPv6 literal, and getaddrinfo() knows none.
    host = host.strip("[]")
    try:
        # As urllib3 does: getaddrinfo() would raise UnicodeError, which is no OSError.
        host.encode("idna")
    except UnicodeError:
        raise urllib3.exceptions.LocationParseError(f"'{host}', label empty or too long") from None
    family = urllib3.util.connection.allowed_gai_family()
    try:
        addresses = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    # An OSError as well, but never a limit of the machine.
    except socket.gaierror:
        raise
    except OSError as error:
        raise _limits.explained(error) from error
    if not addresses:
        raise socket.gaierror(_EAI_NODATA, f"the resolver returned no address for {host}")
    return addresses


class Remembered(NamedTuple):
    """The address that the last dial of an origin reached, and the generation of that connection.

    Immutable: the state of the origin replaces it as a whole, from any thread.
    """

    address: AddressInfo
    generation: int

    def is_current(self, floor: int) -> bool:
        """Return True unless the generation is retired; ``floor`` is the least that may be used."""
        return self.generation >= floor

    @property
    def host(self) -> str:
        """The address as text."""
        return str(self.address[4][0])


def in_order(
    addresses: Sequence[AddressInfo], first: AddressInfo | None = None
) -> Sequence[AddressInfo]:
    """Return the addresses in the order of the tries, families interleaved (RFC 8305, section 4).

    ``first`` goes first if it is still among them; None keeps the order of the resolver.
    """
    if len(addresses) == 1:
        return addresses
    families: dict[int, list[AddressInfo]] = {}
    # The sort is stable: all but the first keep the resolver's order.
    for each in sorted(addresses, key=lambda each: each != first):
        families.setdefault(each[0], []).append(each)
    rounds = itertools.zip_longest(*families.values())
    return [each for each in itertools.chain.from_iterable(rounds) if each is not None]
