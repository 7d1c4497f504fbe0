"""Code that was written for requests' own adapter does the same on ours, down to the requests sent.

Each function is such code, with the adapter's class as its only parameter. It runs with requests'
class and with ours, and both outcomes must be equal.
"""

# ruff: noqa: D103  # the names are sentences

from __future__ import annotations

import contextlib
import contextvars
import copy
import functools
import http.client
import io
import socket
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import ConnectionPool, HTTPConnectionPool

from resilient_requests import ResilientAdapter
from resilient_requests.testing import (
    FaultServer,
    Fin,
    Reply,
    Send,
    reset,
    respond,
    silence,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    Code = Callable[[Any, FaultServer], object]

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.leaks("requests closes no socket of a response that was not read"),
]

CODE: dict[str, Code] = {}
LONG = b"0123456789" * 20_000


def old_code(code: Code) -> Code:
    """Add a function to those that are compared."""
    CODE[code.__name__.replace("_", " ")] = code
    return code


@pytest.mark.parametrize("name", CODE)
def test_old_code_does_as_before(name: str) -> None:
    """The outcome, an error's class included, and the requests that the server has seen."""
    outcomes = []
    for adapter in (HTTPAdapter, ResilientAdapter):
        with FaultServer() as server:
            try:
                outcome: object = CODE[name](adapter, server)
            except (OSError, urllib3.exceptions.HTTPError) as error:
                outcome = type(error)
            # Two connections are served in any order.
            seen = sorted((each.method, each.path) for each in server.requests)
            outcomes.append((outcome, seen))

    assert outcomes[0] == outcomes[1]


def session_of(adapter: HTTPAdapter) -> requests.Session:
    """A session with the adapter mounted; pools are closed with it, when it is dropped."""
    session = requests.Session()
    session.mount("http://", adapter)
    return session


def get(adapter: HTTPAdapter, server: FaultServer, **options: Any) -> requests.Response:
    """A call, read whole, in a session of its own."""
    with session_of(adapter) as session:
        return session.get(f"{server.url}/", **{"timeout": 5, **options})


def post(adapter: HTTPAdapter, server: FaultServer, **options: Any) -> requests.Response:
    """As `get`."""
    with session_of(adapter) as session:
        return session.post(f"{server.url}/", **{"timeout": 5, **options})


# -- requests inside a request ---------------------------------------------------------------------


def auditing(
    adapter: Any, server: FaultServer, options: Callable[[requests.PreparedRequest], dict[str, Any]]
) -> Any:
    """An adapter that reads each response, and sends another request before it returns that."""

    class Hooked(adapter):  # type: ignore[misc]
        def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
            response: requests.Response = super().build_response(req, resp)
            assert response.content
            self.poolmanager.request("POST", f"{server.url}/audit", **options(req))
            return response

    return Hooked()


@old_code
def a_body_fetches_a_part_of_itself(adapter: Any, server: FaultServer) -> object:
    mounted = adapter()

    def body() -> Iterator[bytes]:
        yield b"one"
        yield mounted.poolmanager.request("GET", f"{server.url}/part").data
        yield b"two"

    return post(mounted, server, data=body()).content


@old_code
def a_thread_of_a_hook_sends_while_the_call_waits(adapter: Any, server: FaultServer) -> object:
    answered = threading.Event()
    server.script(lambda _: respond(b"first") if answered.wait(5) else reset(), respond(b"second"))

    class Hooked(adapter):  # type: ignore[misc]
        def add_headers(self, request: requests.PreparedRequest, **_: Any) -> None:
            context = contextvars.copy_context()
            self.thread = threading.Thread(target=context.run, args=(self.send_one,))
            self.thread.start()

        def send_one(self) -> None:
            assert server.wait_for_requests(1)
            self.poolmanager.request("GET", f"{server.url}/other")
            answered.set()

    mounted = Hooked()
    try:
        return get(mounted, server).content
    finally:
        mounted.thread.join(5)


