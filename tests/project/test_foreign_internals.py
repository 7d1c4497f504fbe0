"""Names of other libraries that no documentation promises.

A release that changes one fails here.
"""

from __future__ import annotations

import _socket
import ast
import contextlib
import email.message
import http.client
import inspect
import io
import json
import queue
import re
import runpy
import socket
import ssl
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
import requests.adapters
import requests.utils
import urllib3
import urllib3.connection
import urllib3.util.connection
import urllib3.util.proxy
import urllib3.util.ssl_
from canaries import CANARIES, Canary, canary
from house import ROOT, read

from resilient_requests.testing import respond

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resilient_requests.testing import FaultServer

PAGE = ROOT.parent / "docs" / "architecture.md"
ROW = re.compile(r"^\| `([\w.]+)` \| ([^|]+) \| `([\w/]+\.py)` \|", re.MULTILINE)
NAME = re.compile(r"`([\w.]*)\.(\w+)`|`(\w+)`")
DOCUMENTED = {"_exit", "_fields", "_make", "_replace"}  # of os and of named tuples


@contextlib.contextmanager
def answer(
    server: FaultServer, pool_class: type[urllib3.HTTPConnectionPool] = urllib3.HTTPConnectionPool
) -> Iterator[Any]:
    """A streamed response of urllib3's own, read by nobody."""
    port = int(server.url.rpartition(":")[2].strip("/"))
    with pool_class("127.0.0.1", port) as pool:
        response: Any = pool.urlopen("GET", "/", preload_content=False)
        yield response
        response.close()


def parameters(function: Any) -> list[str]:
    """Return the names of a function's parameters."""
    return list(inspect.signature(function).parameters)


class HeadOnly:
    """All that http.client may ask of a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return the file."""
        assert mode == "rb"
        return io.BufferedReader(io.BytesIO(self._data))


def parsed(data: bytes, kind: Any = http.client.HTTPResponse) -> Any:
    """Return http.client's response to a GET, its head read."""
    response = kind(HeadOnly(data), method="GET")
    response.begin()
    return response


@contextlib.contextmanager
def tls_socket(context: ssl.SSLContext) -> Iterator[tuple[ssl.SSLSocket, socket.socket]]:
    """A TLS socket that has not shaken hands, and its peer."""
    ours, theirs = socket.socketpair()
    with theirs, context.wrap_socket(ours, do_handshake_on_connect=False) as tls:
        yield tls, theirs


