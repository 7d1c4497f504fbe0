"""Behind each kind of proxy connections are recycled, probed and retried as direct ones are."""

from __future__ import annotations

import contextlib
import gc
import logging
import select
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import trustme
from clients import attempts_of
from fake_clock import FakeClock, adapter_of, mounted
from proxies import HTTPProxy, SOCKS5Proxy

from resilient_requests import (
    AttemptFailed,
    KeepAlivePolicy,
    PoolRotated,
    RetryPolicy,
    Rotation,
    StreamBroken,
    TCPKeepAlive,
)
from resilient_requests.testing import fin, reset, respond, silence, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilient_requests.testing import FaultServer, Reply

    Mount = Callable[..., requests.Session]
    Factory = Callable[..., FaultServer]

SECRET = "hunter2"
# http.client of Python 3.10 leaves the socket of a refused CONNECT to the garbage collector.
refused_tunnel = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


class Way:
    """One way through one proxy to one server."""

    def __init__(self, proxy: HTTPProxy | SOCKS5Proxy, server: FaultServer) -> None:
        self.proxy = proxy
        self.server = server

    def session(self, *args: Any, **options: Any) -> requests.Session:
        """A session that sends everything this way."""
        session = mounted(*args, **options)
        session.proxies = {"http": self.proxy.url, "https": self.proxy.url}
        session.verify = self.server.ca_path or True
        return session


@pytest.fixture(params=["forward", "connect", "socks", "socks-tls"])
def way(request: pytest.FixtureRequest, fault_server_factory: Factory) -> Iterator[Way]:
    """Each kind of proxy, each as requests uses it."""
    server = fault_server_factory(tls=request.param in ("connect", "socks-tls"))
    kind = SOCKS5Proxy if request.param.startswith("socks") else HTTPProxy
    with kind() as proxy:
        yield Way(proxy, server)


@pytest.fixture
def tunnel(fault_server_tls: FaultServer) -> Iterator[Callable[..., Way]]:
    """Makes HTTP proxies with faults, in front of a TLS server."""
    with contextlib.ExitStack() as stack:
        yield lambda **faults: Way(stack.enter_context(HTTPProxy(**faults)), fault_server_tls)


@pytest.fixture
def clock() -> FakeClock:
    """Time that passes when told to."""
    return FakeClock()


def without_waits(**options: Any) -> RetryPolicy:
    """The default policy, in a hurry."""
    return RetryPolicy(wait=lambda _: 0.0, **options)


# -- recycling


@pytest.mark.parametrize(("idle_for", "connections"), [(9.9, 1), (10.0, 2)])
def test_the_window_holds(way: Way, clock: FakeClock, idle_for: float, connections: int) -> None:
    """It is the connection to the proxy that a path forgets."""
    with way.session(clock) as session:
        session.get(way.server.url)
        clock.advance(idle_for)
        session.get(way.server.url)

        assert way.proxy.accepted == connections


def test_events_name_the_server_and_not_the_proxy(way: Way, clock: FakeClock) -> None:
    """A count by origin finds all that a server's calls took under one name."""
    told: list[Any] = []
    with way.session(clock, observers=[told.append]) as session:
        session.get(way.server.url)
        clock.advance(10.0)
        session.get(way.server.url)

    kinds = {type(event).__name__ for event in told}
    assert {"ConnectionOpened", "ConnectionRecycled", "AttemptSucceeded"} <= kinds
    assert {event.origin for event in told} == {way.server.url}


def test_a_forwarding_proxy_is_named_where_all_its_connections_go(
    fault_server: FaultServer,
) -> None:
    """A failure of one server retires connections that calls to other servers would have used."""
    told: list[Any] = []
    with HTTPProxy() as proxy, mounted(max_retries=0, observers=[told.append]) as session:
        session.proxies = {"http": proxy.url}
        fault_server.script(reset())
        with pytest.raises(requests.ConnectionError):
            session.get(fault_server.url)
        (rotated,) = (event for event in told if isinstance(event, PoolRotated))

        assert rotated.origin == proxy.url
        assert list(adapter_of(session).stats().origins) == [proxy.url]


def test_a_servers_hint_holds(way: Way, clock: FakeClock) -> None:
    """It holds even if the answer to CONNECT came on the same connection before."""
    way.server.default = respond(b"ok", keep_alive="timeout=5")
    with way.session(clock) as session:
        session.get(way.server.url)
        clock.advance(2.9)
        session.get(way.server.url)
        clock.advance(3.0)
        session.get(way.server.url)

        assert way.proxy.accepted == 2