@old_code
def a_hook_for_headers_fails(adapter: Any, server: FaultServer) -> object:
    """The failure is that of another request, and says nothing of the call's own."""
    server.default = reset()

    class Hooked(adapter):  # type: ignore[misc]
        def add_headers(self, request: requests.PreparedRequest, **_: Any) -> None:
            requests.post(f"{server.url}/token", timeout=5)

    return get(Hooked(), server).content


@old_code
def a_hook_for_headers_fails_in_the_same_pool(adapter: Any, server: FaultServer) -> object:
    server.default = reset()

    class Hooked(adapter):  # type: ignore[misc]
        def add_headers(self, request: requests.PreparedRequest, **_: Any) -> None:
            self.poolmanager.request("POST", f"{server.url}/token", retries=False)

    return get(Hooked(), server).content


@old_code
def a_hook_behind_the_response_fails(adapter: Any, server: FaultServer) -> object:
    server.script(respond(b"paid"), reset(), respond(b"paid again"), reset())

    class Hooked(adapter):  # type: ignore[misc]
        def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
            response: requests.Response = super().build_response(req, resp)
            requests.post(f"{server.url}/audit", timeout=5)
            return response

    return get(Hooked(), server).content


@old_code
def a_stale_connection_behind_the_response(adapter: Any, server: FaultServer) -> object:
    server.script(respond(b"warm"), respond(b"paid"), reset())

    mounted = auditing(adapter, server, lambda _: {"retries": False})
    mounted.poolmanager.request("GET", f"{server.url}/warm")
    return post(mounted, server).content


@old_code
def a_copy_of_send_leaves_retries_to_urllib3(adapter: Any, server: FaultServer) -> object:
    server.script(respond(status=503), respond(status=503), respond(b"fine"))

    class Copied(adapter):  # type: ignore[misc]
        def send(self, request: Any, **_: Any) -> requests.Response:
            pool = self.get_connection_with_tls_context(request, True)
            raw = pool.urlopen(
                request.method,
                self.request_url(request, {}),
                redirect=False,
                preload_content=False,
                retries=self.max_retries,
            )
            built: requests.Response = self.build_response(request, raw)
            return built

    return get(Copied(max_retries=urllib3.Retry(3, status_forcelist=[503])), server).content


@old_code
def the_history_of_retries_is_on_raw(adapter: Any, server: FaultServer) -> object:
    server.script(respond(status=503), respond(status=503), respond(b"fine"))
    mounted = adapter(max_retries=urllib3.Retry(3, status_forcelist=[503]))

    return [each.status for each in get(mounted, server).raw.retries.history]


@old_code
def send_runs_in_a_thread(adapter: Any, server: FaultServer) -> object:
    """So decorators with a timeout do it: the retries must not multiply."""
    server.default = respond(status=503)
    stock = HTTPAdapter.send

    def threaded(self: Any, *args: Any, **kwargs: Any) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(stock, self, *args, **kwargs).result()

    retry = urllib3.Retry(2, status_forcelist=[503], raise_on_status=False)
    with mock.patch.object(HTTPAdapter, "send", threaded):
        return get(adapter(max_retries=retry), server).status_code


@old_code
def a_hook_fails_in_the_name_of_the_call(adapter: Any, server: FaultServer) -> object:
    """A refused dial of the hook says nothing of the POST that is reset behind it."""
    server.default = reset()
    with socket.create_server(("127.0.0.1", 0)) as gone:
        closed = gone.getsockname()[1]

    class Hooked(adapter):  # type: ignore[misc]
        def add_headers(self, request: requests.PreparedRequest, **_: Any) -> None:
            pool = self.poolmanager.connection_from_host("127.0.0.1", closed)
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                pool.urlopen("GET", "/", retries=self.max_retries)

    return post(Hooked(), server, data=b"x").content


@old_code
def a_hook_takes_the_retries_of_its_adapter(adapter: Any, server: FaultServer) -> object:
    """They are no sign that its request is the call's."""
    server.script(respond(b"paid"), reset(), respond(b"paid again"), reset())

    mounted = auditing(adapter, server, lambda _: {"retries": mounted.max_retries})
    return post(mounted, server).content


