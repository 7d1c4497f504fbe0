"""A blocking pool has so many places: each comes back once, however a call or its wait ends."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
from alarms import ringing
from clients import Running, until
from fake_clock import adapter_of, in_threads, mounted

from resilient_requests import CancelScope, DeadlineExceeded
from resilient_requests.testing import Reply, reset, respond, stream
from resilient_requests.transport._pool import RecyclingPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilient_requests.testing import FaultServer

    Mount = Callable[..., requests.Session]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Makes sessions over one blocking pool each, closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda places, **options: stack.enter_context(
            mounted(pool_maxsize=places, pool_block=True, max_retries=0, **options)
        )


def get(session: requests.Session, server: FaultServer, **options: Any) -> requests.Response:
    """A GET with a limit, which also limits its response."""
    with CancelScope(timeout=10.0):
        return session.get(server.url, verify=server.ca_path or True, **options)


def opened(session: requests.Session, server: FaultServer) -> requests.Response:
    """A stream that will not end by itself."""
    server.script(stream([b"data: one\n\n"], ending="silence"))
    return get(session, server, stream=True)


def free(session: requests.Session) -> int:
    """Return the number of places in the queue."""
    (pool,) = adapter_of(session)._state.pools()
    assert isinstance(pool, RecyclingPool)
    assert pool.pool is not None
    return pool.pool.qsize()


def is_full(session: requests.Session, server: FaultServer) -> bool:
    """True if a call waits for a place in vain."""
    try:
        with CancelScope(timeout=0.35):
            session.get(server.url, verify=server.ca_path or True)
    except DeadlineExceeded:
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_a_stream_that_is_read_keeps_its_place(
    fault_server: FaultServer, mount: Mount, framing: Any
) -> None:
    """http.client closes a connection that is not used again, though its body is still to come."""
    session = mount(1)
    go_on = threading.Event()
    fault_server.script(stream([b"one ", go_on, b"two"], framing=framing))
    holder = session.get(fault_server.url, stream=True)

    assert is_full(session, fault_server)
    go_on.set()
    assert holder.content == b"one two"
    assert get(session, fault_server).content == b"ok"
    assert free(session) == 1


def test_a_place_comes_back_once_from_a_failure(fault_server: FaultServer, mount: Mount) -> None:
    """The error that a caller keeps refers to the connection."""
    session = mount(1)
    kept = []
    for _ in range(3):
        fault_server.script(reset())
        with pytest.raises(requests.ConnectionError) as failure:
            get(session, fault_server)
        kept.append(failure)

        assert free(session) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), LookupError("mine"), TimeoutError("mine")])
def test_a_wait_that_a_signal_breaks_off_gives_no_place_back(
    fault_server: FaultServer, mount: Mount, error: BaseException
) -> None:
    """urllib3 puts back a place that it never had: one call more than allowed would then run."""
    session = mount(1)
    holder = opened(session, fault_server)
    adapter = adapter_of(session)
    with (
        ringing(error, lambda: len(adapter._state.in_flight.all()) == 2),
        pytest.raises(type(error)) as caught,
    ):
        get(session, fault_server)

    assert caught.value is error
    assert free(session) == 0
    holder.close()
    assert get(session, fault_server).content == b"ok"
    assert (free(session), len(fault_server.requests)) == (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_threads_never_have_more_than_all_places(
    fault_server_factory: Callable[..., FaultServer], mount: Mount, tls: bool
) -> None:
    """All places are there again in the end, whether streams were read, closed, or cut."""
    server = fault_server_factory(tls=tls)
    session = mount(3)
    most = threading.Semaphore(3)
    crowded = threading.Event()

    def answer(request: Any) -> Reply:
        if request.target == "/close":
            return stream([b"data: one\n\n"], ending="silence")
        if not most.acquire(blocking=False):
            crowded.set()
        most.release()
        return reset() if request.target == "/cut" else respond(b"ok")

    server.default = answer

    def work(number: int) -> None:
        for turn in range(6):
            path = ("/close", "/cut", "/")[(number + turn) % 3]
            with contextlib.suppress(requests.ConnectionError):
                url, verify = server.url + path, server.ca_path or True
                with session.get(url, verify=verify, stream=True) as response:
                    assert path == "/close" or response.content == b"ok"

    with in_threads(8, work) as errors:
        pass

    assert errors == []
    assert not crowded.is_set()
    assert free(session) == 3
    holders = [get(session, server, stream=True) for _ in range(3)]
    assert is_full(session, server)
    assert [holder.content for holder in holders] == [b"ok"] * 3


@pytest.mark.slow
def test_a_child_has_all_places(fault_server: FaultServer, mount: Mount) -> None:
    """The parent's connections in use take no place here, and return to none here."""
    session = mount(2)
    parents = [opened(session, fault_server) for _ in range(2)]
    adapter_of(session)._state.process.forked()
    mine = [get(session, fault_server, stream=True) for _ in range(2)]
    for response in parents:
        response.close()

    assert is_full(session, fault_server)
    assert [each.content for each in mine] == [b"ok"] * 2
    assert free(session) == 2


def test_a_dropped_loop_gives_its_place_to_the_call_that_waits(
    fault_server: FaultServer, mount: Mount
) -> None:
    """A finalizer must not take the queue's lock, so the waiting call collects the place."""
    session = mount(1)
    fault_server.script(stream([b"a"], ending="silence"), respond(b"next"))
    held = [iter(get(session, fault_server, stream=True).iter_content(1))]
    assert next(held[0]) == b"a"
    running = Running(lambda: get(session, fault_server).content)
    until(lambda: len(adapter_of(session)._state.in_flight.all()) == 2)
    held.clear()
    running.seconds_to_end()

    assert running.value == b"next"


def test_a_closed_adapter_loses_no_place(fault_server: FaultServer, mount: Mount) -> None:
    """The call that waits for a place of the pool that was closed gets that of the stream."""
    session = mount(1)
    holder = opened(session, fault_server)
    adapter = adapter_of(session)
    running = Running(lambda: get(session, fault_server).content)
    until(lambda: len(adapter._state.in_flight.all()) == 2)
    adapter.close()
    holder.close()
    running.seconds_to_end()

    assert running.value == b"ok"
    for _ in range(3):
        assert get(session, fault_server).content == b"ok"
