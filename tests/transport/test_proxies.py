"""The proxies of other tests act as proxies do, and fail when told to."""

from __future__ import annotations

import gc
import threading
import time
from typing import TYPE_CHECKING

import pytest
import requests
from clients import in_time
from proxies import HTTPProxy, SOCKS5Proxy

from resilient_requests.testing import FaultServer, fin, reset, respond, silence, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

# http.client of Python 3.10 leaves the socket of a refused CONNECT to the garbage collector.
refused_tunnel = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
AnyProxy = HTTPProxy | SOCKS5Proxy


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """Plain requests."""
    with requests.Session() as session:
        yield session


@pytest.fixture(params=[HTTPProxy, SOCKS5Proxy], ids=["http", "socks"])
def proxy(request: pytest.FixtureRequest) -> Iterator[AnyProxy]:
    """Each kind of proxy."""
    with request.param() as proxy:
        yield proxy


def through(session: requests.Session, proxy: AnyProxy, server: FaultServer) -> requests.Session:
    """Send all that the session does through the proxy."""
    session.proxies = {"http": proxy.url, "https": proxy.url}
    session.verify = server.ca_path or True
    return session


def test_a_client_keeps_its_connection(
    session: requests.Session, proxy: AnyProxy, server: FaultServer
) -> None:
    """The windows of a pool are about such reuse, through a proxy too."""
    through(session, proxy, server)
    answers = [session.post(f"{server.url}/a?b=c", data=b"question") for _ in range(3)]

    assert [answer.content for answer in answers] == [b"ok"] * 3
    assert [(one.target, one.body) for one in server.requests] == [("/a?b=c", b"question")] * 3
    assert proxy.accepted == 1


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_bytes_pass_when_they_come(
    session: requests.Session, proxy: AnyProxy, server: FaultServer, framing: str
) -> None:
    """A proxy that buffers would hide the timing of a stream."""
    go_on = threading.Event()
    server.script(stream([b"first", go_on, b"second"], framing=framing))  # type: ignore[arg-type]
    response = through(session, proxy, server).get(server.url, stream=True)
    first = response.raw.read1(100)
    go_on.set()

    assert (first, response.raw.read()) == (b"first", b"second")


@pytest.mark.parametrize("fault", [reset(), fin()], ids=["reset", "fin"])
def test_the_servers_end_reaches_the_client(
    session: requests.Session, proxy: AnyProxy, server: FaultServer, fault: object
) -> None:
    """A fault of the origin must not turn into an answer of the proxy."""
    server.script(fault)  # type: ignore[arg-type]

    with pytest.raises(requests.ConnectionError):
        through(session, proxy, server).get(server.url)


def test_a_bodiless_answer_leaves_the_connection_usable(
    session: requests.Session, server: FaultServer
) -> None:
    """HEAD and 204 announce lengths that do not come."""
    with HTTPProxy() as proxy:
        through(session, proxy, server)
        server.script(respond(b"long"), respond(status=204), respond(b"x", interim=[100]))
        answers = [session.head(server.url), session.get(server.url), session.get(server.url)]

        assert [answer.content for answer in answers] == [b"", b"", b"x"]
        assert proxy.accepted == 1


def test_a_chunked_body_arrives_whole(
    session: requests.Session, proxy: AnyProxy, server: FaultServer
) -> None:
    """Uploads from generators are chunked."""
    through(session, proxy, server).post(server.url, data=iter([b"a" * 10, b"b" * 20]))

    assert server.requests[0].body == b"a" * 10 + b"b" * 20


@refused_tunnel
@pytest.mark.parametrize("fault", ["reset", "fin", "silence"])
def test_connecting_fails_as_told_and_then_works(
    session: requests.Session, fault_server_tls: FaultServer, fault: str
) -> None:
    """Each fault is used once."""
    for kind in (HTTPProxy, SOCKS5Proxy):
        with kind(connect_fault=[fault]) as proxy:  # type: ignore[list-item]
            through(session, proxy, fault_server_tls)
            with pytest.raises((requests.ConnectionError, requests.Timeout)):
                session.get(fault_server_tls.url, timeout=0.2)
            gc.collect()

            assert session.get(fault_server_tls.url).status_code == 200
            assert proxy.connects == 2


@refused_tunnel
def test_connect_is_refused_with_the_statuses_given(
    session: requests.Session, fault_server_tls: FaultServer
) -> None:
    """502 to 504 may pass, 407 does not: a client has to see which it was."""
    with HTTPProxy(connect_status=[503, 407]) as proxy:
        through(session, proxy, fault_server_tls)
        for status in (503, 407):
            with pytest.raises(requests.exceptions.ProxyError, match=str(status)):
                session.get(fault_server_tls.url)
            gc.collect()
        session.get(fault_server_tls.url)

        assert proxy.targets == (f"127.0.0.1:{fault_server_tls.port}",) * 3


def test_socks_is_refused_with_the_codes_given(
    session: requests.Session, fault_server: FaultServer
) -> None:
    """5 is refused, 4 unreachable."""
    with SOCKS5Proxy(connect_status=[4]) as proxy:
        through(session, proxy, fault_server)
        with pytest.raises(requests.ConnectionError):
            session.get(fault_server.url)

        assert session.get(fault_server.url).content == b"ok"


def test_an_absent_origin_is_reported(session: requests.Session, proxy: AnyProxy) -> None:
    """A proxy that cannot dial says so."""
    with FaultServer() as server:
        through(session, proxy, server)
    outcome: int | type[Exception]
    try:
        outcome = session.get(server.url).status_code
    except requests.ConnectionError as exc:
        outcome = type(exc)

    assert outcome in {502, requests.ConnectionError}


@pytest.mark.slow
def test_an_idle_connection_is_forgotten(session: requests.Session, server: FaultServer) -> None:
    """With a reset a client learns of it at once; a silent drop costs it a timeout."""
    for kind in (HTTPProxy, SOCKS5Proxy):
        for fault, error in (("reset", requests.ConnectionError), ("drop", requests.ReadTimeout)):
            with kind(idle_limit=0.05, idle_fault=fault) as proxy:  # type: ignore[arg-type]
                through(session, proxy, server)
                session.get(server.url)
                before = len(server.requests)
                time.sleep(0.1)
                with pytest.raises(error):
                    session.get(server.url, timeout=0.1)

                assert (proxy.swallowed, len(server.requests)) == (1, before)


def test_close_ends_everything_at_once(
    session: requests.Session, proxy: AnyProxy, server: FaultServer
) -> None:
    """A test that fails must not wait for the patience of its helpers."""
    server.script(silence())
    through(session, proxy, server)
    errors: list[Exception] = []

    def ask() -> None:
        try:
            session.get(server.url)
        except requests.ConnectionError as exc:
            errors.append(exc)

    asking = threading.Thread(target=ask)
    asking.start()
    assert server.wait_for_requests(1)
    started = time.monotonic()
    proxy.close()
    proxy.close()
    asking.join(5)

    in_time(time.monotonic() - started, 1)
    assert errors
    assert proxy.open_connections == 0