@old_code
def a_hook_takes_the_headers_of_its_call(adapter: Any, server: FaultServer) -> object:
    """They mark the call's request only until its response has begun."""
    server.script(respond(b"warm"), respond(b"paid"), reset())

    mounted = auditing(adapter, server, lambda req: {"headers": req.headers, "retries": False})
    mounted.poolmanager.request("GET", f"{server.url}/warm")
    return post(mounted, server).content


@old_code
def a_body_takes_the_headers_of_its_call(adapter: Any, server: FaultServer) -> object:
    held: list[Any] = []

    class Hooked(adapter):  # type: ignore[misc]
        def add_headers(self, request: requests.PreparedRequest, **_: Any) -> None:
            held.append(request.headers)

    mounted = Hooked()

    def body() -> Iterator[bytes]:
        yield b"one"
        pool = mounted.poolmanager.connection_from_url(server.url)
        pool.urlopen("GET", "/part", headers=held[0])

    return post(mounted, server, data=body()).content


@old_code
def a_class_below_tries_twice(adapter: Any, server: FaultServer) -> object:
    """On a dead connection, behind which any request would be repeated, and on a fresh one."""
    server.script(respond(b"warm"), reset(), reset(), respond(b"a third"))

    class Below(HTTPAdapter):
        def send(self, request: Any, *_: Any, **__: Any) -> requests.Response:
            pool = self.get_connection_with_tls_context(request, True)

            def send_once() -> Any:
                return pool.urlopen(
                    request.method,
                    self.request_url(request, {}),
                    headers=request.headers,
                    redirect=False,
                    preload_content=False,
                    retries=self.max_retries,
                )

            try:
                raw = send_once()
            except urllib3.exceptions.HTTPError:
                raw = send_once()
            built: requests.Response = self.build_response(request, raw)
            return built

    kind = Below if adapter is HTTPAdapter else type("Both", (adapter, Below), {})
    with session_of(kind()) as session:
        session.get(f"{server.url}/", timeout=5)
        return session.post(f"{server.url}/", timeout=5).content


@old_code
def a_constructor_leaves_ours_out(adapter: Any, server: FaultServer) -> object:
    class Bare(adapter):  # type: ignore[misc]
        def __init__(self) -> None:
            self.max_retries = urllib3.Retry(0, read=False)
            self.proxy_manager: dict[str, Any] = {}
            self.init_poolmanager(10, 10)

    return get(copy.copy(Bare()), server).content


# -- responses of other classes, and read in other ways --------------------------------------------


class Shouting(urllib3.HTTPResponse):
    """Changes what it reads, as a decrypting one does."""

    def stream(self, *args: Any, **kwargs: Any) -> Generator[bytes, None, None]:
        yield from map(bytes.upper, super().stream(*args, **kwargs))


@old_code
def raw_is_of_a_class_that_reads_otherwise(adapter: Any, server: FaultServer) -> object:
    class Built(adapter):  # type: ignore[misc]
        def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
            resp.__class__ = Shouting
            built: requests.Response = super().build_response(req, resp)
            return built

    return get(Built(), server).content


@old_code
def the_stream_of_raw_is_replaced(adapter: Any, server: FaultServer) -> object:
    response = get(adapter(), server, stream=True)
    response.raw.stream = lambda *_, **__: iter([b"its ", b"own"])
    return list(response.iter_content(None))


@old_code
def a_mock_has_a_stream_and_nothing_else(adapter: Any, server: FaultServer) -> object:
    raw = mock.MagicMock(status=200, headers={}, reason="OK")
    raw.stream = lambda *_, **__: iter([b"a", b"b"])
    with mock.patch.object(HTTPConnectionPool, "urlopen", return_value=raw):
        return get(adapter(), server).content


