"""Tools that people use beside us go on working, and their patches are honoured."""

from __future__ import annotations

import contextlib
import copy
import email.utils
import errno
import functools
import gc
import http.client
import socket
import weakref
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import requests
import urllib3
import urllib3.connection
import urllib3.util.connection
from clients import attempts_of
from fake_clock import adapter_of, mounted
from requests.adapters import HTTPAdapter

from resilient_requests import (
    AttemptFailed,
    ResilientAdapter,
    RetryPolicy,
    RetryScheduled,
    TCPKeepAlive,
    Timeouts,
    iter_bytes,
    iter_events,
)
from resilient_requests.testing import reset, respond, sse
from resilient_requests.transport import socket_options
from resilient_requests.transport._pool import derive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from resilient_requests.testing import FaultServer

API = "http://api.example/v1"


@pytest.fixture
def events() -> list[Any]:
    """The events of the session's adapter."""
    return []


@pytest.fixture
def session(events: list[Any]) -> Iterator[requests.Session]:
    """A session of ours whose retries do not wait."""
    with mounted(max_retries=RetryPolicy(wait=lambda _: 0.0), observers=[events.append]) as session:
        yield session


def of(events: list[Any], kind: type) -> int:
    """Return the number of events of one kind."""
    return sum(1 for event in events if type(event) is kind)


# -- mocks


@pytest.fixture
def responses() -> Any:
    """The package of that name."""
    return pytest.importorskip("responses", reason="responses is not installed")


def test_responses_answers(responses: Any, session: requests.Session) -> None:
    """It patches HTTPAdapter.send, which every attempt goes through."""
    with responses.RequestsMock() as mock:
        mock.get(API, json={"a": 1})
        answer = session.get(API)

        assert answer.json() == {"a": 1}
        mock.assert_call_count(API, 1)


def test_a_mocked_failure_is_retried(
    responses: Any, session: requests.Session, events: list[Any]
) -> None:
    """Users test their error handling so; the second answer is used."""
    with responses.RequestsMock(registry=responses.registries.OrderedRegistry) as mock:
        mock.post(API, body=requests.ConnectionError("refused"))
        mock.post(API, json={"a": 1})

        assert session.post(API, json={}).json() == {"a": 1}
    assert (of(events, AttemptFailed), of(events, RetryScheduled)) == (1, 1)


@pytest.mark.parametrize(
    "error", [requests.ReadTimeout("slow"), requests.exceptions.SSLError("bad"), ValueError("own")]
)
def test_other_mocked_failures_are_not_retried(
    responses: Any, session: requests.Session, error: Exception
) -> None:
    """The same object leaves."""
    with responses.RequestsMock() as mock:
        mock.post(API, body=error)
        with pytest.raises(type(error)) as failure:
            session.post(API, json={})
        mock.assert_call_count(API, 1)

    assert failure.value is error


def test_a_mocked_stream_is_read_as_events(responses: Any, session: requests.Session) -> None:
    """There is no socket beneath it."""
    with responses.RequestsMock() as mock:
        mock.get(API, body=b"data: one\n\ndata: two\n\n", content_type="text/event-stream")
        with iter_events(session.get(API, stream=True)) as stream:
            assert [event.data for event in stream] == ["one", "two"]
        assert adapter_of(session).stats().in_flight == 0


def test_mocked_redirects_and_cookies_work(responses: Any, session: requests.Session) -> None:
    """They are the session's part, and it reads ``raw``."""
    with responses.RequestsMock() as mock:
        mock.get(API, status=302, headers={"Location": f"{API}/2", "Set-Cookie": "a=b"})
        mock.get(f"{API}/2", body=b"there")
        answer = session.get(API)

        assert (answer.content, len(answer.history)) == (b"there", 1)
        assert session.cookies["a"] == "b"


def test_responses_lets_calls_pass(
    responses: Any, session: requests.Session, fault_server: FaultServer
) -> None:
    """A call that it lets through is recycled and retried as ever."""
    fault_server.script(reset())
    with responses.RequestsMock() as mock:
        mock.add_passthru(fault_server.url)
        assert session.get(fault_server.url).content == b"ok"

    assert len(fault_server.requests) == 2


