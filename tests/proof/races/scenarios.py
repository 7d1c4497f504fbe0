"""The calls in which something happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
from driven_network import Script

from resilient_requests import ResilientAdapter, RetryPolicy, Timeouts, iter_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from driven_network import Network

LIMIT = 5.0
ANSWER = b"the answer of the server"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECES = (HEAD, b"a\r\nthe answer\r\n", b"e\r\n of the server\r\n", b"0\r\n\r\n")


@dataclass(frozen=True)
class Scenario:
    """One call, and how its response is read."""

    method: str
    body: str  # "none", "bytes", or "parts" for a body that can be read once
    reading: str  # a key of READINGS
    is_reused: bool
    tls: bool

    def __str__(self) -> str:
        connection = "reused" if self.is_reused else "fresh"
        body = "" if self.body == "none" else f" of {self.body}"
        return f"{self.method}{body}, {connection} {'TLS' if self.tls else 'plain'}, {self.reading}"


def _parts() -> Iterator[bytes]:
    yield b"the "
    yield b"question"


def _stream(call: Call, response: requests.Response) -> bytes:
    with iter_bytes(response) as call.stream:
        return b"".join(call.stream)


READINGS: dict[str, Callable[[Any, requests.Response], bytes]] = {
    "content": lambda _, response: response.content,
    "iter_content": lambda _, response: b"".join(response.iter_content(5)),
    "iter_lines": lambda _, response: b"".join(response.iter_lines()),
    "iter_bytes": _stream,
}
SCENARIOS = tuple(
    Scenario(method, body, reading, is_reused, tls)
    for method, body, reading in (
        ("GET", "none", "content"),
        ("GET", "none", "iter_content"),
        ("GET", "none", "iter_bytes"),
        ("POST", "bytes", "content"),
        ("POST", "bytes", "iter_lines"),
        ("POST", "parts", "iter_bytes"),
    )
    for is_reused in (False, True)
    for tls in (False, True)
)


class Call:
    """A scenario on an adapter of its own; ``stream`` is the stream under way, if any."""

    def __init__(self, scenario: Scenario, network: Network) -> None:
        self.scenario = scenario
        self.stream: Any = None
        self.adapter = ResilientAdapter(
            max_retries=RetryPolicy(wait=lambda _: 0.0),
            timeouts=Timeouts(connect=LIMIT, write=LIMIT, response=LIMIT, idle=LIMIT),
        )
        self.network = network
        network.routes["/call"] = Script(PIECES)
        network.routes["/fails"] = Script((), "reset")
        if scenario.is_reused:
            assert self.follow("/warm") == b"/warm"

    def make(self) -> bytes:
        """Make the call, and return the content."""
        scenario = self.scenario
        bodies = {"none": None, "bytes": b"the question", "parts": _parts()}
        response = self._send(scenario.method, "/call", bodies[scenario.body], scenario.reading)
        return READINGS[scenario.reading](self, response)

    def follow(self, path: str) -> bytes:
        """Make another call on the same adapter, and return its answer."""
        return self._send("GET", path, None, "content").content

    def _send(self, method: str, path: str, data: Any, reading: str) -> requests.Response:
        request = requests.Request(method, self.network.url + path, data=data).prepare()
        verify = self.network.ca_path or True
        return self.adapter.send(request, stream=reading != "content", verify=verify)