@old_code
def a_mock_of_urllib3s_response(adapter: Any, server: FaultServer) -> object:
    """It says that it is one, and its class has no method of one."""
    raw = mock.create_autospec(urllib3.HTTPResponse, instance=True)
    raw.status, raw.headers, raw.reason = 200, {}, "OK"
    raw.stream.return_value = iter([b"a", b"b"])
    request = requests.Request("GET", f"{server.url}/").prepare()
    return adapter().build_response(request, raw).content


@old_code
def a_mock_of_the_pool_raises(adapter: Any, server: FaultServer) -> object:
    """The error of a mock is one of the part for which it stands."""
    with mock.patch.object(HTTPConnectionPool, "_make_request", side_effect=ConnectionResetError):
        return post(adapter(), server).content


@old_code
def the_retries_of_an_adapter_are_patched(adapter: Any, server: FaultServer) -> object:
    """The patch ends by the deletion of what it has written."""
    server.default = reset(applies=False)
    mounted = adapter(max_retries=urllib3.Retry(1, backoff_factor=0))
    patched = mock.patch.object(mounted, "max_retries", urllib3.Retry(0))
    with patched, contextlib.suppress(requests.ConnectionError):
        get(mounted, server)
    return get(mounted, server).content


@old_code
def the_blocks_of_a_response_are_counted(adapter: Any, server: FaultServer) -> object:
    """Progress bars wrap the method on the response."""
    counted = []

    def read(response: requests.Response) -> bytes:
        blocks = response.iter_content

        def count(*args: Any, **options: Any) -> Iterator[bytes]:
            for block in blocks(*args, **options):
                counted.append(len(block))
                yield block

        response.iter_content = count  # type: ignore[method-assign]
        return response.content

    server.default = respond(b"a line\n")
    whole = read(get(adapter(), server, stream=True))
    return whole, sum(counted)


@old_code
def a_response_gets_another_raw(adapter: Any, server: FaultServer) -> object:
    """Recorders rewind a body by a second object over its bytes."""
    response = get(adapter(), server)
    again = urllib3.HTTPResponse(body=io.BytesIO(b"again"), preload_content=False)
    response.raw, response._content, response._content_consumed = again, False, False
    second = response.content
    last = mock.MagicMock()
    last.stream = lambda *_, **__: iter([b"last"])
    response.raw, response._content, response._content_consumed = last, False, False
    return second, response.content


@old_code
def a_body_is_a_file_without_a_buffer(adapter: Any, server: FaultServer) -> object:
    class Bare(io.RawIOBase):
        rest = b"bare"

        def read(self, _: int = -1) -> bytes:
            data, self.rest = self.rest, b""
            return data

    raw = urllib3.HTTPResponse(body=Bare(), status=200, preload_content=False)
    request = requests.Request("GET", f"{server.url}/").prepare()
    return adapter().build_response(request, raw).content


@old_code
def a_generator_delegates_to_a_loop(adapter: Any, server: FaultServer) -> object:
    """A generator that is dropped closes the iterator that it delegates to."""
    server.default = respond(LONG)

    def blocks(response: requests.Response) -> Iterator[bytes]:
        yield from response.iter_content(1000)

    response = get(adapter(), server, stream=True)
    for block in blocks(response):
        return len(block), len(response.content)
    return None


@old_code
def an_error_is_thrown_into_a_loop(adapter: Any, server: FaultServer) -> object:
    loop: Any = get(adapter(), server, stream=True).iter_content(1)
    next(loop)
    try:
        loop.throw(KeyError("mine"))
    except KeyError as error:
        return error.args
    return None


@old_code
def chunks_are_left_in_a_pool_that_blocks(adapter: Any, server: FaultServer) -> object:
    """The place of a chunked body comes back with the end of its loop, and once."""
    server.script(stream([b"a"] * 3, ending="silence"), respond(b"next"), respond(b"last"))
    mounted = adapter(pool_maxsize=1, pool_block=True)
    with session_of(mounted) as session:
        left = session.get(server.url, stream=True, timeout=5)
        for _ in left.iter_content(1):
            break
        left.close()
        pool = mounted.get_connection_with_tls_context(left.request, verify=True)
        return session.get(server.url, timeout=5).content, pool.urlopen(
            "GET", "/", pool_timeout=2
        ).data


