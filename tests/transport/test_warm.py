"""Warm connections wait in their pool, with TLS and proxies behind them, and age as others do."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from clients import Client, Running, in_time, inside, refusing, until
from fake_clock import FakeClock, adapter_of, mounted
from listeners import swallowing
from proxies import HTTPProxy, SOCKS5Proxy
from urllib3.util.wait import wait_for_read

from resilient_requests import (
    AttemptSucceeded,
    CancelScope,
    ConnectionOpened,
    ConnectionRecycled,
    ResilientAdapter,
    Timeouts,
    is_transient,
)
from resilient_requests.exceptions import Cancelled
from resilient_requests.testing import FaultServer, fin, reset, respond, silence

if TYPE_CHECKING:
    from collections.abc import Callable

_SHORT = Timeouts(connect=0.5, write=5.0, response=5.0, idle=5.0)


@pytest.fixture
def clock() -> FakeClock:
    """Time that passes when told to."""
    return FakeClock()


def warmed(client: Client, connections: int = 1, **options: Any) -> int:
    """Warm the origin of a client as its session would call it."""
    session = client.session
    options.setdefault("verify", session.verify)
    return client.adapter.warm(client.url, connections, **options)


# -- the pool afterwards -------------------------------------------------------------------------


@pytest.mark.parametrize("connections", [1, 3])
def test_warm_connections_are_used_by_the_calls_that_follow(
    server: FaultServer, connections: int
) -> None:
    """With TLS unread session tickets lie on them. A ticket is no unsolicited answer."""
    with Client(server) as client:
        found = warmed(client, connections)
        assert arrived(server, connections)
        assert len(server.requests) == 0
        if server.url.startswith("https"):
            until(lambda: all(wait_for_read(conn.sock, 0) for conn in idle_of(client)))
        client.get()
        client.get()
        stats = client.adapter.stats()

    assert found == connections
    assert server.accepted == connections
    assert (stats.opened, stats.reused, stats.idle) == (connections, 2, connections)


def arrived(server: FaultServer, connections: int) -> bool:
    """True if exactly so many connections have come: the server accepts a little later."""
    server.wait_for(lambda _: server.accepted >= connections)
    return server.accepted == connections


def idle_of(client: Client) -> list[Any]:
    """The connections that lie in its pool."""
    (pool,) = client.adapter._state.pools()
    return list(pool.idle)


def test_warm_dials_what_is_missing(server: FaultServer) -> None:
    """It can be called again and again."""
    with Client(server) as client:
        assert warmed(client, 1) == 1
        assert warmed(client, 3) == 3
        assert warmed(client, 2) == 3
        assert arrived(server, 3)


@pytest.mark.parametrize("block", [False, True])
def test_warm_stays_within_the_pool(server: FaultServer, block: bool) -> None:
    """A connection in use takes its place, since it will come back."""
    gate = threading.Event()
    with Client(server, pool_maxsize=3, pool_block=block) as client:
        server.script(respond(b"ok", head_pause=gate))
        running = Running(client.get)
        assert server.wait_for_requests(1)
        found = warmed(client, 9)
        gate.set()
        running.seconds_to_end()
        idle = client.adapter.stats().idle
        assert arrived(server, 3)

    assert (found, idle) == (2, 3)


@pytest.mark.parametrize(("idle_for", "dialled"), [(9.9, 1), (10.0, 2)])
def test_the_window_counts_from_the_warming(
    fault_server: FaultServer, clock: FakeClock, idle_for: float, dialled: int
) -> None:
    """A path forgets it as it forgets any other."""
    with mounted(clock) as session:
        adapter_of(session).warm(fault_server.url)
        clock.advance(idle_for)
        session.get(fault_server.url)

    assert fault_server.accepted == dialled


def test_warming_makes_no_idle_connection_younger(
    fault_server: FaultServer, clock: FakeClock
) -> None:
    """No byte has gone over it, so the path has learnt nothing of it."""
    with mounted(clock) as session:
        adapter = adapter_of(session)
        adapter.warm(fault_server.url)
        clock.advance(6.0)
        assert adapter.warm(fault_server.url) == 1
        clock.advance(6.0)
        session.get(fault_server.url)

    assert fault_server.accepted == 2


@pytest.mark.parametrize(("lasting", "dialled"), [(3.9, 1), (4.1, 2)])
def test_a_connection_must_last_until_the_next_warming(
    fault_server: FaultServer, clock: FakeClock, lasting: float, dialled: int
) -> None:
    """A timer would find it dead half the time otherwise; the old one stays while it may."""
    with mounted(clock) as session:
        adapter = adapter_of(session)
        adapter.warm(fault_server.url)
        clock.advance(6.0)
        found = adapter.warm(fault_server.url, lasting=lasting)
        assert arrived(fault_server, dialled)

    assert found == dialled


def test_an_ageing_connection_makes_room_where_there_is_none(
    fault_server: FaultServer, clock: FakeClock
) -> None:
    """The pool has one place."""
    with mounted(clock, pool_maxsize=1) as session:
        adapter = adapter_of(session)
        adapter.warm(fault_server.url)
        clock.advance(6.0)
        found = adapter.warm(fault_server.url, lasting=5.0)
        clock.advance(6.0)
        session.get(fault_server.url)

    assert (found, fault_server.accepted) == (1, 2)


def test_the_youngest_stays_the_first_to_be_used(
    fault_server: FaultServer, clock: FakeClock
) -> None:
    """Looking at idle connections does not turn their order round."""
    told: list[Any] = []
    with mounted(clock, observers=[told.append]) as session:
        adapter = adapter_of(session)
        adapter.warm(fault_server.url)
        clock.advance(3.0)
        adapter.warm(fault_server.url, 2)
        adapter.warm(fault_server.url, 2)
        session.get(fault_server.url)

    assert [each.idle_for for each in told if isinstance(each, AttemptSucceeded)] == [0.0]


def test_connections_that_the_server_has_closed_do_not_count(fault_server: FaultServer) -> None:
    """Many servers close a connection that has sent no request for a while."""
    with Client(fault_server) as client:
        fault_server.on_connect(fin(), fin())
        warmed(client, 2)
        until(lambda: all(wait_for_read(conn.sock, 0) for conn in idle_of(client)))
        found = warmed(client, 2)
        assert arrived(fault_server, 4)

    assert found == 2


def test_an_unsolicited_answer_over_tls_is_no_ticket(fault_server_tls: FaultServer) -> None:
    """It is poison on any connection, and never the answer to the next request."""
    with Client(fault_server_tls) as client:
        warmed(client)
        arrived(fault_server_tls, 1)
        fault_server_tls.push_idle(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        time.sleep(0.05)
        answer = client.get().content

    assert answer == b"ok"
    assert fault_server_tls.accepted == 2


def test_connections_of_a_retired_generation_do_not_count(server: FaultServer) -> None:
    """They lead into the old network."""
    with Client(server) as client:
        warmed(client, 2)
        client.adapter.rotate()
        found = warmed(client)
        assert arrived(server, 3)

    assert found == 1


def test_without_a_window_nothing_is_dialled(fault_server: FaultServer) -> None:
    """A connection that must never be reused, or that could not last, need not be warm."""
    with Client(fault_server, keepalive=0) as client:
        assert warmed(client) == 0
    with Client(fault_server) as client:
        assert warmed(client, lasting=10.0) == 0

    assert fault_server.accepted == 0


@pytest.mark.parametrize("kind", ["forward", "connect", "socks", "socks-tls"])
def test_warm_goes_through_proxies(
    fault_server_factory: Callable[..., FaultServer], kind: str
) -> None:
    """The tunnel is there, TLS in it included."""
    server = fault_server_factory(tls=kind in ("connect", "socks-tls"))
    proxy = (SOCKS5Proxy if kind.startswith("socks") else HTTPProxy)()
    with proxy, Client(server) as client:
        client.session.proxies = {"http": proxy.url, "https": proxy.url}
        found = warmed(client, 2, proxies=client.session.proxies)
        client.get()
        targets = len(proxy.targets)

    assert found == 2
    assert proxy.accepted == 2
    assert targets == (0 if kind == "forward" else 2)


def test_the_environment_counts_as_in_a_session(
    fault_server_tls: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies and bundles choose the pool: a warm connection in another one would be of no use."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(fault_server_tls.ca_path))
    with HTTPProxy() as proxy, requests.Session() as session:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        session.mount("https://", adapter := ResilientAdapter())
        adapter.warm(fault_server_tls.url)
        session.get(fault_server_tls.url)

    assert (proxy.accepted, fault_server_tls.accepted) == (1, 1)


def test_warming_is_told(server: FaultServer) -> None:
    """Each dial is reported as always, under a call of its own."""
    with Client(server) as client:
        warmed(client, 2)
        opened = client.told(ConnectionOpened)
        in_flight = client.adapter.stats().in_flight

    assert [event.origin for event in opened] == [server.url] * 2
    assert client.told(ConnectionRecycled) == []
    assert in_flight == 0


# -- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("http://a.test", 0), ValueError, "connections must be at least 1"),
        (("http://a.test", True), TypeError, "connections must be an int"),
        ((b"http://a.test",), TypeError, "url must be a str"),
        (("a.test",), requests.exceptions.MissingSchema, "No scheme supplied"),
        (("ftp://a.test",), requests.exceptions.InvalidSchema, "scheme ftp"),
        (("http://",), requests.exceptions.InvalidURL, "No host supplied"),
    ],
)
def test_bad_arguments_are_named(arguments: Any, error: type[Exception], text: str) -> None:
    """The error comes before any dial."""
    with pytest.raises(error, match=text):
        ResilientAdapter().warm(*arguments)


def test_lasting_is_checked() -> None:
    """Seconds, from 0."""
    with pytest.raises(ValueError, match="lasting must be at least 0"):
        ResilientAdapter().warm("http://a.test", lasting=-1)


def test_an_adapter_that_was_shut_down_warms_nothing(fault_server: FaultServer) -> None:
    """It says so, as for a call."""
    with Client(fault_server) as client:
        client.adapter.shutdown()
        with pytest.raises(requests.ConnectionError, match="shut down"):
            warmed(client)

    assert fault_server.accepted == 0


def test_an_adapter_that_was_closed_can_be_warmed_again(fault_server: FaultServer) -> None:
    """Such an adapter can also be called again."""
    with Client(fault_server) as client:
        client.adapter.close()
        assert warmed(client) == 1


def test_a_disabled_adapter_warms_nothing(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The switch must not break a program that warms."""
    monkeypatch.setenv("RESILIENT_REQUESTS_DISABLE", "1")
    with Client(fault_server) as client:
        assert warmed(client) == 0

    assert fault_server.accepted == 0