def test_requests_mock_bypasses_us(session: requests.Session, events: list[Any]) -> None:
    """It replaces Session.get_adapter: nothing breaks, and nothing of ours runs."""
    requests_mock = pytest.importorskip("requests_mock", reason="requests-mock is not installed")
    with requests_mock.Mocker() as mock:
        mock.get(API, text="mocked")
        assert session.get(API).text == "mocked"

    assert events == []


# -- caches


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_requests_cache_keeps_the_body(
    fault_server: FaultServer, tmp_path: Path, framing: Any, is_stream: bool
) -> None:
    """It reads ``raw`` itself, and puts a file of its own in its place."""
    requests_cache = pytest.importorskip("requests_cache", reason="requests-cache is not installed")
    fault_server.default = respond(b"cached", framing=framing)
    with requests_cache.CachedSession(backend="memory") as session:
        session.mount("http://", ResilientAdapter())
        got = [session.get(fault_server.url, stream=is_stream) for _ in range(2)]

        assert [(response.content, response.from_cache) for response in got] == [
            (b"cached", False),
            (b"cached", True),
        ]
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_cachecontrol_sees_the_body(
    fault_server: FaultServer, framing: Any, is_stream: bool
) -> None:
    """It lays a file over that of urllib3's response, and caches the bytes that pass through it."""
    cachecontrol = pytest.importorskip("cachecontrol", reason="CacheControl is not installed")
    date = email.utils.formatdate(usegmt=True)
    fault_server.default = respond(
        b"cached", framing=framing, headers={"Cache-Control": "max-age=60", "Date": date}
    )

    base: Any = cachecontrol.CacheControlAdapter

    class Cached(base, ResilientAdapter):  # type: ignore[misc]
        pass

    with requests.Session() as session:
        session.mount("http://", Cached())
        assert [session.get(fault_server.url, stream=is_stream).content for _ in range(3)] == [
            b"cached"
        ] * 3
        assert len(fault_server.requests) == 1
        # Streams of ours are for answers that nobody caches: they keep their clocks.
        live = iter_bytes(session.get(f"{fault_server.url}/live", stream=True))
        assert b"".join(live) == b"cached"


# -- authentication


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_a_handler_sees_the_connection_of_a_challenge(
    session: requests.Session, fault_server: FaultServer, is_stream: bool
) -> None:
    """NTLM binds its answer to the certificate, found at the socket; it asks on the same."""
    seen: list[Any] = []

    def answer(response: requests.Response, **options: Any) -> requests.Response:
        if response.status_code != 401:
            return response
        seen.append(response.raw._fp.fp.raw._sock.getpeername())
        assert response.content == b"who?"
        request = response.request.copy()
        request.headers["Authorization"] = "me"
        return response.connection.send(request, **options)

    fault_server.script(respond(b"who?", status=401))
    response = session.get(fault_server.url, hooks={"response": answer}, stream=is_stream)

    assert response.content == b"ok"
    assert seen == [(fault_server.host, fault_server.port)]
    assert [request.connection for request in fault_server.requests] == [1, 1]
    assert adapter_of(session).stats().in_flight == 0


# -- recorders


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "warm"])
def test_vcr_records_once_and_replays_without_a_hit(
    session: requests.Session,
    fault_server_factory: Callable[..., FaultServer],
    tmp_path: Path,
    tls: bool,
    is_warm: bool,
) -> None:
    """It swaps connection classes and pool methods of urllib3, also under idle connections."""
    vcr = pytest.importorskip("vcr", reason="vcrpy is not installed")
    server = fault_server_factory(tls=tls)
    session.verify = server.ca_path or True
    if is_warm:
        session.get(server.url)
    server.reset_counts()
    server.default = respond(b"recorded")
    cassette = str(tmp_path / "cassette.yaml")
    with vcr.use_cassette(cassette) as recording:
        first = session.post(f"{server.url}/v1", data=b"x")
    server.default = respond(b"not recorded")
    with vcr.use_cassette(cassette, record_mode="none") as replay:
        second = session.post(f"{server.url}/v1", data=b"x")

    assert (first.content, second.content) == (b"recorded", b"recorded")
    assert (len(recording), replay.play_count, len(server.requests)) == (1, 1, 1)
    assert session.get(server.url).content == b"not recorded"
    with mounted() as other:
        assert other.get(server.url, verify=server.ca_path or True).content == b"not recorded"


