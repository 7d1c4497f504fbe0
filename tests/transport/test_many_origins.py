"""Of many hosts the last ones are remembered, and each is asked on connections of its own."""

from __future__ import annotations

import contextlib
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import requests
from fake_clock import adapter_of, mounted
from proxies import SOCKS5Proxy

from resilient_requests import ResilientAdapter, RetryBudget
from resilient_requests.call import Origin
from resilient_requests.retry import OriginBudgets
from resilient_requests.testing import respond

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient_requests.testing import FaultServer
    from resilient_requests.transport import PoolState

    Resolve = Callable[[dict[str, FaultServer]], None]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Lets each name lead to its server, on every port."""

    def use(servers: dict[str, FaultServer]) -> None:
        def answer(host: str, port: int, *args: object, **kwargs: object) -> list[Any]:
            address = ("127.0.0.1", int(servers[host].url.rpartition(":")[2]))
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]

        monkeypatch.setattr(socket, "getaddrinfo", answer)

    return use


class FakePool:
    """A pool without connections."""

    def __init__(self, number: int) -> None:
        self.origin = Origin("http", f"{number}.example", 80)
        self.idle: dict[Any, None] = {}

    def close_idle(self) -> int:
        """Close none."""
        return 0

    def after_fork(self) -> None:
        """Forget none."""


@pytest.fixture
def state() -> PoolState:
    """The adapter's knowledge of its pools."""
    return ResilientAdapter()._state


def test_a_crawler_does_not_make_an_adapter_remember_all_hosts(state: PoolState) -> None:
    """It keeps those with a pool, those that came last, and the counts of all."""
    kept = FakePool(0)
    state.add_pool(kept)
    for number in range(1, 2000):
        state.add_pool(pool := FakePool(number))
        state.lease(pool.origin, 0).retried()
    stats = state.stats()

    assert len(stats.origins) <= 514
    assert {str(kept.origin), "http://1999.example:80", "*"} <= set(stats.origins)
    assert stats.retries == 1999


def test_a_host_that_is_visited_again_is_remembered_longer(state: PoolState) -> None:
    """The host that was not visited for the longest time is forgotten first."""
    for number in range(2000):
        state.add_pool(FakePool(number))
        state.add_pool(FakePool(7))

    assert "http://7.example:80" in state.stats().origins


def test_connections_of_a_forgotten_origin_stay_retired(state: PoolState) -> None:
    """A stream may hold one for hours, and return it then."""
    origin = FakePool(0).origin
    conn: Any = SimpleNamespace(
        sock=object(),
        origin=origin,
        generation=0,
        hint=None,
        born=None,
        idle_since=state.clock(),
    )
    state.add_pool(FakePool(0))
    fresh = state.reason_to_close(conn, state.clock())
    state.retire(origin, 0, "reset")
    for number in range(1, 2000):
        state.add_pool(FakePool(number))
    assert str(origin) not in state.stats().origins
    state.add_pool(FakePool(0))

    assert fresh is None
    assert state.reason_to_close(conn, state.clock()) == "retired"
    conn.generation = state.generation
    assert state.reason_to_close(conn, state.clock()) is None


def test_the_budgets_of_many_origins_are_not_all_kept() -> None:
    """A full one says nothing; of those that were drawn on, the oldest go."""
    budgets = OriginBudgets()
    for number in range(2000):
        bucket = budgets.bucket(f"http://{number}.example:80", RetryBudget(), 0.0)
        if number % 2:
            assert bucket.withdraw(1, 0.0)

    assert budgets.known("http://1999.example:80") is bucket
    kept = [each for each in range(2000) if budgets.known(f"http://{each}.example:80") is not None]
    assert len(kept) <= 512


# -- which pools are kept


@pytest.mark.parametrize("is_proxied", [False, True], ids=["direct", "socks"])
def test_a_host_that_is_used_most_keeps_its_pool(
    fault_server_factory: Callable[..., FaultServer], is_proxied: bool
) -> None:
    """The pools that were unused for the longest time go first, as in urllib3."""
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
    """The new pool is one of the kept pools, even if the look-up remembers the old one."""
    one, other = (fault_server_factory() for _ in range(2))
    with mounted(pool_connections=1) as session:
        for _ in range(2):
            session.get(one.url)
            session.get(other.url)
        session.get(other.url)
        pools = adapter_of(session).poolmanager.pools
        kept = [key.key_port for key in pools.keys()]  # noqa: SIM118  # it is no dict

        assert (one.accepted, other.accepted, kept) == (2, 2, [other.port])
        adapter_of(session).poolmanager.clear()
        session.get(other.url)
        assert other.accepted == 3


# -- which server is asked


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
    """A Location needs no slash, and requests adds none."""
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
    """That holds for any rest of the URL, and for user names in it."""
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

        assert len(adapter_of(session)._lookups) == 1


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
    assert str(Origin.of(url)) == origin
