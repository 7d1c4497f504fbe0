"""Names of which an address is dead, in a network of two machines, and ports that run out."""

from __future__ import annotations

import errno
import http.server
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from clients import in_time
from listeners import info, resolving

from lab.namespaces import Namespace
from lab.network import why_not
from resilient_requests import ResilientAdapter, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resilient_requests.transport.dial._addresses import AddressInfo

REASON = why_not()

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(REASON is not None, reason=f"no laboratory here: {REASON}"),
]

PORT = 8080
LIVE = {4: "198.18.0.10", 6: "fd00::10"}
DEAD = {
    "dropped": {4: "198.18.0.11", 6: "fd00::11"},
    "refused": {4: "198.18.0.12", 6: "fd00::12"},
    "unreachable": {4: "198.18.0.13", 6: "fd00::13"},  # so says a router
    "without a route": {4: "192.0.2.1", 6: "2001:db8::1"},
}
_RULES = """
table inet lab {
  chain arrive {
    type filter hook input priority 0; policy accept;
    ip daddr 198.18.0.11 drop
    ip6 daddr fd00::11 drop
    ip daddr 198.18.0.13 reject with icmp type host-unreachable
    ip6 daddr fd00::13 reject with icmpv6 type addr-unreachable
  }
}
"""


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Say ok, and leave: each call dials."""
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


class _Six(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


class Network:
    """A client and a server, with a cable between them; the server has dead addresses as well."""

    def __init__(self) -> None:
        self.client, self._server = Namespace(), Namespace()
        self._wire()
        self._server.run("nft", "-f", "-", stdin=_RULES)
        with self._server.entered():
            self._servers = [
                http.server.ThreadingHTTPServer((LIVE[4], PORT), _Answer),
                _Six((LIVE[6], PORT), _Answer),
            ]
            self._threads = [threading.Thread(target=each.serve_forever) for each in self._servers]
            for thread in self._threads:
                thread.start()

    def _wire(self) -> None:
        here = [
            *LIVE.values(),
            *(each for kind in list(DEAD.values())[:3] for each in kind.values()),
        ]
        at_client = [
            "link set lo up",
            f"link add up0 type veth peer name up0 netns {self._server.path}",
            "addr add 198.18.0.1/24 dev up0",
            "addr add fd00::1/64 dev up0 nodad",
            "link set up0 up",
        ]
        at_server = ["link set lo up", "link set up0 up"]
        for each in here:
            width = "64 dev up0 nodad" if ":" in each else "24 dev up0"
            at_server.append(f"addr add {each}/{width}")
        self.client.run("ip", "-batch", "-", stdin="\n".join(at_client))
        self._server.run("ip", "-batch", "-", stdin="\n".join(at_server))

    def close(self) -> None:
        """End it all."""
        for each in self._servers:
            each.shutdown()
            each.server_close()
        for thread in self._threads:
            thread.join(10)
        for space in (self.client, self._server):
            space.close()


@pytest.fixture
def network() -> Iterator[Network]:
    """A network, with the calling thread at the client."""
    made = Network()
    try:
        with made.client.entered():
            yield made
    finally:
        made.close()


def calls(adapter: Any, count: int, timeout: float = 5.0) -> list[float]:
    """The seconds that each of so many calls takes."""
    took = []
    with requests.Session() as session:
        session.mount("http://", adapter)
        for _ in range(count):
            since = time.monotonic()
            assert session.get(f"http://name.test:{PORT}/", timeout=timeout).content == b"ok"
            took.append(time.monotonic() - since)
    return took


def at(host: str) -> AddressInfo:
    """An address as a resolver lists it."""
    return info(host, PORT)


@pytest.mark.parametrize("kind", DEAD)
@pytest.mark.parametrize(("first", "then"), [(6, 4), (4, 4), (4, 6)])
def test_a_dead_first_address_costs_one_dial_a_quarter_of_a_second(
    network: Network, monkeypatch: pytest.MonkeyPatch, kind: str, first: int, then: int
) -> None:
    """Plain requests waits for the connect limit where it is dropped, at each dial."""
    resolving(monkeypatch, name=[at(DEAD[kind][first]), at(LIVE[then])])
    took, *later = calls(ResilientAdapter(), 4)

    in_time(took, 0.35)
    in_time(min(later), 0.1)


@pytest.mark.parametrize("kind", ["dropped"])
def test_a_name_whose_addresses_are_all_dead_costs_the_limit_once(
    network: Network, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Plain requests: once for each address."""
    resolving(monkeypatch, name=[at(DEAD[kind][6]), at(DEAD[kind][4])])
    since = time.monotonic()
    with pytest.raises(requests.ConnectTimeout):
        calls(ResilientAdapter(max_retries=RetryPolicy(max_retries=0)), 1, timeout=0.6)

    in_time(time.monotonic() - since, 0.9)


def test_ports_that_run_out_are_told_as_what_they_are(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says only that an address is not available."""
    network.client.set(ipv4__ip_local_port_range="40000 40001")
    resolving(monkeypatch, name=[at(LIVE[4])])
    taken = [socket.create_connection((LIVE[4], PORT)) for _ in range(2)]
    try:
        with pytest.raises(
            requests.ConnectionError, match="ip_local_port_range = 40000 40001"
        ) as e:
            calls(ResilientAdapter(max_retries=RetryPolicy(max_retries=0)), 1)
    finally:
        for sock in taken:
            sock.close()

    assert e.value.args[0].reason.__cause__.errno == errno.EADDRNOTAVAIL
