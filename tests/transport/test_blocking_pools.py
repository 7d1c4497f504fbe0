"""A pool that blocks has so many places: none is lost with who dropped its stream, and none is given twice."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import requests
from clients import until
from fake_clock import adapter_of, in_threads, mounted

from resilient_requests import CancelScope, DeadlineExceeded, iter_bytes, iter_events
from resilient_requests.call import CancelToken
from resilient_requests.testing import Reply, reset, respond, stream
from resilient_requests.transport import _pool as pools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilient_requests.testing import FaultServer
    from resilient_requests.transport._pool import RecyclingPool

    Mount = Callable[..., requests.Session]
    Drop = Callable[[requests.Response], object]

# What is dropped tells so, which is not the point here.
dropped = pytest.mark.filterwarnings("ignore:.*was dropped without close:ResourceWarning")


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Makes sessions over one blocking pool each, closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda places, **options: stack.enter_context(
            mounted(pool_maxsize=places, pool_block=True, max_retries=0, **options)
        )


def endless(**options: Any) -> Reply:
    """An event, and then nothing more."""
    return stream([b"data: one\n\n"], ending="silence", **options)


def get(session: requests.Session, server: FaultServer, **options: Any) -> requests.Response:
    """A GET that does not wait for ever; nor does its response."""
    with CancelScope(timeout=10.0):
        return session.get(server.url, verify=server.ca_path or True, **options)


def opened(session: requests.Session, server: FaultServer, **options: Any) -> requests.Response:
    """A stream that will not end by itself."""
    server.script(endless(**options))
    return get(session, server, stream=True)


def pool_of(session: requests.Session) -> RecyclingPool:
    """The one pool that there is."""
    (pool,) = adapter_of(session)._state.pools()
    assert isinstance(pool, pools.RecyclingPool)
    return pool


def free(session: requests.Session) -> int:
    """How many places lie in the queue."""
    queue = pool_of(session).pool
    assert queue is not None
    return queue.qsize()


def is_full(session: requests.Session, server: FaultServer) -> bool:
    """Whether a call waits for a place in vain."""
    try:
        with CancelScope(timeout=0.35):
            session.get(server.url, verify=server.ca_path or True)
    except DeadlineExceeded:
        return True
    return False


# -- places that nobody gives back ------------------------------------------------------------------------------


def _loop(response: requests.Response) -> None:
    for line in response.iter_lines():
        assert line == b"data: one"
        break


def _loop_of_text(response: requests.Response) -> None:
    next(response.iter_lines(decode_unicode=True))


def _blocks(response: requests.Response) -> None:
    next(response.iter_content(4))


def _events(response: requests.Response) -> None:
    next(iter_events(response))


def _bytes(response: requests.Response) -> None:
    next(iter_bytes(response))


DROPS: dict[str, Drop] = {
    "loop": _loop,
    "decoded": _loop_of_text,
    "blocks": _blocks,
    "events": _events,
    "bytes": _bytes,
    "events, not begun": iter_events,
    "loop, not begun": lambda response: response.iter_lines(),
    "not read": lambda response: None,
    "raw closed": lambda response: response.raw.close(),
}


@dropped
@pytest.mark.slow
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
def test_a_dropped_stream_costs_no_place(
    fault_server: FaultServer, mount: Mount, framing: Any, drop: Drop
) -> None:
    """Legacy code breaks out of its loops and closes nothing; all later calls would wait for ever."""
    session = mount(2)
    for _ in range(5):
        drop(opened(session, fault_server, framing=framing))

    assert get(session, fault_server).content == b"ok"
    until(lambda: fault_server.open_connections == 1)


@dropped
@pytest.mark.slow
@pytest.mark.parametrize("drop", [_loop, _events], ids=["loop", "events"])
def test_a_response_that_is_kept_keeps_no_place(
    fault_server: FaultServer, mount: Mount, drop: Drop
) -> None:
    """Its connection is closed; and whatever is done with it then, a place that another has is not given back."""
    session = mount(1)
    kept = opened(session, fault_server)
    drop(kept)
    gc.collect()
    holder = opened(session, fault_server)
    kept.close()
    kept.raw.release_conn()

    assert is_full(session, fault_server)
    holder.close()
    assert get(session, fault_server).content == b"ok"
    assert free(session) == 1


@pytest.mark.slow
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_a_stream_that_is_read_keeps_its_place(
    fault_server: FaultServer, mount: Mount, framing: Any
) -> None:
    """http.client closes a connection that will not be used again, and its body is still to come."""
    session = mount(1)
    go_on = threading.Event()
    fault_server.script(stream([b"one ", go_on, b"two"], framing=framing))
    holder = session.get(fault_server.url, stream=True)

    assert is_full(session, fault_server)
    go_on.set()
    assert holder.content == b"one two"
    assert get(session, fault_server).content == b"ok"
    assert (free(session), pool_of(session).loans) == (1, {})


def test_a_place_comes_back_once_from_a_failure(fault_server: FaultServer, mount: Mount) -> None:
    """Though the error that a caller keeps refers to the connection."""
    session = mount(1)
    kept = []
    for _ in range(3):
        fault_server.script(reset())
        with pytest.raises(requests.ConnectionError) as failure:
            get(session, fault_server)
        kept.append(failure)

        assert (free(session), pool_of(session).loans) == (1, {})


class FakeConnection:
    """One with a socket, or without."""

    def __init__(self, is_open: bool) -> None:
        self.sock = object() if is_open else None


@pytest.mark.parametrize(
    ("conn", "call", "is_lost"),
    [
        ("open", "sends", False),
        ("open", "in flight", False),
        ("open", "over", False),  # about to be given back
        ("open", "forgotten", False),
        ("closed", "sends", False),  # not dialled yet, or about to be given back
        ("closed", "in flight", False),  # its body is still to come
        ("closed", "over", True),
        ("closed", "forgotten", True),
        (
            "forgotten",
            "sends",
            False,
        ),  # urllib3 lets go of one that failed before it gives the place back
        ("forgotten", "in flight", True),
        ("forgotten", "over", True),
        ("forgotten", "forgotten", True),
    ],
)
def test_a_place_is_lost_when_nobody_can_give_it_back(conn: str, call: str, is_lost: bool) -> None:
    """And no sooner: it would be given to two."""
    in_flight: Members = weakref.WeakValueDictionary()
    held: list[Any] = [FakeConnection(conn == "open"), CancelToken()]
    loan = pools.Loan(*held)
    held[1].join(in_flight)
    held[1].is_sending = call == "sends"
    if call == "over":
        held[1].leave()
    if call == "forgotten":
        del held[1]
    if conn == "forgotten":
        del held[0]

    assert loan.is_lost(in_flight) == is_lost


# -- who gets a place that was lost -----------------------------------------------------------------------------


@dropped
@pytest.mark.slow
def test_of_two_who_find_a_lost_place_one_gets_it(
    fault_server: FaultServer, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They look at the same moment, and both see it."""
    session = mount(1)
    _loop(opened(session, fault_server))
    both = threading.Barrier(2)
    found = pools.Loan.is_lost

    def together(loan: Any, in_flight: Any) -> bool:
        is_lost = found(loan, in_flight)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(1.0)
        return is_lost

    monkeypatch.setattr(pools.Loan, "is_lost", together)
    responses: list[requests.Response] = []
    held, go_on = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        responses.append(session.get(fault_server.url, stream=True))
        held.set()
        assert go_on.wait(20.0)
        assert responses[-1].content == b"ok"

    with in_threads(2, hold) as errors:
        assert held.wait(10.0)
        threading.Event().wait(0.3)
        in_use = len(responses)
        go_on.set()

    assert errors == []
    assert (in_use, len(responses), free(session), pool_of(session).loans) == (1, 2, 1, {})


