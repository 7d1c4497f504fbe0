"""The addresses of a probed name: the winner of a dial, and the time that each takes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from requests.utils import prepend_scheme_if_needed
from urllib3.connection import HTTPConnection
from urllib3.util import parse_url

from resilient_requests.call import CancelToken
from resilient_requests.transport import Dial, Outcome, in_order, resolve

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from resilient_requests.transport import Try

__all__ = ["Address", "Dialled", "measured", "place_of"]

_LIMIT = 3.0
"""Seconds for one address: two retransmissions of the first packet."""
_AT_ONCE = 16
_PROXY_PORTS = {"http": 80, "https": 443}
_UNDECIDED = (Outcome.OVERTAKEN, Outcome.UNTRIED)


@dataclass(frozen=True, kw_only=True)
class Address:
    """One address of a name.

    ``family``: "IPv4" or "IPv6". ``connect``: seconds until it connected, None if it did not;
    ``error`` then gives the reason. ``won``: the adapter's dial reached this address first.
    """

    host: str
    family: str
    connect: float | None
    error: str | None
    won: bool


def place_of(proxy: str) -> tuple[str, int]:
    """Return the host and the port of a proxy's URL; requests accepts one without a scheme."""
    url = parse_url(prepend_scheme_if_needed(proxy, "http"))
    return url.host or "", url.port or _PROXY_PORTS.get(url.scheme or "", 1080)


def measured(host: str, port: int) -> list[Address]:
    """Return the addresses of a name in the order of a dial, each dialled once.

    Takes as long as the slowest of them, at most 3 s. Raises OSError, or urllib3's
    LocationParseError, if the name cannot be resolved.
    """
    addresses = in_order(list(dict.fromkeys(resolve(host, port))))
    race = {each.address: each for each in _dialled(addresses)}
    # A dial ends with the first connection; the other addresses are timed one by one.
    open_ones = [each for each in addresses if race[each].outcome in _UNDECIDED]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        alone = [each for tries in pool.map(_dialled, ([a] for a in open_ones)) for each in tries]
    found = {**race, **{each.address: each for each in alone}}
    won = {address for address, each in race.items() if each.outcome is Outcome.CONNECTED}
    return [_of(found[each], won=each in won) for each in addresses]


def _dialled(addresses: Sequence[Any]) -> list[Try]:
    dial = Dial(addresses, options=None, source_address=None, limit=_LIMIT, token=CancelToken())
    with suppress(OSError):  # the tries hold the error
        dial.connect()[0].close()
    return dial.tries


def _of(each: Try, *, won: bool) -> Address:
    is_connected = each.outcome is Outcome.CONNECTED
    return Address(
        host=each.host,
        family=each.family,
        connect=each.seconds if is_connected else None,
        error=None if is_connected else each.error or each.outcome.value,
        won=won,
    )


class Dialled(HTTPConnection):
    """The part that makes a connection class dial as the adapter does.

    A dead address then costs a quarter of a second each time instead of the whole limit.
    """

    def _new_conn(self) -> socket.socket:
        limit = self.timeout if isinstance(self.timeout, (int, float)) else None
        dial = Dial(
            in_order(resolve(self._dns_host, self.port)),
            options=self.socket_options,
            source_address=self.source_address,
            limit=limit,
            token=CancelToken(),
        )
        return dial.connect()[0]