@old_code
def chunks_are_left_in_a_pool_that_answers_by_itself(adapter: Any, server: FaultServer) -> object:
    server.script(stream([b"a"] * 3, content_type="text/plain", ending="silence"), respond(b"next"))
    mounted = adapter(pool_maxsize=1, pool_block=True)
    with session_of(mounted) as session:
        left = session.get(server.url, stream=True, timeout=5)
        for _ in left.iter_content(1):
            break
        pool = mounted.get_connection_with_tls_context(left.request, verify=True)
        return pool.urlopen("GET", "/", pool_timeout=2).data


def fields_seen_by(wrapped: Any, adapter: Any, server: FaultServer) -> list[str]:
    putheader = wrapped.putheader
    seen: list[str] = []

    def traced(self: Any, header: Any, *values: Any) -> None:
        seen.append(str(header))
        putheader(self, header, *values)

    with mock.patch.object(wrapped, "putheader", traced):
        post(adapter(), server, json={}, headers={"X-Mine": "1"})
    return seen


@old_code
def a_tracer_wraps_putheader_of_http_client(adapter: Any, server: FaultServer) -> object:
    return fields_seen_by(http.client.HTTPConnection, adapter, server)


@old_code
def a_tracer_wraps_putheader_of_urllib3(adapter: Any, server: FaultServer) -> object:
    return fields_seen_by(HTTPConnection, adapter, server)


