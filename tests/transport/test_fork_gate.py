"""A fork waits for threads inside OpenSSL or the resolver: their locks would be held in the child for ever."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import socket
import ssl
import threading
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from children import child
from clients import until
from fake_clock import adapter_of, ask, echoes, in_threads, mounted

from resilient_requests.testing import respond, silence
from resilient_requests.transport import _forkgate
from resilient_requests.transport._forkgate import GATE, ForkGate

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

    from resilient_requests.testing import FaultServer

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork"),
    # The server's threads are what Python 3.12 warns of; the child uses none of them.
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]


class Guest:
    """Is inside from its first call until a fork is about to come; the child sees whether it still was."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.is_inside = False

    def __call__(self) -> None:
        """Stay until a fork waits; only once."""
        if not self.came.is_set():
            self.is_inside = True
            self.came.set()
            until(lambda: GATE._forks)
            self.is_inside = False

    def has_left(self) -> None:
        """Check, in the child, that nobody was inside when it was forked."""
        assert not self.is_inside


@pytest.fixture
def server(fault_server_tls: FaultServer) -> FaultServer:
    """A server on TLS that says what it was asked."""
    return echoes(fault_server_tls)


@pytest.fixture
def session(server: FaultServer) -> Iterator[requests.Session]:
    """A session that has a TLS context, and no connection."""
    with mounted(keepalive=600.0) as session:
        session.verify = server.ca_path or True
        session.get(server.url)
        session.close()
        yield session


def context_of(session: requests.Session) -> Any:
    """The one TLS context of a session's adapter."""
    (loaded,) = adapter_of(session).register.tls._contexts.values()
    return loaded.context


@pytest.mark.parametrize("message", ["SERVER_HELLO", "CERTIFICATE", "NEWSESSION_TICKET"])
def test_a_fork_waits_for_a_handshake_and_its_tickets(
    server: FaultServer, session: requests.Session, message: str
) -> None:
    """TLS 1.3 sends the tickets after the handshake: they are read with the first response."""
    guest = Guest()

    def told(_conn: object, direction: str, *facts: Any) -> None:
        if direction == "read" and getattr(facts[2], "name", "") == message:
            guest()

    context_of(session)._msg_callback = told  # called by OpenSSL in the middle of its work
    with in_threads(1, lambda _: ask(session, server.url, "parent", 1)) as errors:
        assert guest.came.wait(5)
        with child(guest.has_left):
            pass

    assert errors == []


def fork_inside(
    owner: Any,
    name: str,
    server: FaultServer,
    session: requests.Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fork while another thread's dial is in that function: the child begins when it has come out."""
    guest, function = Guest(), getattr(owner, name)

    def slowly(*args: Any, **kwargs: Any) -> Any:
        guest()
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, slowly)
    with in_threads(1, lambda _: ask(session, server.url, "parent", 1)) as errors:
        assert guest.came.wait(5)
        with child(guest.has_left):
            pass

    assert errors == []