@dropped
@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_threads_that_drop_streams_never_have_more_than_all_places(
    fault_server_factory: Callable[..., FaultServer], mount: Mount, tls: bool
) -> None:
    """And in the end all are there."""
    server = fault_server_factory(tls=tls)
    session = mount(3)
    most = threading.Semaphore(3)
    crowded = threading.Event()

    def answer(request: Any) -> Reply:
        if request.target.startswith("/drop"):
            return endless()
        if not most.acquire(blocking=False):
            crowded.set()
        most.release()
        return respond(b"ok")

    server.default = answer

    def work(number: int) -> None:
        drops = list(DROPS.values())
        for turn in range(6):
            if (number + turn) % 3 == 0:
                response = session.get(
                    f"{server.url}/drop", verify=server.ca_path or True, stream=True
                )
                drops[(number * 6 + turn) % len(drops)](response)
                del response
            else:
                assert get(session, server).content == b"ok"
            assert free(session) + len(pool_of(session).loans) <= 3

    with in_threads(8, work) as errors:
        pass
    gc.collect()

    assert errors == []
    assert not crowded.is_set()
    assert free(session) + len(pool_of(session).loans) == 3
    holders = [
        session.get(server.url, verify=server.ca_path or True, stream=True) for _ in range(3)
    ]
    assert is_full(session, server)
    assert [holder.content for holder in holders] == [b"ok"] * 3


# -- other ends -------------------------------------------------------------------------------------------------


@dropped
@pytest.mark.slow
def test_a_child_has_all_places(fault_server: FaultServer, mount: Mount) -> None:
    """What was lent in the parent is no business of the child's, and comes back to no place there."""
    session = mount(2)
    holder = opened(session, fault_server)
    _loop(opened(session, fault_server))
    pool = pool_of(session)
    assert pool.pool is not None
    adapter_of(session)._after_fork()
    holder.close()
    assert (pool.loans, pool.pool.qsize()) == ({}, 2)

    holders = [get(session, fault_server, stream=True) for _ in range(2)]
    assert is_full(session, fault_server)
    assert [each.content for each in holders] == [b"ok"] * 2


@dropped
@pytest.mark.slow
def test_a_closed_adapter_loses_no_place(fault_server: FaultServer, mount: Mount) -> None:
    """Closed while one is lost and one waits for it."""
    session = mount(1)
    _loop(opened(session, fault_server))
    with in_threads(1, lambda _: get(session, fault_server).content) as errors:
        adapter_of(session).close()

    assert errors == []
    for _ in range(3):
        assert get(session, fault_server).content == b"ok"
