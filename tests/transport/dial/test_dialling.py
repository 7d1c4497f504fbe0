"""An adapter's dials: memory, reports, and the parts that others replace."""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import resource
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from children import child
from clients import Client, Running, in_time, inside, until
from listeners import info, refusing, resolving, swallowing
from proxies import HTTPProxy, SOCKS5Proxy

from resilient_requests import CancelScope, ConnectionOpened, ResilientAdapter
from resilient_requests.call import Attempt, CancelToken, Limits, current_attempt
from resilient_requests.exceptions import Cancelled
from resilient_requests.testing import FaultServer, reset, respond, silence
from resilient_requests.transport.dial._handshake import duplicate, watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resilient_requests.transport.dial._addresses import AddressInfo

URL = "http://name.test/"
SUPPORT = Path(__file__).resolve().parents[2] / "support"


@pytest.fixture
def dead() -> Iterator[AddressInfo]:
    """An address that swallows every dial."""
    with swallowing("127.0.0.2") as made:
        yield made.info


def at(server: FaultServer) -> AddressInfo:
    """The address of the server."""
    return info(server.host, server.port)


def fds() -> list[str]:
    """The descriptors of this process, without the one with which they are read."""
    found = os.listdir("/proc/self/fd")  # noqa: PTH208
    return [each for each in found if os.path.lexists(f"/proc/self/fd/{each}")]


def files() -> list[str]:
    """The files behind the descriptors; a number alone may belong to another file by now."""
    found = []
    for each in fds():
        with contextlib.suppress(FileNotFoundError):  # a thread has closed it
            found.append(os.readlink(f"/proc/self/fd/{each}"))  # noqa: PTH115
    return found


def timed(call: Any) -> float:
    """The seconds that a call takes."""
    since = time.monotonic()
    call()
    return time.monotonic() - since


# -- memory and reports --------------------------------------------------------------------------