def lenient() -> ssl.SSLContext:
    """A context that asks for no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _Left(Exception):
    """A handshake was asked for."""


def _leave(sock: ssl.SSLSocket) -> None:
    sock.close()  # nobody else will
    raise _Left


# -- urllib3: pools and managers ------------------------------------------------------------------


@canary(
    "urllib3",
    "transport/_pool.py",
    "HTTPConnectionPool._get_conn",
    "HTTPConnectionPool._new_conn",
    "HTTPConnectionPool._put_conn",
)
def is_called_for_each_request(name: str, server: FaultServer) -> bool:
    """A pool calls all three, with the arguments that we take."""
    called = {}

    class Pool(urllib3.HTTPConnectionPool):
        def _get_conn(self, timeout: Any = None) -> Any:
            called["_get_conn"] = conn = super()._get_conn(timeout=timeout)
            return conn

        def _new_conn(self) -> Any:
            called["_new_conn"] = conn = super()._new_conn()
            return conn

        def _put_conn(self, conn: Any) -> None:
            called["_put_conn"] = conn
            super()._put_conn(conn)

    with answer(server, Pool) as response:
        response.read()

    return isinstance(called.get(name), urllib3.connection.HTTPConnection)


@canary(
    "urllib3",
    "transport/_warm.py",
    "HTTPConnectionPool._prepare_proxy",
    "HTTPConnectionPool._validate_conn",
)
def takes_a_connection(name: str, server: FaultServer) -> bool:
    """Both kinds of pools have it."""
    kinds = (urllib3.HTTPConnectionPool, urllib3.HTTPSConnectionPool)

    return all(parameters(getattr(kind, name)) == ["self", "conn"] for kind in kinds)


@canary("urllib3", "transport/_pool.py", "HTTPConnectionPool.ConnectionCls")
def is_looked_up_for_each_connection(name: str, server: FaultServer) -> bool:
    """So a descriptor may decide."""
    base = getattr(urllib3.HTTPConnectionPool, name)
    made = type("Made", (base,), {})
    kind = type("Pool", (urllib3.HTTPConnectionPool,), {name: property(lambda _: made)})

    return type(kind("127.0.0.1")._new_conn()) is made


@canary("urllib3", "transport/_pool.py", "HTTPConnectionPool.pool")
def is_a_queue_of_places(name: str, server: FaultServer) -> bool:
    """It begins with a None for each connection that may be made, and is None in a closed pool."""
    pool = urllib3.HTTPConnectionPool("127.0.0.1", maxsize=2)
    waiting = getattr(pool, name)
    places = [waiting.get(block=False), waiting.get(block=False)]
    pool.close()

    return isinstance(waiting, queue.LifoQueue) and places == [None, None] and pool.pool is None


@canary("urllib3", "transport/_pool.py", "HTTPConnectionPool.urlopen")
def gets_the_headers_of_the_request(name: str, server: FaultServer) -> bool:
    """The very object, by name."""
    given: list[Any] = []

    class Pool(urllib3.HTTPConnectionPool):
        def urlopen(self, *args: Any, **kwargs: Any) -> Any:
            given.append(kwargs["headers"])
            return super().urlopen(*args, **kwargs)

    with requests.Session() as session:
        adapter: Any = session.get_adapter(server.url)
        adapter.poolmanager.pool_classes_by_scheme = {"http": Pool}
        response = session.get(server.url)

    return name == "urlopen" and given[0] is response.request.headers


@canary("urllib3", "transport/_connection.py", "HTTPConnection.request")
@canary("http.client", "transport/_connection.py", "HTTPConnection.send")
@canary("http.client", "transport/_connection.py", "HTTPConnection.endheaders")
@canary("urllib3", "transport/_connection.py", "HTTPConnection.putheader")
def is_of_its_own_module(name: str, server: FaultServer) -> bool:
    """Where it is not, we take it for other people's code."""
    module = http.client if name in ("send", "endheaders") else urllib3.connection
    method: Any = getattr(urllib3.connection.HTTPConnection, name)

    return method.__globals__ is vars(module)


@canary("urllib3", "transport/_pool.py", "HTTPConnectionPool.block")
@canary("urllib3", "transport/_warm.py", "HTTPConnectionPool.proxy_config")
def is_what_the_pool_was_given(name: str, server: FaultServer) -> bool:
    """An attribute as the argument; the second comes from the manager of a proxy."""
    given = object()
    known: dict[str, Any] = {name if name == "block" else f"_{name}": given}

    return getattr(urllib3.HTTPConnectionPool("127.0.0.1", **known), name) is given


@canary("urllib3", "transport/_pool.py", "PoolManager.pool_classes_by_scheme")
def decides_the_class_of_pools(name: str, server: FaultServer) -> bool:
    """Of one manager, where its attribute replaces the global one."""
    made = type("Made", (urllib3.HTTPConnectionPool,), {})
    with urllib3.PoolManager() as manager:
        setattr(manager, name, {**getattr(manager, name), "http": made})

        return type(manager.connection_from_url("http://127.0.0.1")) is made


@canary("urllib3", "transport/_adapter.py", "PoolManager.connection_pool_kw")
def is_what_pools_are_made_with(name: str, server: FaultServer) -> bool:
    """A dict that may be replaced."""
    with urllib3.PoolManager() as manager:
        setattr(manager, name, {**getattr(manager, name), "maxsize": 3})
        waiting: Any = manager.connection_from_url("http://127.0.0.1").pool

        return bool(waiting.maxsize == 3)