@pytest.mark.parametrize(
    ("kind", "error", "transient"),
    [
        ("refused", requests.ConnectionError, True),
        ("full", requests.ConnectTimeout, True),
        ("certificate", requests.exceptions.SSLError, False),
        ("handshake", requests.ConnectTimeout, True),
        ("proxy", requests.exceptions.ProxyError, True),
        ("refused tunnel", requests.exceptions.ProxyError, False),
    ],
)
@pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_dial_that_fails_raises_what_requests_would(
    fault_server_tls: FaultServer, kind: str, error: type[Exception], transient: bool
) -> None:
    """It dials once: nobody waits for the connection, so nothing is repeated."""
    with contextlib.ExitStack() as stack:
        url = fault_server_tls.url
        options: dict[str, Any] = {"verify": fault_server_tls.ca_path}
        if kind == "refused":
            url = stack.enter_context(refusing())
        if kind == "full":
            full = stack.enter_context(swallowing())
            url = f"http://127.0.0.1:{full.info[4][1]}"
        if kind == "certificate":
            options = {"verify": True}
        if kind == "handshake":
            fault_server_tls.on_handshake(silence())
        if kind == "proxy":
            options["proxies"] = {"https": stack.enter_context(refusing())}
        if kind == "refused tunnel":
            proxy = stack.enter_context(HTTPProxy(connect_status=[407]))
            options["proxies"] = {"https": proxy.url}
        client = stack.enter_context(Client(url, timeouts=_SHORT))
        with pytest.raises(error) as caught:
            client.adapter.warm(url, **options)
        idle = client.adapter.stats().idle

    assert type(caught.value) is error
    assert is_transient(caught.value) is transient
    assert idle == 0


def test_connections_dialled_before_a_failure_stay(fault_server_tls: FaultServer) -> None:
    """The places of the pool stay, too: as many connections can be dialled later."""
    with Client(fault_server_tls, pool_maxsize=3, pool_block=True) as client:
        fault_server_tls.on_handshake(None, reset())
        with pytest.raises(requests.ConnectionError):
            warmed(client, 3)
        assert client.adapter.stats().idle == 1
        assert warmed(client, 3) == 3
        client.get()


@pytest.mark.parametrize("end", ["cancel", "shutdown"])
def test_warming_is_ended_as_a_call_is(fault_server_tls: FaultServer, end: str) -> None:
    """It may take the connect limit."""
    fault_server_tls.on_handshake(silence())
    scope = CancelScope()
    with Client(fault_server_tls) as client:
        running = Running(inside(scope, lambda: warmed(client)))
        until(lambda: fault_server_tls.accepted == 1)
        since = time.monotonic()
        client.adapter.shutdown() if end == "shutdown" else scope.cancel()
        running.seconds_to_end()
        seconds = time.monotonic() - since

    assert isinstance(running.error, Cancelled if end == "cancel" else requests.ConnectionError)
    in_time(seconds, 0.5)
