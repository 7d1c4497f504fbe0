"""Who visits many hosts: what is remembered of them, and for how long."""

from __future__ import annotations

import contextlib
import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import requests
from fake_clock import adapter_of, mounted
from proxies import SOCKS5Proxy

from resilient_requests import ResilientAdapter
from resilient_requests.call import Origin
from resilient_requests.testing import respond

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient_requests.testing import FaultServer

    Resolve = Callable[[dict[str, FaultServer]], None]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Has each name lead to its server, at whatever port it is dialled."""

    def use(servers: dict[str, FaultServer]) -> None:
        def answer(host: str, port: int, *args: object, **kwargs: object) -> list[Any]:
            address = ("127.0.0.1", int(servers[host].url.rpartition(":")[2]))
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]

        monkeypatch.setattr(socket, "getaddrinfo", answer)

    return use


class FakePool:
    """A pool of one place, without connections."""

    def __init__(self, number: int) -> None:
        self.place = Origin("http", f"{number}.example", 80)
        self.idle: dict[Any, None] = {}

    def close_idle(self) -> int:
        """Close none."""
        return 0

    def after_fork(self) -> None:
        """Forget none."""


def test_who_visits_many_hosts_once_does_not_remember_them_all() -> None:
    """But those with a pool, those that came last, and the counts of all."""
    register = ResilientAdapter().register
    kept = FakePool(0)
    register.add_pool(kept)
    for number in range(1, 2000):
        register.add_pool(FakePool(number))
        register.retried(Origin("http", f"{number}.example", 80))
    stats = register.stats()

    assert len(stats.origins) <= 514
    assert {str(kept.place), "http://1999.example:80", "*"} <= set(stats.origins)
    assert stats.retries == 1999


def test_a_host_that_is_visited_again_is_remembered_longer() -> None:
    """What is forgotten first is what was not visited for the longest time."""
    register = ResilientAdapter().register
    for number in range(2000):
        register.add_pool(FakePool(number))
        register.add_pool(FakePool(7))

    assert "http://7.example:80" in register.stats().origins


def test_connections_of_a_forgotten_origin_stay_retired() -> None:
    """Whoever still holds one, and wherever it returns to."""
    register = ResilientAdapter().register
    place = FakePool(0).place
    conn: Any = SimpleNamespace(
        sock=object(),
        pid=os.getpid(),
        place=place,
        generation=0,
        hint=None,
        born=None,
        idle_since=register.clock(),
    )
    register.add_pool(FakePool(0))
    fresh = register.reason_to_close(conn, register.clock())
    register.retire(place, 0, "reset")
    for number in range(1, 2000):
        register.add_pool(FakePool(number))
    assert str(place) not in register.stats().origins
    register.add_pool(FakePool(0))

    assert fresh is None
    assert register.reason_to_close(conn, register.clock()) == "retired"
    conn.generation = register.generation
    assert register.reason_to_close(conn, register.clock()) is None


def test_the_budgets_of_many_origins_are_not_all_kept() -> None:
    """A full one says nothing; of those that were drawn on, the oldest go."""
    adapter = ResilientAdapter()
    for number in range(2000):
        bucket = adapter.bucket(f"http://{number}.example:80", create=True)
        assert bucket is not None
        if number % 2:
            assert bucket.withdraw(1, adapter._state.clock().boot)

    assert len(adapter._buckets) <= 512
    assert adapter.bucket("http://1999.example:80", create=False) is bucket


# -- which pools are kept -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_proxied", [False, True], ids=["direct", "socks"])
def test_a_host_that_is_used_most_keeps_its_pool(
    fault_server_factory: Callable[..., FaultServer], is_proxied: bool
) -> None:
    """Of more hosts than pools those go that were not used for the longest time, as in urllib3."""
    hot, *others = (fault_server_factory() for _ in range(7))
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(mounted(pool_connections=3))
        if is_proxied:
            session.proxies = {"http": stack.enter_context(SOCKS5Proxy()).url}
        for number in range(60):
            session.get(hot.url)
            session.get(others[number % 6].url)

    assert hot.accepted == 1
    assert [server.accepted for server in others] == [10] * 6


def test_a_host_whose_pool_had_to_go_gets_another(
    fault_server_factory: Callable[..., FaultServer],
) -> None:
    """And it is one of the pools that are kept then, whatever the look-up remembers."""
    one, other = (fault_server_factory() for _ in range(2))
    with mounted(pool_connections=1) as session:
        for _ in range(2):
            session.get(one.url)
            session.get(other.url)
        session.get(other.url)
        kept = [key.key_port for key in adapter_of(session).poolmanager.pools.keys()]  # noqa: SIM118  # no dict

        assert (one.accepted, other.accepted, kept) == (2, 2, [other.port])
        adapter_of(session).poolmanager.clear()
        session.get(other.url)
        assert other.accepted == 3


# -- which server is asked ------------------------------------------------------------------------------------------


@pytest.fixture
def named(
    fault_server_factory: Callable[..., FaultServer], resolve: Resolve
) -> dict[str, FaultServer]:
    """Servers whose names differ in their last letter; each answers with its name."""
    servers = {
        name: fault_server_factory() for name in ("example.co", "example.com", "example.cow")
    }
    for name, server in servers.items():
        server.default = respond(name.encode())
    resolve(servers)
    return servers


def test_a_redirect_to_a_bare_host_asks_that_host(named: dict[str, FaultServer]) -> None:
    """As a Location it needs no slash, and requests adds none."""
    named["example.co"].route(
        "/moved", respond(status=302, headers={"Location": "http://example.com"})
    )
    with mounted() as session:
        answers = [
            session.get(url).text for url in ("http://example.co/", "http://example.co/moved")
        ]

    assert answers == ["example.co", "example.com"]


@pytest.mark.parametrize("rest", ["", "/", "?a=/", "?a=@x:1/", "#a/", "#@x", "/@x:1/?b=http://x/"])
def test_each_host_has_connections_of_its_own(named: dict[str, FaultServer], rest: str) -> None:
    """Whatever follows it, and whoever has written the URL."""
    answers = []
    with mounted() as session:
        for host in (*named, *named, "me:secret@example.com"):
            request = requests.Request("GET", "http://other.example/").prepare()
            request.url = f"http://{host}{rest}"
            answers.append(session.send(request).text)

    assert answers == [*named, *named, "example.com"]
    assert [server.accepted for server in named.values()] == [1, 1, 1]


def test_many_questions_to_a_bare_host_are_one_pool(named: dict[str, FaultServer]) -> None:
    """A look-up that kept each query would grow with every call."""
    with mounted() as session:
        for number in range(5):
            request = requests.Request("GET", "http://other.example/").prepare()
            request.url = f"http://example.com?{number}"
            session.send(request)

        assert len(adapter_of(session)._pools) == 1


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://example.com", "http://example.com:80"),
        ("HTTPS://example.com/", "https://example.com:443"),
        ("https://me:secret@example.com:8443/path", "https://example.com:8443"),
        ("http://example.com/@other:1/", "http://example.com:80"),
        ("http://example.com?mail=me@other:1", "http://example.com:80"),
        ("http://example.com#me@other:1", "http://example.com:80"),
        ("http://me@example.com?at=http://other/", "http://example.com:80"),
        ("http://[::1]?a", "http://[::1]:80"),
        ("http://[::1]:8080#a", "http://[::1]:8080"),
    ],
)
def test_the_origin_ends_where_the_host_does(url: str, origin: str) -> None:
    """Nothing of a query may reach logs and events, and none may name another budget."""
    assert Origin.of(url) == origin