def test_max_age_holds(way: Way, clock: FakeClock) -> None:
    """Proxies limit the lives of tunnels."""
    with way.session(clock, keepalive=KeepAlivePolicy(max_age=1.0)) as session:
        for _ in range(8):
            session.get(way.server.url)
            clock.advance(0.25)

        assert way.proxy.accepted == 2


def test_the_bottom_is_swept(way: Way, clock: FakeClock) -> None:
    """Expired siblings are closed, not only skipped."""
    with way.session(clock) as session:
        for response in [session.get(way.server.url, stream=True) for _ in range(4)]:
            assert response.content == b"ok"
        assert (way.proxy.open_connections, adapter_of(session).stats().idle) == (4, 4)
        for _ in range(3):
            clock.advance(4.0)
            session.get(way.server.url)

        assert way.proxy.wait_for(lambda proxy: proxy.open_connections == 1)
        assert way.proxy.accepted == 4


@pytest.mark.parametrize("fault", ["reset", "drop"])
def test_a_proxy_that_forgets_harms_nobody_with_the_window(
    way: Way, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    """No failed attempt, though the proxy forgets every connection at once."""
    monkeypatch.setattr(way.proxy, "_idle_fault", fault)
    events: list[Any] = []
    with way.session(clock, keepalive=0.3, observers=[events.append]) as session:
        for _ in range(3):
            assert session.post(way.server.url).content == b"ok"
            way.proxy.forget()
            clock.advance(0.7)

    assert [event for event in events if isinstance(event, AttemptFailed)] == []
    assert way.proxy.swallowed == 0


def test_a_proxy_that_resets_costs_one_attempt(way: Way) -> None:
    """The window is off: the call recovers on a new connection, and the siblings are closed."""
    events: list[Any] = []
    with way.session(observers=[events.append]) as session:
        for response in [session.get(way.server.url, stream=True) for _ in range(3)]:
            assert response.content == b"ok"
        way.proxy.forget()

        assert session.post(way.server.url).content == b"ok"
        assert [event.reused for event in events if isinstance(event, AttemptFailed)] == [True]
        assert (way.proxy.accepted, way.proxy.swallowed, adapter_of(session).stats().idle) == (
            4,
            1,
            1,
        )
        assert way.proxy.wait_for(lambda proxy: proxy.open_connections == 1)


@pytest.mark.parametrize("end", ["rotate", "close", "session", "shutdown"])
def test_endings_close_connections_to_the_proxy(way: Way, end: str) -> None:
    """They close even if a response is referenced; calls in flight finish."""
    with way.session() as session:
        adapter = adapter_of(session)
        go_on = threading.Event()
        way.server.script(respond(b"ok"), stream([b"one ", go_on, b"two"]))
        kept = session.get(way.server.url, stream=True)
        live = session.get(way.server.url, stream=True)
        assert kept.content == b"ok"
        match end:
            case "rotate":
                assert adapter.rotate() is Rotation.ROTATED
            case "close":
                adapter.close()
            case "session":
                session.close()
            case "shutdown":
                threading.Timer(0.05, go_on.set).start()
                bodies: list[bytes] = []
                reader = threading.Thread(target=lambda: bodies.append(live.content))
                reader.start()
                adapter.shutdown(grace=20.0)
                reader.join()
        assert way.proxy.wait_for(lambda proxy: proxy.open_connections == (end != "shutdown"))
        go_on.set()

        assert live.content == b"one two"
        assert way.proxy.wait_for(lambda proxy: proxy.open_connections == 0)
        assert adapter.stats().idle == 0


def test_pools_behind_a_proxy_are_forgotten_in_a_child(way: Way) -> None:
    """The bookkeeping of a fork is asked for; answers are tested for direct connections."""
    with way.session() as session:
        session.get(way.server.url)
        adapter_of(session)._state.process.forked()

        assert adapter_of(session).stats().idle == 0
        assert session.get(way.server.url).content == b"ok"
        assert way.proxy.accepted == 2


# -- socket options


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="options of Linux")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1, 1, 15, 5, 3, 30_000)),
        (
            {"tcp_keepalive": TCPKeepAlive(idle=7, interval=2, count=4, user_timeout=45.5)},
            (1, 1, 7, 2, 4, 45_500),
        ),
        (
            {"tcp_keepalive": TCPKeepAlive(idle=20, interval=10, count=3, user_timeout=5)},
            (1, 1, 20, 10, 3, 50_000),
        ),
        ({"tcp_keepalive": TCPKeepAlive(user_timeout=None)}, (1, 1, 15, 5, 3, 0)),
        ({"tcp_keepalive": None}, (None, 0, None, None, None, 0)),
    ],
    ids=["default", "own", "user-timeout-not-below-probes", "no-user-timeout", "off"],
)
def test_keepalive_options_are_set_on_the_real_socket(
    way: Way, options: dict[str, Any], expected: tuple[int | None, ...]
) -> None:
    """A proxy is where they matter most; urllib3's TCP_NODELAY stays. Read back from the kernel."""
    with way.session(**options) as session:
        response = session.get(way.server.url, stream=True)
        sock = response.raw._connection.sock
        asked = [
            (socket.IPPROTO_TCP, socket.TCP_NODELAY),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        ]
        found = [sock.getsockopt(*option) for option in asked]

        assert [value for value, wish in zip(found, expected, strict=True) if wish is not None] == [
            wish for wish in expected if wish is not None
        ]
        assert response.content == b"ok"


