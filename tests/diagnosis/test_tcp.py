"""The kernel's view of real sockets, and the view from a short or strange structure."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import sys
from typing import TYPE_CHECKING, Any

import pytest
from clients import BIG, Client, until
from listeners import swallowing

from resilient_requests import TCPKeepAlive, TCPView
from resilient_requests.diagnosis._tcp import look, parse
from resilient_requests.testing import FaultServer, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a TCP_INFO like this")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's socket and its peer's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
        listener.accept()[0] as peer,
    ):
        yield ours, peer


def seen(sock: Any) -> TCPView:
    """Return the kernel's view of a socket."""
    view = look(sock)
    assert view is not None
    return view


def info(**fields: int) -> bytes:
    """A ``struct tcp_info`` of Linux 5.4 that says nothing but these fields."""
    places = {"state": "0B", "retransmits": "2B", "probes": "3B", "unacknowledged": "24I"}
    places |= {"sent": "44I", "received": "52I", "acknowledged": "56I", "rtt": "68I"}
    places |= {"unsent": "144I", "window": "228I"}
    data = bytearray(232)
    for name, value in {"state": 1, **fields}.items():
        struct.pack_into(f"={places[name][-1]}", data, int(places[name][:-1]), value)
    return bytes(data)


@linux
def test_view_counts_what_is_unread(pair: tuple[socket.socket, socket.socket]) -> None:
    """Bytes that wait for a reader are the sign of a consumer that hangs."""
    ours, peer = pair
    before = seen(ours)
    peer.sendall(b"12345")
    until(lambda: seen(ours).unread == 5)
    ours.recv(2)

    assert (before.state, before.unread, before.probes) == ("ESTABLISHED", 0, 0)
    assert seen(ours).unread == 3


@linux
def test_view_shows_a_peer_that_does_not_read(pair: tuple[socket.socket, socket.socket]) -> None:
    """Its window is shut, and bytes wait to be sent."""
    ours, _ = pair
    ours.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while ours.send(BIG):
            pass
    until(lambda: seen(ours).window == 0)

    assert (seen(ours).unsent or 0) > 0


@linux
def test_view_tells_whose_silence_it_is(pair: tuple[socket.socket, socket.socket]) -> None:
    """Silence counts from the last byte in either direction."""
    ours, peer = pair
    until(lambda: (seen(ours).silence or 0.0) >= 0.05)
    peer.sendall(b"x")
    until(lambda: bool(seen(ours).unread))
    received = seen(ours)
    until(lambda: (seen(ours).silence or 0.0) >= 0.05)
    ours.sendall(b"x")

    assert received.silence is not None
    assert received.silence < 0.05 <= (received.last_sent or 0.0)
    assert (seen(ours).silence or 0.0) < 0.05


@linux
def test_view_of_a_dial_has_no_ages() -> None:
    """They would count from the start of the machine."""
    with swallowing() as port, socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex(port.info[4])
        view = seen(sock)

    assert view.state == "SYN_SENT"
    assert (view.last_sent, view.last_received, view.last_acknowledged) == (None, None, None)
    assert view.silence is None
    assert view.heard == 0.0


@linux
def test_view_shows_the_peer_leave(pair: tuple[socket.socket, socket.socket]) -> None:
    """A FIN is seen at once, also where nobody reads."""
    ours, peer = pair
    peer.close()

    until(lambda: seen(ours).state == "CLOSE_WAIT")


@linux
def test_look_leaves_the_error_for_the_reader(pair: tuple[socket.socket, socket.socket]) -> None:
    """The kernel hands out a socket's error once: a diagnosis must not swallow a reset."""
    ours, peer = pair
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    until(lambda: seen(ours).state == "CLOSE")

    with pytest.raises(ConnectionResetError):
        ours.recv(1)