@old_code
def a_function_forbids_sockets(adapter: Any, server: FaultServer) -> object:
    """Tests replace the class, so that nothing of them reaches a network."""

    def forbid(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no sockets in tests")

    with mock.patch.object(socket, "socket", forbid):
        try:
            return get(adapter(), server).content
        except RuntimeError as error:
            return error.args


def in_a_loop(adapter: Any, server: FaultServer, act: Callable[[Any], object]) -> object:
    server.default = respond(LONG)
    with session_of(adapter()) as session:
        response = session.get(server.url, stream=True, timeout=5)
        for _ in response.iter_content(50_000):
            act(response.raw)
        return response.ok


@old_code
def raw_is_drained_in_a_loop(adapter: Any, server: FaultServer) -> object:
    return in_a_loop(adapter, server, lambda raw: raw.drain_conn())


@old_code
def lines_are_read_through_ones_own_blocks(adapter: Any, server: FaultServer) -> object:
    server.default = respond(b"a\nb\n")
    response = get(adapter(), server, stream=True)
    response.iter_content = lambda *_, **__: iter([b"c\n"])  # type: ignore[method-assign]
    return list(response.iter_lines())


@old_code
def raw_is_closed_in_a_loop(adapter: Any, server: FaultServer) -> object:
    """By the thread that reads: the loop ends, and no error tells of it."""
    return in_a_loop(adapter, server, lambda raw: raw.close())


class Greeting(requests.Response):
    """With a method of its own."""

    def greet(self) -> str:
        return f"hello {self.text}"


@old_code
def responses_are_of_a_class_of_ones_own(adapter: Any, server: FaultServer) -> object:
    with mock.patch.object(requests.adapters, "Response", Greeting):
        response: Any = get(adapter(), server)
    return response.greet()


@old_code
def a_response_is_no_response(adapter: Any, server: FaultServer) -> object:
    class Built(adapter):  # type: ignore[misc]
        def build_response(self, req: requests.PreparedRequest, resp: Any) -> Any:
            return (resp.status, resp.data)

    request = requests.Request("GET", f"{server.url}/").prepare()
    return Built().send(request)


@old_code
def a_connection_is_given_back_too_early(adapter: Any, server: FaultServer) -> object:
    server.default = respond(LONG)
    response = get(adapter(), server, stream=True)
    first = response.raw.read(5)
    response.raw.release_conn()
    return first + response.raw.read() == LONG


@old_code
def content_comes_behind_an_early_release(adapter: Any, server: FaultServer) -> object:
    server.default = respond(LONG, framing="chunked")
    response = get(adapter(), server, stream=True)
    response.raw.release_conn()
    return response.content == LONG


@old_code
def lines_in_a_coding_with_state(adapter: Any, server: FaultServer) -> object:
    text = "\ud55c\uae00\n\ud55c\uae00 two\n"
    server.default = respond(
        text.encode("iso-2022-kr"), headers={"Content-Type": "text/plain; charset=iso-2022-kr"}
    )
    return list(get(adapter(), server, stream=True).iter_lines(decode_unicode=True))


# -- connections and pools of other classes --------------------------------------------------------


def over(adapter: Any, connection: Any) -> Any:
    """The adapter's class, over connections of a class."""

    class Pool(HTTPConnectionPool):
        ConnectionCls = connection

    return with_pools(adapter, {"http": Pool})


def with_pools(adapter: Any, pools: dict[str, Any], manager: Any = urllib3.PoolManager) -> Any:
    """The adapter's class, with a manager of its own that makes these pools."""

    class Made(adapter):  # type: ignore[misc]
        def init_poolmanager(self, connections: int, maxsize: int, *_: Any, **__: Any) -> None:
            self._pool_connections, self._pool_maxsize = connections, maxsize
            self.poolmanager = manager(num_pools=connections, maxsize=maxsize)
            self.poolmanager.pool_classes_by_scheme = pools

    return Made


class Masking(HTTPConnection):
    """Changes all that it sends."""

    def send(self, data: Any) -> None:
        super().send(data.replace(b"secret", b"******"))


@old_code
def a_connection_changes_all_that_it_sends(adapter: Any, server: FaultServer) -> object:
    post(over(adapter, Masking)(), server, data=b"a secret")
    return server.requests[0].body


@old_code
def every_connection_is_listened_to(adapter: Any, server: FaultServer) -> object:
    sent = []
    stock = http.client.HTTPConnection.send

    def listening(self: Any, data: Any) -> None:
        sent.append(bytes(data).partition(b" ")[0])
        stock(self, data)

    with mock.patch.object(http.client.HTTPConnection, "send", listening):
        post(adapter(), server, data=b"body")
    return sent


@old_code
def every_status_line_is_listened_to(adapter: Any, server: FaultServer) -> object:
    heard = []
    stock = http.client.HTTPResponse._read_status  # type: ignore[attr-defined]

    def listening(self: Any) -> Any:
        heard.append(stock(self))
        return heard[-1]

    with mock.patch.object(http.client.HTTPResponse, "_read_status", listening):
        get(adapter(), server)
    return heard


@old_code
def the_parser_of_fields_is_wrapped(adapter: Any, server: FaultServer) -> object:
    wrapper = Wrapper(http.client.parse_headers, [])
    with mock.patch.object(http.client, "parse_headers", wrapper):
        get(adapter(), server)
    return len(wrapper.calls)


class Wrapper:
    """Looks like the function that it wraps, as those of wrapt do."""

    def __init__(self, function: Any, calls: list[object]) -> None:
        self.function, self.calls = function, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)

    def __get__(self, instance: Any, owner: Any) -> Wrapper:
        return Wrapper(self.function.__get__(instance, owner), self.calls)

    def __call__(self, *args: Any) -> Any:
        self.calls.append(self.function)
        return self.function(*args)


@old_code
def every_connection_is_wrapped(adapter: Any, server: FaultServer) -> object:
    wrapper = Wrapper(http.client.HTTPConnection.send, [])
    with mock.patch.object(http.client.HTTPConnection, "send", wrapper):
        post(adapter(), server, data=b"body")
    return len(wrapper.calls)


@old_code
def a_debuglevel_prints_all_that_is_sent(adapter: Any, server: FaultServer) -> object:
    printed: list[str] = []
    with (
        mock.patch.object(http.client.HTTPConnection, "debuglevel", 1),
        mock.patch("builtins.print", lambda what, *_: printed.append(what)),
    ):
        post(adapter(), server, data=b"body")
        post(over(adapter, Masking)(), server, data=b"a secret")
    return printed.count("send:"), "reply:" in printed