def test_a_fork_waits_for_a_socket_that_is_made(
    server: FaultServer, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_new takes the same locks as a handshake."""
    fork_inside(context_of(session), "_wrap_socket", server, session, monkeypatch)


def test_a_fork_waits_for_a_context_that_is_made(server: FaultServer, tmp_path: Path) -> None:
    """The file with the certificates is a pipe: OpenSSL reads until we have written."""
    assert server.ca_path
    certificates = Path(server.ca_path).read_bytes()
    guest, pipe = Guest(), tmp_path / "ca.pem"
    os.mkfifo(pipe)
    session = mounted()

    def write_or_read(number: int) -> None:
        if number:
            ask(session, server.url, "parent", 1, verify=str(pipe))
            return
        with pipe.open("wb") as end:
            guest()
            end.write(certificates)

    with session, in_threads(2, write_or_read) as errors:
        assert guest.came.wait(5)
        with child(guest.has_left):
            pass

    assert errors == []


def test_a_fork_waits_for_the_resolver(
    server: FaultServer, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The C library's has locks of its own, which a fork does not free."""
    fork_inside(socket, "getaddrinfo", server, session, monkeypatch)


@pytest.mark.parametrize("place", ["in the handshake", "before the first response"])
def test_a_fork_does_not_wait_for_a_silent_peer(
    server: FaultServer, session: requests.Session, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A thread that waits for the network is not inside OpenSSL."""
    monkeypatch.setattr(_forkgate, "_STEPS", 10_000)
    answer = threading.Event()
    if place == "in the handshake":
        server.on_handshake(silence())
    else:
        server.script(respond(b"late", head_pause=answer))
    accepted, requested = server.accepted, len(server.requests)
    over = threading.Event()

    def call(_: int) -> None:
        with contextlib.suppress(OSError):  # requests' exceptions are such
            session.get(server.url, timeout=(3, 3))
        over.set()

    with in_threads(1, call):
        if place == "in the handshake":
            assert server.wait_for(lambda one: one.accepted > accepted)
        else:
            server.wait_for_requests(requested + 1)
        with child(lambda: None):
            assert not over.is_set()
        answer.set()
        server.close()


def test_who_comes_while_a_fork_is_under_way_is_held_back() -> None:
    """Else those who come and go would keep the fork waiting, and one would be inside when it happens."""
    gate, inside = ForkGate(), threading.Event()

    def enter(_: int) -> None:
        with gate:
            inside.set()

    gate.before_fork()
    with in_threads(1, enter) as errors:
        assert not inside.wait(0.05)
        gate.after_in_parent()
        assert inside.wait(5)

    assert errors == []


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a fork for a thread that stays inside, nor a thread for a fork that goes on and on."""
    monkeypatch.setattr(_forkgate, "_STEPS", 3)
    gate, inside, enough = ForkGate(), threading.Event(), threading.Event()

    def stay(_: int) -> None:
        with gate:
            inside.set()
            enough.wait(5)

    with in_threads(1, stay) as errors:
        assert inside.wait(5)
        gate.before_fork()
        with gate:
            assert len(gate._inside) == 2
        enough.set()

    assert errors == []
    assert gate._inside == []


@pytest.fixture
def gate() -> ForkGate:
    """A gate that knows what pytest itself has."""
    gate = ForkGate()
    gate.before_fork()
    gate.after_in_parent()
    return gate


@pytest.fixture
def unknown_thread(gate: ForkGate) -> Iterator[threading.Event]:
    """A thread that ``threading`` does not know, like one on its last steps; it ends with this event."""
    enough, began, before = threading.Event(), threading.Event(), gate._foreign

    def stay() -> None:
        began.set()
        enough.wait(5)

    _thread.start_new_thread(stay, ())
    assert began.wait(5)
    yield enough
    enough.set()
    until(lambda: _forkgate._unknown_threads() <= before)


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="only Linux tells which threads a process has"
)
def test_a_fork_waits_for_a_thread_that_ends(
    gate: ForkGate, unknown_thread: threading.Event
) -> None:
    """OpenSSL cleans up after each, under a lock that the child's first handshake would want."""
    foreign = gate._foreign

    def end(_: int) -> None:
        until(lambda: gate._forks)
        unknown_thread.set()

    with in_threads(1, end) as errors:
        gate.before_fork()

    assert errors == []
    assert _forkgate._unknown_threads() <= gate._foreign == foreign


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="only Linux tells which threads a process has"
)
def test_a_fork_waits_once_for_threads_that_other_libraries_keep(
    gate: ForkGate, unknown_thread: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs do not end, and must not delay each fork."""
    naps: list[float] = []
    monkeypatch.setattr(_forkgate, "time", types.SimpleNamespace(sleep=naps.append))
    gate.before_fork()
    gate.after_in_parent()
    assert len(naps) == _forkgate._STEPS_TO_END

    gate.before_fork()

    assert len(naps) == _forkgate._STEPS_TO_END


def test_a_thread_that_is_inside_may_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler has interrupted it: it cannot wait for itself. Its child starts with nobody inside."""
    monkeypatch.setattr(_forkgate, "time", None)  # nobody sleeps
    monkeypatch.setattr(_forkgate, "_unknown_threads", set)

    def fork(*_: object) -> None:
        with child(nested):
            pass

    def nested() -> None:
        assert (GATE._inside, GATE._forks) == ([], [])
        with GATE, child(lambda: None):
            pass

    before = signal.signal(signal.SIGUSR1, fork)
    try:
        with GATE:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert (GATE._inside, GATE._forks) == ([], [])


def test_a_child_that_was_forked_inside_may_leave() -> None:
    """It goes on where its parent was interrupted."""
    gate = ForkGate()
    with gate:
        gate.before_fork()
        gate.after_in_child()

    assert (gate._inside, gate._forks) == ([], [])


class Interrupting(list[int]):
    """Where a signal handler raises when somebody looks at it."""

    def __bool__(self) -> bool:
        raise KeyboardInterrupt


def test_an_interrupt_at_the_gate_leaves_nobody_inside() -> None:
    """One who never leaves would delay each fork from then on."""
    gate = ForkGate()
    gate._forks = Interrupting()
    with pytest.raises(KeyboardInterrupt), gate:
        pass

    assert gate._inside == []


def test_after_the_first_data_it_is_an_ordinary_socket(
    server: FaultServer, session: requests.Session
) -> None:
    """Requests on a connection that is kept alive pay nothing."""
    session.get(server.url)
    ((conn,),) = (pool.idle for pool in adapter_of(session).register.pools() if pool.idle)

    assert type(conn.sock) is ssl.SSLSocket
    ask(session, server.url, "again", 4)
    assert server.accepted == 2


def test_contexts_of_others_are_left_alone() -> None:
    """Of gevent and pyOpenSSL: greenlets share a thread, and pyOpenSSL's sockets are no kin of ours."""
    other: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    other.sslsocket_class = type("Theirs", (ssl.SSLSocket,), {})
    without: Any = object()

    assert _forkgate.gated(other).sslsocket_class.__name__ == "Theirs"
    assert _forkgate.gated(without) is without