@linux
@pytest.mark.parametrize(
    "policy", [TCPKeepAlive(idle=7, interval=3, count=4, user_timeout=25.0), None]
)
def test_view_has_the_socket_options_in_force(
    server: FaultServer, policy: TCPKeepAlive | None
) -> None:
    """The socket shows the kernel's limits, even if somebody else has set them."""
    server.script(stream([b"some"], ending="silence"))
    with Client(server, tcp_keepalive=policy) as client, client.get(stream=True):
        (record,) = client.adapter.in_flight()

    assert record.tcp is not None
    assert record.tcp.state == "ESTABLISHED"
    if policy is None:
        assert (record.tcp.keepalive, record.tcp.user_timeout) == (None, None)
    else:
        assert (record.tcp.keepalive, record.tcp.user_timeout) == ((7, 3, 4), 25.0)


@linux
def test_socket_of_another_class_is_looked_at_by_its_descriptor(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Gevent's sockets and urllib3's TLS in TLS have a descriptor, and no getsockopt of C."""

    class Foreign:
        def fileno(self) -> int:
            return pair[0].fileno()

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    assert seen(Foreign()).state == "ESTABLISHED"
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_there_is_no_view_of_what_is_no_tcp_connection() -> None:
    """A closed socket, one of another family, and none at all."""
    closed = socket.socket()
    closed.close()
    wrapped = ssl.create_default_context().wrap_socket(socket.socket(), server_hostname="x")
    wrapped.close()
    left, right = socket.socketpair()
    with left, right:
        views = [look(None), look(closed), look(wrapped), look(left)]

    assert views[:3] == [None] * 3
    assert views[3] is None or sys.platform == "win32"  # whose pairs are of TCP


@pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14"])
def test_other_systems_have_no_view(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    """Their structures differ, or there is none: no view is better than a wrong one."""
    monkeypatch.setattr(sys, "platform", platform)

    assert look(pair[0]) is None


def test_view_is_parsed_at_every_length() -> None:
    """Each kernel hands out as much of the structure as it knows."""
    whole = info(
        unacknowledged=1, rtt=2_000_000, sent=3000, received=4, acknowledged=5000, unsent=6
    )
    views = {size: parse(whole[:size]) for size in range(len(whole) + 1)}

    assert all((view is None) is (size < 72) for size, view in views.items())
    assert {view.unsent for size, view in views.items() if view and size < 148} == {None}
    assert {view.unsent for size, view in views.items() if view and size >= 148} == {6}
    assert {view.window for size, view in views.items() if view and size < 232} == {None}
    assert {view.rtt for view in views.values() if view} == {2.0}
    assert {view.last_acknowledged for view in views.values() if view} == {5.0}


@pytest.mark.parametrize("state", [0, 3, 6, 10, 12, 255])
def test_state_that_no_connection_of_ours_has_is_no_view(state: int) -> None:
    """A listener, or a state of a later kernel, is nothing to be judged."""
    assert parse(info(state=state)) is None


@pytest.mark.parametrize(
    ("fields", "silence"),
    [
        ({"sent": 2000, "received": 3000, "acknowledged": 1000}, 2.0),
        ({"sent": 3000, "received": 2000, "acknowledged": 1000}, 2.0),
        # A segment that is sent again counts as sent. Only an acknowledgement shows that bytes
        # move.
        ({"sent": 100, "received": 9000, "acknowledged": 4000, "unacknowledged": 1}, 4.0),
        # So does one that no interface accepted. The probes of a shut window are answered.
        ({"sent": 100, "received": 9000, "acknowledged": 4000, "unsent": 9, "window": 1}, 4.0),
        ({"sent": 7000, "received": 9000, "acknowledged": 100, "unsent": 9, "window": 0}, 7.0),
    ],
)
def test_silence_is_since_a_byte_was_known_to_move(fields: dict[str, int], silence: float) -> None:
    """The kernel's ages of sending start anew with each retransmission."""
    view = parse(info(**fields))

    assert view is not None
    assert view.silence == silence