@old_code
def a_connection_waits_for_an_answer_to_the_head(adapter: Any, server: FaultServer) -> object:
    """As botocore's does for 100 Continue; here it only must be out."""

    class Waiting(HTTPConnection):
        def endheaders(self, *args: Any, **kwargs: Any) -> None:
            super().endheaders(*args, **kwargs)
            assert server.wait_for_requests(1)

    return post(over(adapter, Waiting)(), server, data=b"body").content


@old_code
def a_connection_asks_something_first(adapter: Any, server: FaultServer) -> object:
    class Asking(HTTPConnection):
        def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
            super().request("GET", "/first", preload_content=False)
            super().getresponse().read()
            super().request(method, url, *args, **kwargs)

    return post(over(adapter, Asking)(), server, data=b"body").content


@old_code
def a_connection_dials_anew_behind_a_request_of_its_own(
    adapter: Any, server: FaultServer
) -> object:
    class Asking(HTTPConnection):
        def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
            super().request("GET", "/first", preload_content=False)
            super().getresponse().read()
            self.close()
            self.connect()
            super().request(method, url, *args, **kwargs)

    return post(over(adapter, Asking)(), server, data=b"body").content


@old_code
def an_early_answer_meets_another_class_of_responses(adapter: Any, server: FaultServer) -> object:
    server.default = respond(status=413, read=5)

    def body() -> Iterator[bytes]:
        yield b"x" * 10
        assert server.wait_for_requests(1)
        yield from [b"x" * 65_536] * 200

    with mock.patch.object(http.client.HTTPConnection, "response_class", Noting):
        return post(adapter(), server, data=body()).status_code


class Noting(http.client.HTTPResponse):
    """Of the kind that other packages put in the place of http.client's."""


@old_code
def a_connection_waits_for_an_answer_that_never_comes(adapter: Any, server: FaultServer) -> object:
    class Waiting(HTTPConnection):
        def endheaders(self, *args: Any, **kwargs: Any) -> None:
            super().endheaders(*args, **kwargs)
            if not self.sock.recv(1):
                raise http.client.RemoteDisconnected("no answer")

    server.default = reset(read="head")
    return post(over(adapter, Waiting)(), server, data=b"body").content


@old_code
def a_connection_waits_in_silence(adapter: Any, server: FaultServer) -> object:
    """Behind a request without a body, which the server has whole."""

    class Waiting(HTTPConnection):
        def endheaders(self, *args: Any, **kwargs: Any) -> None:
            super().endheaders(*args, **kwargs)
            self.sock.settimeout(0.2)
            self.sock.recv(1)

    server.default = silence()
    return post(over(adapter, Waiting)(), server).content


class Radio(http.client.HTTPResponse):
    """Reads the status line of an old server of streams."""

    def _read_status(self) -> tuple[str, int, str]:
        assert self.fp.readline().startswith(b"ICY")
        return "HTTP/1.0", 200, "OK"


@old_code
def a_connection_reads_heads_of_its_own(adapter: Any, server: FaultServer) -> object:
    class Listening(HTTPConnection):
        response_class = Radio

    server.default = Reply((Send(b"ICY 200 OK\r\nicy-name: x\r\n\r\nmusic"), Fin()))
    return get(over(adapter, Listening)(), server).content


class Own(ConnectionPool):
    """Answers without a network."""

    scheme = "http"

    def __init__(self, host: str, port: int, **_: Any) -> None:
        super().__init__(host, port)

    def urlopen(self, *_: Any, **__: Any) -> Any:
        return urllib3.HTTPResponse(body=b"its own", preload_content=False)


@old_code
def a_pool_comes_from_a_factory(adapter: Any, server: FaultServer) -> object:
    factory = functools.partial(HTTPConnectionPool, maxsize=3)
    return get(with_pools(adapter, {"http": factory})(), server).content