# -- retries


def test_failures_of_the_origin_are_retried(way: Way) -> None:
    """A reset passes through the proxy, and the retry dials anew."""
    way.server.script(reset())
    with way.session(max_retries=without_waits()) as session:
        answer = session.post(way.server.url)

        assert answer.content == b"ok"
        assert len(way.server.requests) == 2
        assert way.proxy.accepted == 2
        assert adapter_of(session).generation == 1


@refused_tunnel
@pytest.mark.parametrize(
    ("status", "connects"), [(502, 2), (503, 2), (504, 2), (407, 1), (403, 1), (500, 1), (404, 1)]
)
def test_connect_is_retried_by_the_proxys_status(
    tunnel: Callable[..., Way], status: int, connects: int
) -> None:
    """502, 503 and 504 pass; a proxy that forbids or wants a password says so again."""
    way = tunnel(connect_status=[status])
    with way.session(max_retries=without_waits()) as session:
        outcome: Any = None
        try:
            outcome = session.post(way.server.url).content
        except requests.exceptions.ProxyError as error:
            outcome = error
        gc.collect()

        assert way.proxy.connects == connects
        if connects == 2:
            assert outcome == b"ok"
        else:
            assert [record.stopped_by for record in outcome.attempts] == ["policy"]
        assert adapter_of(session).generation == 0
        assert len(way.server.requests) == connects - 1


@refused_tunnel
@pytest.mark.parametrize("fault", ["reset", "fin", "silence"])
def test_a_connect_that_is_cut_is_retried(tunnel: Callable[..., Way], fault: Any) -> None:
    """It is a handshake: nothing of the request has left, so a bare POST is retried too."""
    way = tunnel(connect_fault=[fault])
    with way.session(max_retries=without_waits(), idempotency_keys=False) as session:
        answer = session.post(way.server.url, data=b"x", timeout=(0.2, 5))
        gc.collect()

        assert answer.content == b"ok"
        assert (way.proxy.connects, way.server.applied) == (2, 1)
        assert adapter_of(session).generation == 1


@refused_tunnel
def test_a_proxy_that_stays_silent_fails_in_time(tunnel: Callable[..., Way]) -> None:
    """The connect limit bounds each CONNECT; the attempts say that it was the handshake."""
    way = tunnel(connect_fault=["silence"] * 3)
    with way.session(max_retries=without_waits()) as session:
        with pytest.raises(requests.RequestException) as failure:
            session.get(way.server.url, timeout=(0.1, 5))
        gc.collect()

        attempts = attempts_of(failure.value)
        assert [record.phase for record in attempts] == ["handshake"] * 3
        assert way.server.accepted == 0


