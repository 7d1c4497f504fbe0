"""Forks in the middle of everything: no process hangs, and none gets the bytes of another.

``FORKS`` (of each of four kinds) and ``FORK_REQUESTS`` set how many; a long run has ``FORKS=1000
FORK_REQUESTS=10000``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from children import PATIENCE, child, forget_by_process_id
from fake_clock import adapter_of, ask, echoes, in_threads, mounted

from resilient_requests import StreamBroken, iter_events
from resilient_requests.testing import stream
from resilient_requests.transport._pool import RecyclingPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import requests

    from resilient_requests.testing import FaultServer

FORKS = int(os.environ.get("FORKS", "25"))
REQUESTS = int(os.environ.get("FORK_REQUESTS", "300"))

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork"),
    # Python 3.12 warns of the server's threads. The child uses none of them.
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
    pytest.mark.slow,
]


@pytest.fixture(params=["plain", "tls"])
def server(
    request: pytest.FixtureRequest, fault_server_factory: Callable[..., FaultServer]
) -> FaultServer:
    """A server that answers with the path of the request."""
    return echoes(fault_server_factory(tls=request.param == "tls"))


@pytest.fixture
def session(server: FaultServer) -> Iterator[requests.Session]:
    """A session that has four idle connections to the server."""
    with mounted(keepalive=600.0) as session:
        session.verify = server.ca_path or True
        for response in [session.get(server.url, stream=True) for _ in range(4)]:
            assert response.content == b"/"
        yield session


@pytest.fixture(params=["hook", "pid check"])
def forgetting(
    request: pytest.FixtureRequest, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the child learn of the fork by the hook, or, as under uWSGI, by its process id alone."""
    if request.param == "pid check":
        forget_by_process_id(monkeypatch)


class Load:
    """The work of threads on a session while its process forks.

    No lock guards it, since the server is in another process.
    """

    def __init__(self, url: str, session: requests.Session) -> None:
        self.url, self.session, self.adapter = url, session, adapter_of(session)
        self.over = threading.Event()
        self.answers = 0

    def work(self, number: int) -> None:
        """Call, stream or hold locks until it is over."""
        kinds = (self._stream, self._stream, self._hold, self._call)
        kind = kinds[min(number, len(kinds) - 1)]
        for turn in itertools.count():
            if self.over.is_set():
                return
            kind(f"{number}-{turn}")

    def _call(self, name: str) -> None:
        ask(self.session, self.url, name, 4)
        self.answers += 4

    def _stream(self, name: str) -> None:
        target = f"/flow-{name}"
        with self.session.get(self.url + target, stream=True) as response:
            assert b"".join(response.iter_content(None)) == target.encode() * 20
        self.answers += 1

    def _hold(self, name: str) -> None:
        state = self.adapter._state
        locks: list[Any] = [state._lock, state.tls._lock, self.adapter.poolmanager.pools.lock]
        pools: list[Any] = [pool for pool in state.pools() if isinstance(pool, RecyclingPool)]
        locks += [pool.pool.mutex for pool in pools if pool.pool is not None]
        for lock in locks:
            with lock:
                self.over.wait(0.001)

    @contextlib.contextmanager
    def held(self, target: str) -> Iterator[requests.Response]:
        """A stream of which the first half has come; on leaving, all of it does."""
        with self.session.get(self.url + target, stream=True) as response:
            blocks = response.iter_content(None)
            assert next(blocks) == target.encode()
            try:
                yield response
            finally:
                self.session.get(f"{self.url}/go-on{target}")
            assert b"".join(blocks) == target.encode()