def test_vcrs_cassettes_are_freed(
    session: requests.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """A suite with a cassette for each test would keep all that was ever recorded."""
    vcr = pytest.importorskip("vcr", reason="vcrpy is not installed")
    cassettes = []
    for number in range(5):
        with vcr.use_cassette(str(tmp_path / f"{number}.yaml")) as cassette:
            session.get(fault_server.url)
            session.get(fault_server.url)
        cassettes.append(weakref.ref(cassette))
        del cassette
    gc.collect()

    assert [each() for each in cassettes] == [None] * 5


def test_a_connection_class_is_derived_once() -> None:
    """The derived class stays the same while it is in use, and differs from that of its base."""

    class Own(urllib3.connection.HTTPConnection):
        pass

    class Narrower(Own):
        pass

    derived = derive(Own)

    assert issubclass(derived, Own)
    assert derive(Own) is derived
    assert issubclass(derive(Narrower), Narrower)
    assert derive(derived) is derived
    assert derive(object) is object


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # betamax's own
def test_betamax_records_through_us(
    session: requests.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """It mounts its adapter over ours; a session of ours replays the recording."""
    betamax = pytest.importorskip("betamax", reason="betamax is not installed")
    with betamax.Betamax(session, cassette_library_dir=str(tmp_path)).use_cassette("once"):
        first = session.get(fault_server.url)
    with (
        mounted() as other,
        betamax.Betamax(other, cassette_library_dir=str(tmp_path)).use_cassette(
            "once", record="none"
        ),
    ):
        second = other.get(fault_server.url)

    assert (first.content, second.content) == (b"ok", b"ok")
    assert len(fault_server.requests) == 1


# -- tracers


def test_tracers_of_http_client_see_each_attempt(
    session: requests.Session, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sentry-sdk wraps putrequest and getresponse of http.client, and adds headers in between."""
    spans: list[tuple[str, object]] = []
    putrequest, getresponse = (
        http.client.HTTPConnection.putrequest,
        http.client.HTTPConnection.getresponse,
    )

    def traced_putrequest(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        result = putrequest(self, method, url, *args, **kwargs)
        self.putheader("sentry-trace", f"span-{len(spans)}")
        spans.append((method, url))
        self._sentry_span = spans[-1]
        return result

    def traced_getresponse(self: Any, *args: Any, **kwargs: Any) -> Any:
        response = getresponse(self, *args, **kwargs)
        spans.append(("status", response.status))
        return response

    monkeypatch.setattr(http.client.HTTPConnection, "putrequest", traced_putrequest)
    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", traced_getresponse)
    fault_server.script(reset())
    session.get(f"{fault_server.url}/a")

    assert spans == [("GET", "/a"), ("GET", "/a"), ("status", 200)]
    assert [request.header("sentry-trace") for request in fault_server.requests] == [
        "span-0",
        "span-1",
    ]


def test_tracers_of_the_adapter_see_each_attempt(
    session: requests.Session, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is ddtrace, which wraps HTTPAdapter.send at any time."""
    calls: list[str] = []
    send = HTTPAdapter.send

    def traced(
        self: HTTPAdapter, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        calls.append(str(request.method))
        return send(self, request, *args, **kwargs)

    monkeypatch.setattr(HTTPAdapter, "send", traced)
    fault_server.script(reset())
    session.post(fault_server.url, data=b"x")

    assert calls == ["POST", "POST"]


def test_opentelemetry_sees_each_attempt(
    session: requests.Session, fault_server: FaultServer
) -> None:
    """Its urllib3 instrumentation wraps urlopen, which we inherit."""
    reason = "the OpenTelemetry instrumentation of urllib3 is not installed"
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.urllib3", reason=reason)
    trace = pytest.importorskip("opentelemetry.sdk.trace", reason=reason)
    export = pytest.importorskip("opentelemetry.sdk.trace.export", reason=reason)
    memory = pytest.importorskip(
        "opentelemetry.sdk.trace.export.in_memory_span_exporter", reason=reason
    )
    exporter, provider = memory.InMemorySpanExporter(), trace.TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    instrumentor = instrumentation.URLLib3Instrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        fault_server.script(reset())
        assert session.get(fault_server.url).content == b"ok"
    finally:
        instrumentor.uninstrument()
        provider.shutdown()

    assert [span.name for span in exporter.get_finished_spans()] == ["GET", "GET"]
    assert all(request.header("traceparent") for request in fault_server.requests)


# -- patches and arguments of users


def test_a_replaced_create_connection_dials(
    session: requests.Session, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The common way to pin a name to an address."""
    stock = urllib3.util.connection.create_connection
    asked: list[Any] = []

    def mine(address: tuple[str, int], *args: Any, **kwargs: Any) -> socket.socket:
        asked.append(address)
        return stock((fault_server.host, fault_server.port), *args, **kwargs)

    monkeypatch.setattr(urllib3.util.connection, "create_connection", mine)

    assert session.get("http://pinned.invalid:81/").content == b"ok"
    assert asked == [("pinned.invalid", 81)]


def test_a_replaced_getaddrinfo_resolves(
    session: requests.Session, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one."""
    address = (fault_server.host, fault_server.port)
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)

    assert session.get("http://pinned.invalid:81/").content == b"ok"


def test_a_forced_address_family_is_kept(
    session: requests.Session, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People force IPv4 in this way if IPv6 is broken."""
    families: list[Any] = []
    stock = socket.getaddrinfo

    def resolve(host: str, port: int, family: int = 0, *args: Any, **kwargs: Any) -> Any:
        families.append(family)
        return stock(host, port, family, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(urllib3.util.connection, "allowed_gai_family", lambda: socket.AF_INET)
    session.get(f"http://localhost:{fault_server.port}/")

    assert families[0] == socket.AF_INET


def test_a_source_address_is_used(fault_server: FaultServer) -> None:
    """SourceAddressAdapter of requests-toolbelt uses this documented hook."""

    class Source(ResilientAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, source_address=("127.0.0.1", 0), **kwargs)

    with requests.Session() as session:
        session.mount("http://", adapter := Source())
        assert session.get(fault_server.url).content == b"ok"
        assert adapter.poolmanager.connection_pool_kw["source_address"] == ("127.0.0.1", 0)


class Stock(ResilientAdapter):
    """The subclass that requests' own documentation shows."""

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **_: Any
    ) -> None:
        """Make a manager that we have not made."""
        self.poolmanager = urllib3.PoolManager(
            num_pools=connections, maxsize=maxsize, block=block, source_address=("127.0.0.1", 0)
        )


@pytest.mark.parametrize("is_copy", [False, True], ids=["made", "copied"])
def test_a_pool_manager_of_a_subclass_is_recycled(fault_server: FaultServer, is_copy: bool) -> None:
    """Its connections have our socket options, are reused, and known to be stale."""
    with requests.Session() as session:
        session.mount("http://", copy.deepcopy(Stock()) if is_copy else Stock())
        for _ in range(2):
            assert session.get(fault_server.url).content == b"ok"
        pools: list[Any] = list(adapter_of(session)._state.pools())
        options = [pool.conn_kw["socket_options"] for pool in pools]
        fault_server.script(reset())
        response = session.post(fault_server.url)

        assert [attempt.reused for attempt in attempts_of(response)] == [True, False]
        assert options == [socket_options(TCPKeepAlive())]
    assert fault_server.accepted == 2


def test_a_manager_that_is_put_there_later_is_used(fault_server: FaultServer) -> None:
    """The look-up must not go on finding the pools of the one before."""
    with mounted() as session:
        session.get(fault_server.url)
        before, adapter_of(session).poolmanager = (
            adapter_of(session).poolmanager,
            urllib3.PoolManager(),
        )
        session.get(fault_server.url)

        assert len(adapter_of(session).poolmanager.pools) == 1
        before.clear()
        adapter_of(session).poolmanager.clear()


def test_what_a_pool_is_to_check_may_change(fault_server_tls: FaultServer) -> None:
    """requests-toolbelt sets the name in a certificate on the manager, before each call."""
    with mounted() as session:
        session.verify = fault_server_tls.ca_path or ""
        assert session.get(fault_server_tls.url).content == b"ok"
        adapter_of(session).poolmanager.connection_pool_kw["assert_hostname"] = "other.example"
        with pytest.raises(requests.exceptions.SSLError):
            session.get(fault_server_tls.url)
        del adapter_of(session).poolmanager.connection_pool_kw["assert_hostname"]

        assert session.get(fault_server_tls.url).content == b"ok"
    assert len(fault_server_tls.requests) == 2


@pytest.mark.parametrize("name", ["urlopen", "_make_request"])
def test_a_mock_below_the_adapter_is_retried(
    session: requests.Session, fault_server: FaultServer, name: str
) -> None:
    """Tests of users patch urllib3's pools."""
    stock, errors = getattr(urllib3.HTTPConnectionPool, name), [ConnectionResetError("mocked")]

    def mocked(self: Any, *args: Any, **kwargs: Any) -> Any:
        if errors:
            raise urllib3.exceptions.ProtocolError("mocked", errors.pop())
        return stock(self, *args, **kwargs)

    with mock.patch.object(urllib3.HTTPConnectionPool, name, mocked):
        response = session.get(fault_server.url)

    assert [attempt.status for attempt in attempts_of(response)] == [None, 200]


def test_a_body_that_a_hook_reads_is_asked_for_again(fault_server: FaultServer) -> None:
    """Its cut is the transport's failure, though it leaves through the hook."""

    class Reading(ResilientAdapter):
        def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
            response = super().build_response(req, resp)
            assert response.content
            return response

    fault_server.script(respond(b"whole", cut=2, ending="fin"), respond(b"whole"))
    with requests.Session() as session:
        session.mount("http://", Reading())

        assert session.get(fault_server.url).content == b"whole"


def test_a_body_whose_reading_is_replaced_behind_a_line_keeps_its_rest(
    session: requests.Session, fault_server: FaultServer
) -> None:
    """The first loop holds bytes that only ours can go on with."""
    fault_server.default = respond(b"one\ntwo\nthree\n")
    response = session.get(fault_server.url, stream=True)
    assert next(response.iter_lines()) == b"one"
    response.raw.read = functools.partial(response.raw.read, decode_content=True)

    assert response.content == b"two\nthree\n"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.leaks("urllib3 drops the response there")
def test_an_alarm_behind_the_head_leaves_as_it_is(
    session: requests.Session, fault_server: FaultServer
) -> None:
    """Requests wraps it, since it looks like a socket's error."""
    alarm = TimeoutError("of a signal handler")

    def ring(*_: object) -> None:
        raise alarm

    with (
        mock.patch.object(urllib3.Retry, "is_retry", ring),
        pytest.raises(TimeoutError) as caught,
    ):
        session.get(fault_server.url)

    assert caught.value is alarm
    assert len(fault_server.requests) == 1


def test_a_send_of_other_code_has_the_write_limit_for_each_64_kib(
    fault_server: FaultServer,
) -> None:
    """It gets a large body whole, and a socket's timeout bounds all of it."""
    seen = []

    class Noting(urllib3.connection.HTTPConnection):
        def send(self, data: Any) -> None:
            seen.append((len(data) >> 16, self.sock.gettimeout()))
            super().send(data)

    with requests.Session() as session:
        session.mount("http://", adapter := ResilientAdapter(timeouts=Timeouts(write=2.0)))
        kinds = adapter.poolmanager.pool_classes_by_scheme
        kinds["http"] = type("Own", (kinds["http"],), {"ConnectionCls": derive(Noting)})
        session.post(fault_server.url, data=bytes(1 << 20))

    assert seen == [(0, 2.0), (16, 34.0)]


def test_a_send_of_other_code_fails_as_ours_does(fault_server: FaultServer) -> None:
    """Its frame is the last one in the traceback, and still the error is the socket's."""

    class Sending(urllib3.connection.HTTPConnection):
        def send(self, data: Any) -> None:
            if fault_server.requests and data.startswith(b"POST") and not failed:
                failed.append(data)
                raise BrokenPipeError(errno.EPIPE, "dead")
            super().send(data)

    failed: list[bytes] = []
    with requests.Session() as session:
        session.mount("http://", adapter := ResilientAdapter())
        kinds = adapter.poolmanager.pool_classes_by_scheme
        kinds["http"] = type("Own", (kinds["http"],), {"ConnectionCls": derive(Sending)})
        session.get(fault_server.url)
        response = session.post(fault_server.url, data=b"x")

    assert [attempt.status for attempt in attempts_of(response)] == [None, 200]


class TokenAdapter(ResilientAdapter):
    """Fetches a token by its own pool manager, in the hook that requests has for headers."""

    def add_headers(self, request: requests.PreparedRequest, **_: Any) -> None:
        try:
            token = self.poolmanager.request("GET", f"{request.url}token", retries=False)
        except urllib3.exceptions.HTTPError:
            return
        request.headers["Token"] = token.data.decode()


class NotingAdapter(ResilientAdapter):
    """Tells another server about each response, while that may still be unread."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = super().build_response(req, resp)
        self.poolmanager.request("POST", f"{req.url}note")
        return response


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("kind", [TokenAdapter, NotingAdapter])
def test_a_hook_may_send_a_request_of_its_own(
    kind: type[ResilientAdapter], fault_server: FaultServer, is_stream: bool
) -> None:
    """The attempt is that of the call's own request; nobody observes the other one."""
    fault_server.default = respond(b"token" * 50_000)
    with requests.Session() as session:
        session.mount("http://", adapter := kind())
        responses = [
            session.post(f"{fault_server.url}/", data=b"x", stream=is_stream) for _ in range(2)
        ]

        for response in responses:
            assert response.content == b"token" * 50_000
            assert [attempt.status for attempt in attempts_of(response)] == [200]
        assert [len(fault_server.requests), adapter.stats().in_flight] == [4, 0]


@pytest.mark.parametrize("is_token_lost", [False, True])
def test_a_call_survives_the_faults_around_a_request_of_a_hook(
    fault_server: FaultServer, is_token_lost: bool
) -> None:
    """A token that is lost is the hook's to handle; a reset of the call is retried."""
    fault_server.script(reset() if is_token_lost else respond(b"token"), reset())
    with requests.Session() as session:
        session.mount("http://", TokenAdapter())
        response = session.get(f"{fault_server.url}/")

    assert [each.path for each in fault_server.requests] == ["/token", "/"] * 2
    assert [attempt.status for attempt in attempts_of(response)] == [None, 200]


def test_own_socket_options_replace_ours(fault_server: FaultServer) -> None:
    """Its SocketOptionsAdapter does so: a user who sets options knows better."""
    own = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)]

    class Options(ResilientAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **{**kwargs, "socket_options": own})

    with requests.Session() as session:
        session.mount("http://", Options())
        response = session.get(fault_server.url, stream=True)
        sock = response.raw._connection.sock

        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        assert response.content == b"ok"


def test_what_other_packages_read_from_an_adapter_is_there() -> None:
    """The package responses calls ``is_retry`` on it, and urllib3 must not retry beneath us."""
    retries = ResilientAdapter(max_retries=5).max_retries

    assert isinstance(retries, urllib3.Retry)
    assert (retries.total, retries.read, retries.is_retry("GET", 503)) == (0, False, False)


def test_a_connection_class_of_ones_own_is_kept(
    session: requests.Session, fault_server: FaultServer
) -> None:
    """A ConnectionCls that a user sets on a pool is used, and never stamped."""

    class Own(urllib3.connection.HTTPConnection):
        pass

    pool = adapter_of(session).poolmanager.connection_from_url(fault_server.url)
    pool.ConnectionCls = Own

    assert pool.ConnectionCls is Own
    assert pool.urlopen("GET", "/", retries=False).data == b"ok"
    assert pool.urlopen("GET", "/", retries=False).data == b"ok"
    assert fault_server.accepted == 1
    pool.close()


def test_foreign_things_in_a_pool_do_no_harm(
    session: requests.Session, fault_server: FaultServer
) -> None:
    """Tests and tools put strange objects there."""

    class Strange:
        closed = 0
        is_connected = True

        def close(self) -> None:
            self.closed += 1

    pool = adapter_of(session).poolmanager.connection_from_url(fault_server.url)
    strange: Any = Strange()
    pool._get_conn()
    pool._put_conn(strange)

    assert pool._get_conn() is strange
    pool._put_conn(strange)
    adapter_of(session).close()


# -- requests' own habits


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_redirect_whose_body_is_no_gzip_is_followed(
    session: requests.Session, fault_server: FaultServer, is_stream: bool
) -> None:
    """Servers label empty and plain redirects so, and requests goes on."""
    headers = {"Location": "/there", "Content-Encoding": "gzip"}
    fault_server.route("/here", respond(b"moved", status=302, headers=headers))

    assert session.get(f"{fault_server.url}/here", stream=is_stream).content == b"ok"


def test_an_answer_that_is_no_gzip_is_an_error(
    session: requests.Session, fault_server: FaultServer
) -> None:
    """The error is that of requests; it says nothing about the connection, and is not retried."""
    fault_server.default = respond(b"plain", headers={"Content-Encoding": "gzip"})
    with pytest.raises(requests.exceptions.ContentDecodingError):
        session.get(fault_server.url)

    assert len(fault_server.requests) == 1


def test_closing_clears_managers_that_others_put_there() -> None:
    """``proxy_manager`` is an open dict, and requests clears all that is in it."""

    class Manager:
        cleared = 0

        def clear(self) -> None:
            self.cleared += 1

    adapter = ResilientAdapter()
    adapter.proxy_manager["one"] = manager = Manager()
    adapter.close()

    assert manager.cleared == 1


@pytest.mark.parametrize("timeout", [(1, 2, 3), "soon", -1, 0, (0, 1), [1, 2]])
def test_a_wrong_timeout_is_refused(
    session: requests.Session, fault_server: FaultServer, timeout: Any
) -> None:
    """The error comes before any request."""
    with pytest.raises((TypeError, ValueError), match="timeout"):
        session.get(fault_server.url, timeout=timeout)

    assert fault_server.accepted == 0


# -- the kill switch


@pytest.fixture
def disabled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., requests.Session]:
    """Makes sessions of an operator who has switched us off; the switch is off again afterwards."""

    def make(**options: Any) -> requests.Session:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RESILIENT_REQUESTS_DISABLE", "1")
            return mounted(**options)

    return make


def test_disabled_it_is_a_plain_adapter(
    disabled: Callable[..., requests.Session], fault_server: FaultServer
) -> None:
    """One attempt, requests' own error, its classes, pools and headers."""
    events: list[Any] = []
    with disabled(keepalive=0.0, observers=[events.append]) as session:
        assert [type(session.post(fault_server.url)) for _ in range(2)] == [requests.Response] * 2
        fault_server.script(reset(), sse("one"))
        with pytest.raises(requests.ConnectionError) as failure:
            session.post(fault_server.url)
        with session.get(fault_server.url, stream=True) as response:
            assert [line for line in response.iter_lines() if line] == [
                b"data: one",
                b"data: [DONE]",
            ]
        adapter = adapter_of(session)

        assert not hasattr(failure.value, "attempts")
        assert [request.header("Idempotency-Key") for request in fault_server.requests] == [
            None
        ] * 4
        assert type(adapter.poolmanager) is urllib3.PoolManager
        assert [request.connection for request in fault_server.requests] == [1, 1, 1, 2]
        assert events == []


def test_disabled_a_retry_is_urllib3s_own(
    disabled: Callable[..., requests.Session], fault_server: FaultServer
) -> None:
    """Code that gave HTTPAdapter a Retry has its old behaviour back."""
    fault_server.script(respond(status=503), respond(status=503))
    with disabled(
        max_retries=urllib3.Retry(2, status_forcelist=[503], backoff_factor=0)
    ) as session:
        assert session.get(fault_server.url).status_code == 200
    with disabled(max_retries=RetryPolicy(max_retries=7)) as session:
        assert session.get(fault_server.url).status_code == 200
        assert adapter_of(session).max_retries.total == 0


def test_disabled_all_methods_can_be_called(
    disabled: Callable[..., requests.Session], fault_server: FaultServer
) -> None:
    """Code that rotates and reads statistics must not need to know."""
    with disabled() as session:
        adapter = adapter_of(session)
        session.get(fault_server.url)
        adapter.rotate()
        with contextlib.closing(session):
            assert (adapter.stats().idle, adapter.generation) == (0, 1)
            assert repr(adapter) == "<ResilientAdapter disabled by RESILIENT_REQUESTS_DISABLE>"
        adapter.shutdown()