def test_socks_refusals_are_retried(fault_server: FaultServer) -> None:
    """They come before a byte of the request."""
    with (
        SOCKS5Proxy(connect_status=[4, 5]) as proxy,
        Way(proxy, fault_server).session(max_retries=without_waits()) as session,
    ):
        assert session.post(fault_server.url).content == b"ok"
        assert proxy.connects == 3


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (2, "not allowed by ruleset"),
        (7, "Command not supported"),
        (8, "Address type not supported"),
    ],
)
def test_socks_replies_that_stay_the_same_are_final(
    fault_server: FaultServer, code: int, words: str
) -> None:
    """RFC 1928, section 6.

    The reply's words tell the user the remedy, so they reach the message.
    """
    with (
        SOCKS5Proxy(connect_status=[code]) as proxy,
        Way(proxy, fault_server).session(max_retries=without_waits()) as session,
    ):
        with pytest.raises(requests.ConnectionError, match=words) as failure:
            session.post(fault_server.url)

        assert proxy.connects == 1
        assert [
            each.stopped_by
            for each in failure.value.attempts  # type: ignore[attr-defined]
        ] == ["policy"]


def test_a_socks_reply_without_a_meaning_is_retried(fault_server: FaultServer) -> None:
    """Codes from 9 on are unassigned: nothing says that they are final."""
    with (
        SOCKS5Proxy(connect_status=[9]) as proxy,
        Way(proxy, fault_server).session(max_retries=without_waits()) as session,
    ):
        assert session.get(fault_server.url).content == b"ok"
        assert proxy.connects == 2


@pytest.mark.parametrize(
    "connected", ["201 Created", "204 No Content", "299 Fine\r\nContent-Length: 5"]
)
def test_any_status_of_success_opens_a_tunnel(tunnel: Callable[..., Way], connected: str) -> None:
    """RFC 9110, 9.3.6: any 2xx opens one, and has no body even if its head announces one."""
    way = tunnel()
    way.proxy.connected = connected  # type: ignore[union-attr]
    with way.session() as session:
        assert session.get(way.server.url).content == b"ok"
        assert way.proxy.connects == 1


@refused_tunnel
def test_a_refusal_of_connect_is_told_in_the_proxy_s_words(tunnel: Callable[..., Way]) -> None:
    """The reason phrase is often all that says why."""
    way = tunnel(connect_status=[403])
    with (
        way.session() as session,
        pytest.raises(requests.exceptions.ProxyError, match="403 Refused"),
    ):
        session.get(way.server.url)
    gc.collect()


def test_credentials_that_socks_refuses_are_shown_once(fault_server: FaultServer) -> None:
    """A client that shows wrong ones three times may be locked out."""

    class Locked(SOCKS5Proxy):
        greeting = b"\x05\xff"

    with (
        Locked() as proxy,
        Way(proxy, fault_server).session(max_retries=without_waits()) as session,
        pytest.raises(requests.ConnectionError) as failure,
    ):
        session.get(fault_server.url)

    attempts = attempts_of(failure.value)
    assert [each.stopped_by for each in attempts] == ["policy"]


def test_a_response_timeout_is_not_retried(way: Way) -> None:
    """Even with a proxy the server may be at work."""
    way.server.script(silence())
    with way.session() as session:
        with pytest.raises(requests.ReadTimeout):
            session.get(way.server.url, timeout=(5, 0.2))

        assert len(way.server.requests) == 1


def test_a_refused_proxy_is_retried_and_named(fault_server: FaultServer) -> None:
    """Nobody listens there."""
    with HTTPProxy() as proxy:
        way = Way(proxy, fault_server)
    with (
        way.session(max_retries=without_waits()) as session,
        pytest.raises(requests.exceptions.ProxyError) as failure,
    ):
        session.get(fault_server.url)

    assert len(attempts_of(failure.value)) == 3


# -- secrets


@refused_tunnel
@pytest.mark.parametrize("status", [None, 407, 503])
def test_a_proxys_password_is_told_to_nobody_but_the_proxy(
    tunnel: Callable[..., Way], caplog: pytest.LogCaptureFixture, status: int | None
) -> None:
    """It is in no log, event, repr, statistic or error."""
    way = tunnel(connect_status=[status] * 3)
    events: list[Any] = []
    caplog.set_level(logging.DEBUG)
    with way.session(max_retries=without_waits(), observers=[events.append]) as session:
        url = f"http://user:{SECRET}@{way.proxy.host}:{way.proxy.port}"
        session.proxies = {"http": url, "https": url}
        told: list[object] = []
        try:
            told.append(session.get(way.server.url))
        except requests.RequestException as error:
            told += [error, repr(error), attempts_of(error)]
        adapter = adapter_of(session)
        told += [
            adapter,
            adapter.stats(),
            adapter._state,
            *adapter._state.pools(),
            events,
            caplog.text,
        ]
        told += [
            vars(record)
            for record in caplog.records
            if record.name.startswith("resilient_requests")
        ]
        gc.collect()

        assert way.proxy.heads[0].header("Proxy-Authorization") == "Basic dXNlcjpodW50ZXIy"
        assert [
            each
            for each in told
            if SECRET in f"{each!s} {each!r}" or "dXNlcjpodW50ZXIy" in repr(each)
        ] == []