@pytest.fixture(params=["plain", "tls"])
def load(request: pytest.FixtureRequest) -> Iterator[Load]:
    """A load on a server in another process: its handshakes take locks of OpenSSL too."""
    command = [
        sys.executable,
        str(Path(__file__).resolve().parents[1] / "support" / "fork_server.py"),
        request.param,
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        with mounted(keepalive=600.0) as session:
            url, _, ca_path = process.stdout.readline().rstrip("\n").partition(" ")
            session.verify = ca_path or True
            yield Load(url, session)
        process.stdin.close()
        process.wait(PATIENCE)


@pytest.mark.parametrize("forgets_by", ["hook", "pid check"])
@pytest.mark.timeout(max(60, FORKS))
def test_no_fork_under_load_hangs_or_mixes_answers_up(
    load: Load, forgets_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls, streams, handshakes and locks are somewhere in the middle at each fork."""
    if forgets_by == "pid check":
        forget_by_process_id(monkeypatch)

    def work(number: int, held: requests.Response) -> None:
        # docs/fork.md says so: the jar may have been locked.
        load.session.cookies = load.session.cookies.copy()
        with pytest.raises(StreamBroken, match="another process"):
            next(held.iter_content(None))
        ask(load.session, load.url, f"child{number}", 4)
        with load.session.get(f"{load.url}/flow-child{number}", stream=True) as response:
            assert response.content == f"/flow-child{number}".encode() * 20
        load.adapter.rotate()
        load.adapter.shutdown()

    with in_threads(6, load.work) as errors:
        try:
            for number in range(FORKS):
                with load.held(f"/held-{number}") as held, child(partial(work, number, held)):
                    pass
        finally:
            load.over.set()

    assert errors == []
    assert load.answers > 10
    assert load.adapter.stats().in_flight == 0


@pytest.mark.parametrize("end", ["close", "shutdown", "rotate", "stats", "close response"])
def test_what_ends_things_in_a_child_waits_for_no_lock_of_the_parent(
    server: FaultServer, session: requests.Session, forgetting: None, end: str
) -> None:
    """A worker of uWSGI that ends before its first call has not looked at its process id yet."""
    adapter = adapter_of(session)
    (pool,) = adapter._state.pools()
    assert isinstance(pool, RecyclingPool)
    assert pool.pool is not None
    with session.get(server.url, stream=True) as live, contextlib.ExitStack() as locks:
        for lock in (adapter._state._lock, adapter.poolmanager.pools.lock, pool.pool.mutex):
            locks.enter_context(held_elsewhere(lock))
        with child(live.close if end == "close response" else getattr(adapter, end)):
            pass
        locks.close()
        assert live.content == b"/"


def test_a_copy_of_the_cookie_jar_waits_for_no_lock_of_the_parent(
    server: FaultServer, session: requests.Session, forgetting: None
) -> None:
    """A jar is locked after each response, and no adapter can reach it: docs/fork.md says so."""

    def work() -> None:
        session.cookies = session.cookies.copy()
        ask(session, server.url, "child", 4)

    with held_elsewhere(session.cookies._cookies_lock), child(work):
        pass


@contextlib.contextmanager
def held_elsewhere(lock: Any) -> Iterator[None]:
    """A lock held by another thread, since a re-entrant one stops nobody on its own."""
    taken, enough = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        with lock:
            taken.set()
            enough.wait(PATIENCE)

    with in_threads(1, hold):
        try:
            assert taken.wait(5)
            yield
        finally:
            enough.set()


@pytest.mark.timeout(max(60, REQUESTS // 50))
def test_a_warm_session_brings_both_processes_their_own_answers(
    server: FaultServer, session: requests.Session, forgetting: None
) -> None:
    """The connections of before the fork are the parent's, and only the parent's."""
    warm = server.accepted
    with child(
        lambda: ask(session, server.url, "child", REQUESTS), patience=PATIENCE + REQUESTS / 50
    ):
        ask(session, server.url, "parent", REQUESTS)

    askers: dict[int, set[str]] = {}
    for request in server.requests[4:]:
        askers.setdefault(request.connection, set()).add(request.path.partition("-")[0])
    assert sorted(askers.values(), key=sorted) == [{"/child"}, {"/parent"}]
    assert server.accepted == warm + 1


@pytest.mark.parametrize("call", ["first", "many"])
def test_threads_of_a_child_may_all_be_the_first_to_call(
    server: FaultServer, session: requests.Session, forgetting: None, call: str
) -> None:
    """Threads of uWSGI take requests before anything has looked at the process id."""
    count = 1 if call == "first" else 10

    def work() -> None:
        with in_threads(
            8, lambda number: ask(session, server.url, f"child{number}", count)
        ) as errors:
            pass
        assert errors == []

    warm = server.open_connections
    for _ in range(10):
        with child(work):
            pass
        # The server is in this process: a fork in the middle of its handshake would leave
        # OpenSSL's locks held.
        assert server.wait_for(lambda one: one.open_connections <= warm)


WAYS: dict[str, Callable[[requests.Response], Iterable[object]]] = {
    "content": lambda response: [response.content],
    "iter_content": lambda response: response.iter_content(None),
    "iter_lines": lambda response: response.iter_lines(),
    "iter_events": iter_events,
    "raw.read": lambda response: iter(lambda: response.raw.read(1), b""),
    "raw.read1": lambda response: iter(lambda: response.raw.read1(1), b""),
    "raw.stream": lambda response: response.raw.stream(1),
}


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("way", WAYS)
def test_a_child_takes_no_byte_of_its_parents_stream(
    server: FaultServer,
    session: requests.Session,
    forgetting: None,
    way: str,
    framing: Literal["chunked", "length", "close"],
) -> None:
    """The parent would miss the bytes that the child reads; under TLS neither could read on.

    Bytes that came with the head are in the memory of both, and both may read them.
    """
    go_on = threading.Event()
    server.script(stream([b"data: one\n\n", b"data: ", go_on, b"two\n\n"], framing=framing))
    response = session.get(server.url, stream=True)

    def work() -> None:
        with pytest.raises(Exception, match="another process"):
            for _ in WAYS[way](response):
                pass

    with child(work):
        pass
    go_on.set()

    assert [getattr(event, "data", None) for event in iter_events(response)] == ["one", "two"]