@old_code
def a_connection_comes_from_a_factory(adapter: Any, server: FaultServer) -> object:
    factory = staticmethod(functools.partial(HTTPConnection))
    return get(over(adapter, factory)(), server).content


@old_code
def a_pool_answers_by_itself(adapter: Any, server: FaultServer) -> object:
    return get(with_pools(adapter, {"http": Own})(), server).content


@old_code
def a_manager_chooses_a_source_for_each_call(adapter: Any, server: FaultServer) -> object:
    sources = deque([("127.0.0.2", 0), ("127.0.0.3", 0)])

    class Choosing(urllib3.PoolManager):
        def connection_from_host(
            self, host: Any, port: Any = None, scheme: Any = "http", pool_kwargs: Any = None
        ) -> Any:
            given = {**(pool_kwargs or {}), "source_address": sources.popleft()}
            return super().connection_from_host(host, port, scheme, given)

    pools = {"http": HTTPConnectionPool}
    with session_of(with_pools(adapter, pools, Choosing)()) as session:
        for _ in range(2):
            session.get(f"{server.url}/", timeout=5)
    return len(sources), server.accepted


@old_code
def a_password_of_a_proxy_is_made_anew(adapter: Any, server: FaultServer) -> object:
    class Renewing(adapter):  # type: ignore[misc]
        made = 0

        def proxy_headers(self, proxy: str) -> dict[str, str]:
            return {"Token": str(self.made)}

        def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
            self.made += 1
            self.proxy_manager.pop(proxy, None)
            return super().proxy_manager_for(proxy, **kwargs)

    with session_of(Renewing()) as session:
        session.proxies = {"http": server.url}
        for _ in range(2):
            session.get("http://example.invalid/", timeout=5)
    return [each.header("Token") for each in server.requests]


@old_code
def the_manager_of_a_proxy_is_chosen_by_an_instance(adapter: Any, server: FaultServer) -> object:
    mounted, asked = adapter(), []
    stock = mounted.proxy_manager_for

    def chosen(proxy: str, **kwargs: Any) -> Any:
        asked.append(proxy)
        return stock(proxy, **kwargs)

    mounted.proxy_manager_for = chosen
    with session_of(mounted) as session:
        session.proxies = {"http": server.url}
        for _ in range(2):
            session.get("http://example.invalid/", timeout=5)
    return len(asked)


@old_code
def the_pool_is_chosen_by_one_manager(adapter: Any, server: FaultServer) -> object:
    mounted, asked = adapter(), []
    stock = mounted.poolmanager.connection_from_host

    def chosen(*args: Any, **kwargs: Any) -> Any:
        asked.append(args)
        return stock(*args, **kwargs)

    mounted.poolmanager.connection_from_host = chosen
    with session_of(mounted) as session:
        for _ in range(2):
            session.get(f"{server.url}/", timeout=5)
    return len(asked)


@old_code
def the_key_of_a_pool_is_chosen_by_an_instance(adapter: Any, server: FaultServer) -> object:
    mounted, seen = adapter(), []

    def key(request: requests.PreparedRequest, verify: Any, cert: Any = None) -> Any:
        seen.append(request.headers["User"])
        return HTTPAdapter.build_connection_pool_key_attributes(mounted, request, verify, cert)

    mounted.build_connection_pool_key_attributes = key
    with session_of(mounted) as session:
        for user in ("one", "two"):
            session.get(f"{server.url}/", headers={"User": user}, timeout=5)
    return seen


@old_code
def a_hook_that_fails_leaves_no_connection(adapter: Any, server: FaultServer) -> object:
    """Reference counts alone must free it."""

    class Failing(adapter):  # type: ignore[misc]
        def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
            raise ValueError("not for us")

    server.default = respond(LONG)
    with session_of(Failing()) as session, contextlib.suppress(ValueError):
        session.get(f"{server.url}/", timeout=5)
    return server.wait_for(lambda seen: seen.open_connections == 0, timeout=5)