@pytest.mark.slow
def test_later_dials_begin_with_the_address_that_worked(
    fault_server: FaultServer, dead: AddressInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead one costs its quarter of a second once, and not at every dial."""
    fault_server.default = respond(b"ok", headers={"Connection": "close"})
    resolving(monkeypatch, name=[dead, at(fault_server)])
    with Client(URL) as client:
        first, *later = [timed(client.get) for _ in range(4)]
        opened = client.told(ConnectionOpened)
        stats = client.adapter.stats().origins["http://name.test:80"]

    assert in_time(first, 0.35) >= 0.25
    in_time(max(later), 0.1)
    assert [event.tries for event in opened] == [2, 1, 1, 1]
    assert {event.family for event in opened} == {"IPv4"}
    assert stats.address == "127.0.0.1"
    assert "address=127.0.0.1" in str(stats)


@pytest.mark.parametrize("forgets", ["failure", "rotate"])
def test_a_change_of_the_path_forgets_the_address(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, forgets: str
) -> None:
    """The address that worked in another network may be the slow one in this."""
    with refusing("127.0.0.2") as refused:
        resolving(monkeypatch, name=[refused, at(fault_server)])
        with Client(URL, policy={"max_retries": 0}) as client:
            client.get()
            if forgets == "rotate":
                client.adapter.rotate()
            else:
                fault_server.script(reset())
                with pytest.raises(requests.ConnectionError):
                    client.post()
            address = client.adapter.stats().origins["http://name.test:80"].address
            client.get()
            tries = [event.tries for event in client.told(ConnectionOpened)]

    assert address is None
    assert tries[-1] == 2


def test_the_family_is_that_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv6 first, as resolvers sort where there is a route."""
    with FaultServer() as four, refusing("::1") as six:
        resolving(monkeypatch, name=[six, at(four)], only=[at(four)])
        with Client(URL) as client:
            client.get()
            client.session.get("http://only.test/")
            told = [(event.family, event.tries) for event in client.told(ConnectionOpened)]

    assert told == [("IPv4", 2), ("IPv4", 1)]


def test_a_proxy_is_dialled_in_the_same_way(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name may have a dead address too."""
    with HTTPProxy() as proxy, refusing("127.0.0.2") as refused, Client(fault_server) as client:
        resolving(monkeypatch, proxy=[refused, info(proxy.host, proxy.port)])
        client.session.proxies = {"http": f"http://proxy.test:{proxy.port}"}
        response = client.get()
        tries = [event.tries for event in client.told(ConnectionOpened)]

    assert response.content == b"ok"
    assert tries == [2]


def test_a_dial_of_socks_is_told_without_figures(fault_server: FaultServer) -> None:
    """PySocks dials, and does not report its tries."""
    with SOCKS5Proxy() as proxy, Client(fault_server) as client:
        client.session.proxies = {"http": proxy.url}
        client.get()
        (event,) = client.told(ConnectionOpened)

    assert (event.family, event.tries) == (None, None)


# -- resolvers ----------------------------------------------------------------------------------


def test_a_resolver_that_returns_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may return something the next time, as one that has no data."""
    asked = resolving(monkeypatch, name=[])
    with Client(URL) as client, pytest.raises(requests.ConnectionError) as caught:
        client.get()

    assert "Failed to resolve 'name.test'" in str(caught.value)
    assert "the resolver returned no address" in str(caught.value)
    assert len(asked) == 3


def test_names_are_resolved_once_per_dial(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question may take seconds."""
    with refusing("127.0.0.2") as refused:
        asked = resolving(monkeypatch, name=[refused, at(fault_server)])
        with Client(URL) as client:
            client.get()

    assert asked == ["name.test"]


# -- the end of a dial ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cancel_ends_a_staggered_dial_and_leaves_no_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end comes at once, though several sockets are connecting.

    The fixture counts leftovers.
    """
    with swallowing("127.0.0.2") as one, swallowing("::1") as two:
        resolving(monkeypatch, name=[one.info, two.info])
        scope = CancelScope()
        with Client(URL) as client:
            before = len(fds())
            running = Running(inside(scope, client.post))
            until(lambda: len(fds()) == before + 2)
            since = time.monotonic()
            scope.cancel()
            running.seconds_to_end()
            seconds = time.monotonic() - since
            left = len(fds()) - before

    assert isinstance(running.error, Cancelled)
    in_time(seconds, 0.05)
    assert left == 0


class Own(ResilientAdapter):
    """With a TLS context of the caller's own, as pools with old ciphers have it."""

    context: ssl.SSLContext

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self.context)


def own_adapter(server: FaultServer) -> type[Own]:
    """A class whose context trusts the server."""
    context = ssl.create_default_context(cafile=server.ca_path)
    return type("Own", (Own,), {"context": context})


def test_a_handshake_in_a_context_of_others_is_ended_too(fault_server_tls: FaultServer) -> None:
    """Such a context tells nothing of its sockets, so a second descriptor stands by."""
    fault_server_tls.on_handshake(silence())
    scope = CancelScope()
    with requests.Session() as session:
        session.mount("https://", own_adapter(fault_server_tls)())
        running = Running(inside(scope, lambda: session.get(fault_server_tls.url)))
        until(lambda: fault_server_tls.accepted == 1)
        time.sleep(0.05)  # urllib3 loads the CA into such a context first
        scope.cancel()
        seconds = running.seconds_to_end()

    assert isinstance(running.error, Cancelled)
    in_time(seconds, 1.0)


def test_a_handshake_has_no_second_descriptor(fault_server_tls: FaultServer) -> None:
    """The peer sees the end of a connection only when all its descriptors are closed."""
    fault_server_tls.on_handshake(silence())
    scope = CancelScope()
    with Client(fault_server_tls) as client:
        running = Running(inside(scope, client.get))
        until(lambda: fault_server_tls.accepted == 1)
        time.sleep(0.1)  # until the handshake has begun
        sockets = [each for each in files() if each.startswith("socket:")]
        scope.cancel()
        running.seconds_to_end()

    assert len(set(sockets)) == len(sockets)


def test_a_handshake_that_does_not_begin_closes_its_socket(fault_server_tls: FaultServer) -> None:
    """The standard library closes it after an OSError only, and `Cancelled` is none."""
    context = watched(ssl.create_default_context(cafile=fault_server_tls.ca_path))
    token, none = CancelToken(), Limits(connect=None, write=None, response=None, idle=None)
    token.cancel()
    raw = socket.create_connection((fault_server_tls.host, fault_server_tls.port))
    opened = os.readlink(f"/proc/self/fd/{raw.fileno()}")  # noqa: PTH115
    with current_attempt(Attempt(token, 1, none)), pytest.raises(Cancelled):
        context.wrap_socket(raw, server_hostname="127.0.0.1")

    assert opened not in files()


# -- odd kernels and full machines --------------------------------------------------------------


def with_one_descriptor(work: Any) -> Any:
    """Run it where the process may open one more descriptor, and no second."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    fillers: list[int] = []
    most = max(map(int, fds())) + 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    with contextlib.suppress(OSError):
        while True:
            fillers.append(os.open(os.devnull, os.O_RDONLY))
    os.close(fillers.pop())
    return work()


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_a_process_with_one_descriptor_left_can_call(
    fault_server: FaultServer, fault_server_tls: FaultServer, kind: str
) -> None:
    """A dial needs a socket: no twin of it, no selector, no pair of sockets to be woken by."""
    server = fault_server if kind == "plain" else fault_server_tls

    def work() -> None:
        adapter = ResilientAdapter()
        with requests.Session() as session:
            session.mount(server.url, adapter)
            session.verify = server.ca_path or True
            assert session.get(server.url).content == b"ok"  # loads the CA
            adapter.close()
            status = with_one_descriptor(lambda: session.get(server.url).status_code)
            assert status == 200

    with child(work):
        pass


def test_a_handshake_that_nobody_could_end_goes_on() -> None:
    """Without a descriptor for the twin the connect limit applies, instead of an error."""

    def work() -> None:
        sock = with_one_descriptor(socket.socket)
        assert duplicate(sock) is None

    with child(work):
        pass


def test_the_limit_of_descriptors_is_named(fault_server: FaultServer) -> None:
    """The error keeps its class and its errno."""

    def work() -> None:
        with requests.Session() as session:
            adapter = ResilientAdapter(max_retries=0)
            session.mount("http://", adapter)
            session.get(fault_server.url)  # imports every module that it needs
            adapter.close()
            with_one_descriptor(lambda: os.open(os.devnull, os.O_RDONLY))
            with pytest.raises(requests.ConnectionError, match=r"\(ulimit -n\)") as caught:
                session.get(fault_server.url)
            cause = caught.value.args[0].reason.__cause__
            assert (type(cause), cause.errno) == (OSError, errno.EMFILE)

    with child(work):
        pass


@pytest.mark.parametrize("kind", ["direct", "http", "socks"])
def test_options_that_the_kernel_refuses_harm_nobody(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Proxies are covered, too, though PySocks knows nothing of such options."""

    class Old(socket.socket):
        def setsockopt(self, level: int, name: int, *value: Any) -> None:
            if level == socket.IPPROTO_TCP and name != socket.TCP_NODELAY:
                raise OSError(errno.ENOPROTOOPT, "Protocol not available")
            _socket.socket.setsockopt(self, level, name, *value)  # PySocks' is called so too

    with contextlib.ExitStack() as stack:
        client = stack.enter_context(Client(fault_server))
        if kind != "direct":
            proxy = stack.enter_context(HTTPProxy() if kind == "http" else SOCKS5Proxy())
            client.session.proxies = {"http": proxy.url}
        monkeypatch.setattr(socket, "socket", Old)
        if kind == "socks":
            socks = pytest.importorskip("socks")
            monkeypatch.setattr(socks.socksocket, "setsockopt", Old.setsockopt)
        assert client.get().content == b"ok"


# -- replacements by others ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("urllib3.util.connection", "create_connection"),
        ("urllib3.connection.HTTPConnection", "_new_conn"),
    ],
)
def test_what_was_replaced_before_our_import_dials(
    fault_server: FaultServer, place: str, name: str
) -> None:
    """A wrapper may even have the name of the wrapped function; "stock" is urllib3's own."""
    script = f"""
import functools, requests, urllib3.util.connection, urllib3.connection
asked, stock = [], {place}.{name}
@functools.wraps(stock)
def wrapped(*args, **kwargs):
    asked.append("{name}")
    return stock(*args, **kwargs)
{place}.{name} = wrapped
from resilient_requests import ResilientAdapter
session = requests.Session()
session.mount("http://", ResilientAdapter())
assert session.get("{fault_server.url}").content == b"ok"
print(*asked)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False
    )

    assert done.stdout.split() == [name], done.stderr


def test_a_dial_is_audited_as_urllib3_s_is(fault_server: FaultServer) -> None:
    """An audit hook cannot be removed: this one listens for as long as the test runs."""
    heard: list[Any] = []
    is_on = True

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if is_on and event == "http.client.connect":
            heard.append(args[1:])

    sys.addaudithook(hook)
    with Client(fault_server) as client:
        client.get()
    is_on = False

    assert heard == [(fault_server.host, fault_server.port)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_greenlets_dial_as_threads_do(
    fault_server: FaultServer, fault_server_tls: FaultServer, kind: str
) -> None:
    """Others run on while one dials, and a cancel by another greenlet ends it at once."""
    pytest.importorskip(kind, reason=f"needs {kind}")
    script = SUPPORT / "green_dial_script.py"
    fault_server_tls.on_handshake(silence())
    ports = str(fault_server.port), str(fault_server_tls.port)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), kind, *ports],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["passed", "cancelled", "handshake"], done.stderr