# -- TLS to the proxy


class TLSProxy:
    """An HTTPProxy behind a TLS front. One thread per connection, as OpenSSL wants it."""

    def __init__(self, inner: HTTPProxy, context: ssl.SSLContext) -> None:
        self._inner = inner
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.refused = 0
        self.accepted = 0
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Stop accepting, and wait for the ends of all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(20)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.settimeout(20)
                self.accepted += 1
                thread = threading.Thread(target=self._serve, args=(sock,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, plain: socket.socket) -> None:
        with plain, socket.create_connection((self._inner.host, self._inner.port), 20) as inner:
            try:
                client = self._context.wrap_socket(plain, server_side=True)
            except OSError:
                self.refused += 1
                return
            with client, contextlib.suppress(OSError):
                _carry(client, inner)


def _carry(client: ssl.SSLSocket, inner: socket.socket) -> None:
    """Pass bytes on, both ways, until either end has no more."""
    while ready := [client] if client.pending() else select.select([client, inner], [], [], 20)[0]:
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            (inner if source is client else client).sendall(data)


@pytest.fixture
def authority() -> trustme.CA:
    """The authority that signed the proxy's certificate."""
    return trustme.CA()


@pytest.fixture
def tls_proxy(authority: trustme.CA) -> Iterator[TLSProxy]:
    """A proxy to which one speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with HTTPProxy() as inner, contextlib.closing(TLSProxy(inner, context)) as proxy:
        yield proxy


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (respond(b"abc", framing="close", ending="fin"), b"abc"),
        (respond(b"abc", cut=1, ending="fin"), StreamBroken),
        (respond(b"abc", framing="chunked", cut=1, ending="fin"), StreamBroken),
        (respond(b"abc", cut=("head", 20), ending="fin"), requests.ConnectionError),
        (fin(), requests.exceptions.ProxyError),
    ],
    ids=["close-delimited", "cut", "cut chunk", "cut head", "no head"],
)
def test_an_end_without_notice_in_tls_inside_tls_is_an_end(  # noqa: PLR0917  # fixtures
    tls_proxy: TLSProxy,
    authority: trustme.CA,
    fault_server_tls: FaultServer,
    tmp_path: Path,
    reply: Reply,
    outcome: Any,
    is_stream: bool,
) -> None:
    """For such an end urllib3's socket returns 0 instead of b""."""
    bundle = tmp_path / "both.pem"
    bundle.write_bytes(
        Path(fault_server_tls.ca_path or "").read_bytes() + authority.cert_pem.bytes()
    )
    fault_server_tls.default = reply
    with mounted(max_retries=0) as session:
        session.proxies, session.verify = {"https": tls_proxy.url}, str(bundle)
        if isinstance(outcome, bytes):
            assert session.get(fault_server_tls.url, stream=is_stream).content == outcome
        else:
            with pytest.raises(outcome):
                session.get(fault_server_tls.url, stream=is_stream).content  # noqa: B018  # reads


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
def test_a_proxys_own_certificate_is_verified(
    tls_proxy: TLSProxy,
    authority: trustme.CA,
    fault_server_tls: FaultServer,
    tmp_path: Path,
    is_known: bool,
) -> None:
    """The CAs are those of ``verify=``: the proxy sees the targets, and its own password."""
    bundle = tmp_path / "both.pem"
    assert fault_server_tls.ca_path is not None
    own = authority.cert_pem.bytes() if is_known else b""
    with open(fault_server_tls.ca_path, "rb") as ca:  # noqa: PTH123 - one line
        bundle.write_bytes(ca.read() + own)
    with mounted(max_retries=without_waits()) as session:
        session.proxies = {"https": tls_proxy.url}
        session.verify = str(bundle)
        if is_known:
            for _ in range(2):
                assert session.get(fault_server_tls.url).content == b"ok"
            assert tls_proxy.accepted == 1
        else:
            with pytest.raises(requests.exceptions.ProxyError) as failure:
                session.get(fault_server_tls.url)
            assert len(attempts_of(failure.value)) == 1
            assert fault_server_tls.accepted == 0