@canary("urllib3", "transport/_pool.py", "RecentlyUsedContainer.dispose_func")
def is_told_of_a_forgotten_pool(name: str, server: FaultServer) -> bool:
    """Before 2.0, urllib3 closed pools so."""
    told: list[object] = []
    with urllib3.PoolManager(num_pools=1) as manager:
        setattr(manager.pools, name, told.append)
        first = manager.connection_from_url("http://127.0.0.1:1")
        manager.connection_from_url("http://127.0.0.1:2")

        return told == [first]


@canary("urllib3", "transport/_adapter.py", "RecentlyUsedContainer._container")
def has_the_pools_by_key(name: str, server: FaultServer) -> bool:
    """A dict behind the one that notes each look."""
    with urllib3.PoolManager() as manager:
        pool = manager.connection_from_url("http://127.0.0.1")
        ((key, known),) = getattr(manager.pools, name).items()

        return known is pool and manager.pools.get(key) is pool


# -- urllib3: connections and responses -----------------------------------------------------------


@canary(
    "urllib3",
    "transport/_connection.py",
    "HTTPConnection._new_conn",
    "HTTPConnection.is_connected",
    "HTTPConnection.response_class",
)
def is_asked_of_a_connection(name: str, server: FaultServer) -> bool:
    """The first where it dials, the second where it is used again, the third for each head."""
    asked = set()

    class Connection(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            asked.add("_new_conn")
            return super()._new_conn()

        @property
        def is_connected(self) -> bool:
            asked.add("is_connected")
            return super().is_connected

        def response_class(  # type: ignore[override]
            self, sock: Any, *args: Any, **kwargs: Any
        ) -> Any:
            asked.add("response_class")
            assert (sock, args, kwargs) == (self.sock, (), {"method": "GET"})
            return http.client.HTTPResponse(sock, **kwargs)

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    with answer(server, Pool) as response:
        response.read()
        response._pool.request("GET", "/")

    return name in asked


@canary("urllib3", "transport/dial/_urllib3.py", "HTTPConnection._dns_host")
def is_the_name_to_resolve(name: str, server: FaultServer) -> bool:
    """With the dot that tells the resolver not to search."""
    return bool(getattr(urllib3.connection.HTTPConnection("a.example."), name) == "a.example.")


@canary(
    "urllib3",
    "transport/dial/_urllib3.py",
    "HTTPConnection.socket_options",
    "HTTPConnection.source_address",
)
def is_what_the_connection_was_given(name: str, server: FaultServer) -> bool:
    """An attribute as the argument."""
    given: Any = [(1, 2, 3)] if name == "socket_options" else ("127.0.0.1", 0)

    return bool(
        getattr(urllib3.connection.HTTPConnection("127.0.0.1", **{name: given}), name) == given
    )


@canary("urllib3", "transport/dial/_replaced.py", "util.connection.create_connection")
def is_what_dials(name: str, server: FaultServer) -> bool:
    """Looked up when it is needed; written in the module by which we know it."""
    home: Any = urllib3.util.connection
    dialled, real = [], getattr(home, name)

    def dial_instead(*given: Any, **more: Any) -> Any:
        dialled.append(1)
        return real(*given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(home, name, dial_instead)
        with answer(server):
            pass
    dial: Any = urllib3.connection.HTTPConnection._new_conn
    is_here = dial.__globals__ is vars(urllib3.connection)

    return dialled == [1] and is_here and real.__globals__ is vars(home)


@canary("urllib3", "transport/dial/_addresses.py", "util.connection.allowed_gai_family")
def is_a_family(name: str, server: FaultServer) -> bool:
    """Users who want IPv4 alone replace it."""
    return getattr(urllib3.util.connection, name)() in (socket.AF_UNSPEC, socket.AF_INET)


_OF_FILES = ("ca_certs", "ca_cert_dir", "cert_file", "key_file")
_OF_TLS = (
    *("cert_reqs", "ca_cert_data", "key_password", "ssl_context", "ssl_version"),
    *("ssl_minimum_version", "ssl_maximum_version", "assert_hostname", "assert_fingerprint"),
    "proxy_config",
)


@canary(
    "urllib3",
    "transport/dial/_tls.py",
    *(f"HTTPSConnection.{each}" for each in (*_OF_FILES, *_OF_TLS)),
)
def is_set_by_the_constructor(name: str, server: FaultServer) -> bool:
    """We read and write it on one connection."""
    return name in vars(urllib3.connection.HTTPSConnection("127.0.0.1"))


@canary(
    "urllib3",
    "transport/dial/_tls.py",
    *(f"ProxyConfig.{each}" for each in ("ssl_context", "assert_hostname", "assert_fingerprint")),
)
def is_of_the_proxys_own_tls(name: str, server: FaultServer) -> bool:
    """In a named tuple, which we copy with another context."""
    return name in urllib3.connection.ProxyConfig._fields


@canary("urllib3", "transport/dial/_tls.py", "util.ssl_.ALPN_PROTOCOLS")
def is_what_each_dial_offers(name: str, server: FaultServer) -> bool:
    """We set it once for each context, and hide the method from urllib3."""
    offered: list[object] = []
    context = lenient()
    context.set_alpn_protocols = offered.append  # type: ignore[method-assign,assignment]
    context.sslsocket_class = type("Unshaken", (ssl.SSLSocket,), {"do_handshake": _leave})
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    with ours, theirs, contextlib.suppress(_Left):
        urllib3.util.ssl_.ssl_wrap_socket(ours, ssl_context=context)

    return offered == [getattr(urllib3.util.ssl_, name)]


@canary("urllib3", "transport/dial/_tls.py", "util.ssl_.resolve_cert_reqs")
def tells_the_mode(name: str, server: FaultServer) -> bool:
    """In all the forms that requests gives."""
    resolve = getattr(urllib3.util.ssl_, name)
    modes = [resolve(each) for each in (None, "CERT_NONE", "CERT_REQUIRED")]

    return modes == [ssl.CERT_REQUIRED, ssl.CERT_NONE, ssl.CERT_REQUIRED]


@canary("urllib3", "transport/_warm.py", "util.proxy.connection_requires_http_tunnel")
def asks_for_a_tunnel(name: str, server: FaultServer) -> bool:
    """For https through a proxy."""
    proxy = urllib3.util.parse_url("http://127.0.0.1:3128")
    asks = getattr(urllib3.util.proxy, name)
    needs = [asks(proxy, None, each) for each in ("https", "http")]

    return needs == [True, False]


@canary("urllib3", "stream/_socket_body.py", "HTTPResponse._original_response", "HTTPResponse._fp")
def is_the_response_of_http_client(name: str, server: FaultServer) -> bool:
    """The one, until somebody puts a file of their own in its place."""
    with answer(server) as response:
        return type(getattr(response, name)) is http.client.HTTPResponse


@canary(
    "urllib3", "stream/_socket_body.py", "HTTPResponse._decoded_buffer", "HTTPResponse._decoder"
)
def holds_what_was_read_for_nobody(name: str, server: FaultServer) -> bool:
    """The first has the decoded bytes.

    Since 2.6, bytes beyond the limit stay in the second, which says so.
    """
    server.script(respond(b"some text" * 1000, gzip=True))
    with answer(server) as response:
        read = len(response.read(4000, decode_content=True))
        decoded = len(response._decoded_buffer)
        has_more = getattr(response._decoder, "has_unconsumed_tail", False)

        return (read, decoded + read < 9000) == (4000, has_more) and hasattr(response, name)


@canary("urllib3", "stream/_socket_body.py", "HTTPResponse._fp_bytes_read")
def is_what_tell_returns(name: str, server: FaultServer) -> bool:
    """The bytes of the body that have been read."""
    server.script(respond(b"0123456789"))
    with answer(server) as response:
        response.read(4)

        return bool(getattr(response, name) == response.tell() == 4)


@canary("urllib3", "stream/_socket_body.py", "HTTPResponse.chunk_left")
def is_of_urllib3s_own_chunks(name: str, server: FaultServer) -> bool:
    """It is the number of unread bytes of a chunk; None between two."""
    server.script(respond(b"12345", framing="chunked"))
    with answer(server) as response:
        chunked = response.chunked, getattr(response, name)
        response._fp.fp.peek()
        response._update_chunk_length()

        return chunked == (True, None) and bool(getattr(response, name) == 5)


@canary("urllib3", "stream/_faults.py", "HTTPResponse._pool")
def is_the_pool_that_gave_it(name: str, server: FaultServer) -> bool:
    """Errors name it."""
    with answer(server) as response:
        return isinstance(getattr(response, name), urllib3.HTTPConnectionPool)


@canary("urllib3", "stream/_coding.py", "HTTPResponse.CONTENT_DECODERS")
def names_the_codings(name: str, server: FaultServer) -> bool:
    """In lower case."""
    return {"gzip", "x-gzip", "deflate"} <= set(getattr(urllib3.HTTPResponse, name))


@canary("urllib3", "call/_timeouts.py", "Timeout._connect", "Timeout._read")
def is_the_limit_as_it_was_given(name: str, server: FaultServer) -> bool:
    """The public properties return the rest of the total, or raise."""
    given = {"_connect": 1.5, "_read": urllib3.Timeout.DEFAULT_TIMEOUT}

    return getattr(urllib3.Timeout(total=9, connect=1.5), name) is given[name]


# -- requests -------------------------------------------------------------------------------------


@canary("requests", "stream/_response.py", "Response._content", "Response._content_consumed")
def is_false_until_the_body_was_read(name: str, server: FaultServer) -> bool:
    """Then the bytes, and True."""
    with requests.Session() as session:
        response = session.get(server.url, stream=True)
        before = getattr(response, name)
        content = response.content

        return before is False and getattr(response, name) in (content, True)


@canary("requests", "stream/_response.py", "Response.__attrs__")
@canary("requests", "adapter/_adapter.py", "HTTPAdapter.__attrs__")
def names_what_is_pickled(name: str, server: FaultServer) -> bool:
    """We add to it."""
    known = {"status_code", "headers"} <= set(getattr(requests.Response, name))

    return known and "_pool_connections" in getattr(requests.adapters.HTTPAdapter, name)


@canary("requests", "transport/_adapter.py", "HTTPAdapter._pool_connections")
def is_how_many_pools_are_kept(name: str, server: FaultServer) -> bool:
    """It is the number that the caller gave."""
    with contextlib.closing(requests.adapters.HTTPAdapter(pool_connections=3)) as adapter:
        return bool(getattr(adapter, name) == 3)


@canary("requests", "transport/_adapter.py", "HTTPAdapter.poolmanager", "HTTPAdapter.proxy_manager")
def has_all_managers(name: str, server: FaultServer) -> bool:
    """One for direct connections, the others by the URL of their proxy."""
    with contextlib.closing(requests.adapters.HTTPAdapter()) as adapter:
        made = adapter.proxy_manager_for("http://127.0.0.1:3128")
        known = {"poolmanager": urllib3.PoolManager, "proxy_manager": dict}[name]
        managers = adapter.proxy_manager.values()

        return isinstance(getattr(adapter, name), known) and list(managers) == [made]


@canary("requests", "transport/dial/_tls.py", "adapters._preloaded_ssl_context")
def is_no_wish_of_the_callers(name: str, server: FaultServer) -> bool:
    """A pool with verify=True has no context, or this one, which releases up to 2.32.3 have."""
    request = requests.Request("GET", "https://127.0.0.1").prepare()
    with contextlib.closing(requests.adapters.HTTPAdapter()) as adapter:
        pool: Any = adapter.get_connection_with_tls_context(request, True)
        context = pool.conn_kw.get("ssl_context")

    return context is None or context is getattr(requests.adapters, name)


@canary("runpy", "cli/run/_program.py", "_run_module_as_main")
def runs_what_python_runs(name: str, server: FaultServer) -> bool:
    """It runs a module by name, or, with the arguments unchanged, the content of a directory."""
    return list(inspect.signature(getattr(runpy, name)).parameters) == ["mod_name", "alter_argv"]


@canary("requests", "retry/_replayable.py", "PreparedRequest._body_position")
def is_where_the_body_began(name: str, server: FaultServer) -> bool:
    """In a file that was read in part."""
    body = io.BytesIO(b"12345")
    body.seek(2)
    request = requests.Request("POST", server.url, data=body).prepare()

    return bool(getattr(request, name) == 2)


@canary("requests", "retry/_replayable.py", "utils.rewind_body")
def goes_back_to_where_the_body_began(name: str, server: FaultServer) -> bool:
    """For a redirect, requests does so."""
    body = io.BytesIO(b"12345")
    request = requests.Request("POST", server.url, data=body).prepare()
    body.read()
    getattr(requests.utils, name)(request)

    return body.tell() == 0


@canary("requests", "transport/_adapter.py", "utils.select_proxy")
def chooses_the_proxy(name: str, server: FaultServer) -> bool:
    """By scheme and host."""
    select = getattr(requests.utils, name)

    return bool(select("http://127.0.0.1/a", {"http": "http://proxy"}) == "http://proxy")


# -- Python ---------------------------------------------------------------------------------------


_OF_A_HEAD = ("code", "status", "reason", "version", "headers", "msg", "will_close", "chunk_left")


@canary(
    "http.client",
    "transport/_raw.py",
    *(f"HTTPResponse.{each}" for each in ("begin", "chunked", "length", *_OF_A_HEAD)),
)
def sets_the_fields_that_we_set(name: str, server: FaultServer) -> bool:
    """All of them, and no other: we do it ourselves after a head that we have parsed."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    response: Any = http.client.HTTPResponse(HeadOnly(head))  # type: ignore[arg-type]
    before = dict(vars(response))
    response.begin()
    changed = {key for key, value in vars(response).items() if before.get(key) != value}

    return name in {*changed, "begin"} and changed == {"chunked", "length", *_OF_A_HEAD}


@canary("http.client", "transport/_connection.py", "HTTPConnection._output")
def it_takes_a_line_of_a_head(name: str, server: FaultServer) -> bool:
    """Without the end of the line."""
    with contextlib.closing(http.client.HTTPConnection(server.url.removeprefix("http://"))) as conn:
        conn.putrequest("GET", "/")
        getattr(conn, name)(b"X-Line: whole")
        conn.endheaders()
        conn.getresponse().read()

    return server.requests[-1].header("X-Line") == "whole"


@canary("http.client", "transport/_raw.py", "HTTPResponse._read_status")
def is_read_until_it_is_final(name: str, server: FaultServer) -> bool:
    """It is read as long as it says 100."""
    lines = []

    class Told(http.client.HTTPResponse):
        def _read_status(self) -> Any:
            # typeshed leaves this method out.
            lines.append(line := super()._read_status())  # type: ignore[misc]
            return line

    response = parsed(b"HTTP/1.1 100 A\r\n\r\nHTTP/1.1 204 B\r\n\r\n", Told)
    read = [(version, status) for version, status, _ in lines]

    return read == [("HTTP/1.1", 100), ("HTTP/1.1", 204)] and bool(response.status == 204)


@canary("http.client", "transport/_raw.py", "HTTPResponse._check_close")
def tells_whether_the_connection_ends(name: str, server: FaultServer) -> bool:
    """By the fields of the head."""
    heads = (b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")

    return [bool(getattr(parsed(head), name)()) for head in heads] == [False, True]


@canary("http.client", "transport/_raw.py", "HTTPResponse._method")
def is_the_method_of_the_request(name: str, server: FaultServer) -> bool:
    """An answer to HEAD has no body."""
    return bool(getattr(parsed(b"HTTP/1.1 200 OK\r\n\r\n"), name) == "GET")


@canary("http.client", "transport/_raw.py", "parse_headers")
def is_looked_up_for_each_head(name: str, server: FaultServer) -> bool:
    """So those that replace it see all heads; a plain function of this module."""
    seen, real = [], getattr(http.client, name)

    def parse(file: Any) -> Any:
        seen.append(1)
        return real(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http.client, name, parse)
        parsed(b"HTTP/1.1 200 OK\r\n\r\n")

    return seen == [1] and real.__globals__ is vars(http.client)


@canary("http.client", "stream/_socket_body.py", "HTTPResponse.fp")
def is_none_after_the_end(name: str, server: FaultServer) -> bool:
    """A buffered file until then."""
    response = parsed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
    before = getattr(response, name)
    response.read()

    return isinstance(before, io.BufferedReader) and getattr(response, name) is None


@canary("http.client", "transport/_raw.py", "HTTPResponse.debuglevel")
def is_zero_unless_somebody_looks(name: str, server: FaultServer) -> bool:
    """With another value, http.client prints every line that it reads."""
    return bool(getattr(parsed(b"HTTP/1.1 200 OK\r\n\r\n"), name) == 0)


@canary("email.message", "transport/_head.py", "Message.set_raw")
def adds_a_field_unparsed(name: str, server: FaultServer) -> bool:
    """The parser of the email package uses it so."""
    fields: Any = http.client.HTTPMessage()
    getattr(fields, name)("A", "1")

    return isinstance(fields, email.message.Message) and fields.items() == [("A", "1")]


@canary("ssl", "transport/dial/_handshake.py", "SSLContext.sslsocket_class")
def shakes_hands_before_it_is_returned(name: str, server: FaultServer) -> bool:
    """``wrap_socket()`` makes one of this class, and calls its ``do_handshake()``."""
    context = lenient()
    setattr(context, name, type("Unshaken", (ssl.SSLSocket,), {"do_handshake": _leave}))
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    with ours, theirs, pytest.raises(_Left):
        context.wrap_socket(ours)

    return True


@canary("ssl", "transport/dial/_tls.py", "SSLContext.set_alpn_protocols")
def can_be_hidden_in_one_context(name: str, server: FaultServer) -> bool:
    """By an attribute of the instance."""
    context = lenient()
    setattr(context, name, print)

    return getattr(context, name) is print and hasattr(ssl.SSLContext, name)


@canary("ssl", "transport/_socket.py", "SSLSocket.recv")
def leaves_the_tcp_connection_below_in_reach(name: str, server: FaultServer) -> bool:
    """The method of its base peeks at the incoming bytes, undeciphered."""
    with tls_socket(lenient()) as (tls, theirs):
        theirs.sendall(b"12")

        return bool(getattr(socket.socket, name)(tls, 1, socket.MSG_PEEK) == b"1")


@canary("socket", "transport/dial/_replaced.py", "socket.connect")
def is_of_the_base_in_c(name: str, server: FaultServer) -> bool:
    """Any other function is a replacement by somebody."""
    return getattr(socket.socket, name) is getattr(_socket.socket, name)


@canary("_socket", "call/_token.py", "socket.shutdown")
def wakes_a_tls_reader(name: str, server: FaultServer) -> bool:
    """Past ``SSLSocket.shutdown()``, which would drop the TLS object."""
    with tls_socket(lenient()) as (tls, _):
        getattr(_socket.socket, name)(tls, socket.SHUT_RDWR)

        return getattr(tls, "_sslobj", None) is not None


@canary("socket", "stream/_socket_body.py", "SocketIO._sock")
def is_the_socket_of_a_file(name: str, server: FaultServer) -> bool:
    """Below the buffer that http.client reads through."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as file:
        return getattr(file.raw, name) is ours


@canary("queue", "transport/_pool.py", "Queue.__init__")
def empties_a_queue_in_place(name: str, server: FaultServer) -> bool:
    """Its locks are new then: a forked child may find them held."""
    waiting: queue.LifoQueue[int] = queue.LifoQueue(2)
    waiting.put(1)
    lock = waiting.mutex
    getattr(type(waiting), name)(waiting, 2)

    return waiting.empty() and waiting.mutex is not lock and waiting.maxsize == 2


@canary("json", "stream/events/_sse.py", "JSONDecoder.scan_once")
def reads_one_value(name: str, server: FaultServer) -> bool:
    """From a place on; returns it, and where it ends."""
    scan = getattr(json.JSONDecoder(), name)

    return bool(scan('{"a": 1} ', 0) == ({"a": 1}, 8))


@canary("sys", "adapter/_environment.py", "_getframe")
def is_the_callers_frame(name: str, server: FaultServer) -> bool:
    """Warnings are shown for the line that has made the adapter."""
    return bool(getattr(sys, name)(0).f_globals["__name__"] == __name__)


@canary("threading", "diagnosis/_look.py", "_active")
def has_the_threads_by_their_numbers(name: str, server: FaultServer) -> bool:
    """And is read without the lock that ``threading.enumerate()`` takes."""
    return getattr(threading, name)[threading.get_ident()] is threading.current_thread()


@canary("socks", "call/_causes.py", "ProxyError.socket_err")
def is_the_error_of_the_socket(name: str, server: FaultServer) -> bool:
    """PySocks links the two in no other way."""
    socks = pytest.importorskip("socks")
    error = OSError()

    return getattr(socks.ProxyError("", error), name) is error


# -- the canaries themselves ----------------------------------------------------------------------


@pytest.mark.parametrize("used", CANARIES, ids=lambda used: f"{used.library}:{used.name}")
def test_a_name_of_another_library_is_as_we_use_it(used: Canary, fault_server: FaultServer) -> None:
    """Nobody has promised it. A release that changes it fails here, and names the file to mend."""
    assert used.complaint(fault_server) is None


def test_the_page_on_architecture_lists_what_we_use() -> None:
    """An update of a library begins with the page, not with the tests."""
    told = []
    for library, names, file in ROW.findall(PAGE.read_text("utf-8")):
        owner = ""
        for above, name, alone in NAME.findall(names):
            owner = above or owner  # a name that begins with a dot is of the same class
            told.append(Canary(library, alone or f"{owner}.{name}", file))

    assert sorted(told) == sorted(CANARIES)


def test_our_files_name_what_they_use() -> None:
    """A row for an unused name would keep others from removing it."""
    texts = {each.file: (ROOT / each.file).read_text("utf-8") for each in CANARIES}

    assert [each for each in CANARIES if each.name.rpartition(".")[2] not in texts[each.file]] == []


def test_no_other_private_name_is_used() -> None:
    """The check reads the source, and takes the names that we do not define ourselves."""
    nodes = [node for module in read() for node in ast.walk(module.tree)]
    used = set(_private_names(nodes)) - set(_own_names(nodes)) - DOCUMENTED

    assert used - {each.name.rpartition(".")[2] for each in CANARIES} == set()


def test_a_complaint_names_the_library_and_our_file(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader of a failed update knows nothing else."""
    (used,) = (each for each in CANARIES if each.name == "Message.set_raw")
    monkeypatch.delattr(email.message.Message, "set_raw")

    complaint = used.complaint(fault_server) or ""

    assert complaint.startswith("transport/_head.py needs Message.set_raw of email.message, of Py")
    assert "AttributeError: 'HTTPMessage' object has no attribute 'set_raw'" in complaint


def _private_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        name: object = None
        if isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            name = getattr(node.args[1], "value", None)
        if isinstance(name, str) and name.startswith("_") and not name.endswith("__"):
            yield name


def _own_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
