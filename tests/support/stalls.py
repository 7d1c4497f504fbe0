"""Calls that hang at each place where a call can hang, for tests of their ends."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import tenacity
from clients import Client

from resilient_requests import AttemptStarted, RetryScheduled, Timeouts
from resilient_requests.testing import FaultServer, Reply, reset, respond, silence, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BIG = b"x" * (6 << 20)  # more than the kernel takes while the peer reads nothing
NEVER = Timeouts(connect=60.0, write=60.0, response=60.0, idle=60.0)
PLACES = [
    "connecting",
    "in the handshake",
    "sending",
    "waiting for the head",
    "reading the body",
    "backing off",
]

_REPLIES: dict[str, Reply] = {
    "sending": silence(read="head"),
    "waiting for the head": silence(),
    "reading the body": stream([b"some"], ending="silence"),
    "backing off": reset(),
}


class Stall(NamedTuple):
    """A call that will hang. ``is_reached`` says whether it does so by now."""

    client: Client
    call: Callable[[], Any]
    is_reached: Callable[[], bool]
    requests: Callable[[], int]


@contextlib.contextmanager
def congested() -> Iterator[str]:
    """The URL of a listener with a full queue: a dial hangs."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with contextlib.suppress(TimeoutError):
            for _ in range(16):
                sock = stack.enter_context(socket.socket())
                sock.settimeout(0.05)
                sock.connect(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def stalled(place: str, *, tls: bool, timeouts: Timeouts = NEVER) -> Iterator[Stall]:
    """A POST that hangs at one of PLACES until the test ends it."""
    policy = {"wait": tenacity.wait_fixed(3600)}
    if place == "connecting":
        with congested() as url, Client(url, policy=policy, timeouts=timeouts) as client:
            yield Stall(client, client.post, lambda: bool(client.told(AttemptStarted)), lambda: 0)
        return
    with FaultServer(tls=tls) as server, Client(server, policy=policy, timeouts=timeouts) as client:
        if place == "in the handshake":
            server.on_handshake(silence())
        else:
            server.script(_REPLIES[place])
        body = BIG if place == "sending" else b"question"

        def is_reached() -> bool:
            if place == "backing off":
                return bool(client.told(RetryScheduled))
            return (
                server.accepted == 1 if place == "in the handshake" else len(server.requests) == 1
            )

        yield Stall(client, lambda: client.post(body), is_reached, lambda: len(server.requests))


def cells() -> list[tuple[str, bool]]:
    """Each place, with TLS and without where there is a difference."""
    both = [(place, tls) for place in PLACES for tls in (False, True)]
    return [
        cell for cell in both if cell not in {("connecting", True), ("in the handshake", False)}
    ]


def dripping_head() -> Reply:
    """A response with a head that takes seconds, a byte at a time."""
    return respond(b"ok", drip=0.02, headers={"X-Long": "x" * 200})


def dripping_body(*, framing: Any = "chunked") -> Reply:
    """A response with a body that takes seconds, an event at a time."""
    return stream([b"data: x\n\n", 0.02] * 250, framing=framing)
