"""Idle connections are reused while that is safe, and closed when it no longer is."""

from __future__ import annotations

import contextlib
import gc
import itertools
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from clients import in_time
from fake_clock import FakeClock, adapter_of, forgets, in_threads, mounted, pool_up

from resilient_requests import (
    AttemptFailed,
    AttemptSucceeded,
    CancelScope,
    ConnectionRecycled,
    DeadlineExceeded,
    KeepAlivePolicy,
    PoolRotated,
    RetryPolicy,
    Rotation,
    StreamBroken,
    StreamTruncated,
    complete_chat,
    iter_bytes,
)
from resilient_requests.testing import reset, respond, silence, sse, stream
from resilient_requests.transport._generations import PoolState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilient_requests.testing import FaultServer, ReceivedRequest, Reply

    Mount = Callable[..., requests.Session]
    Factory = Callable[..., FaultServer]

HOUR = 3600.0


@pytest.fixture
def clock() -> FakeClock:
    """Time that passes when told to."""
    return FakeClock()


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Makes sessions that are closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(mounted(*args, **options))


def get(session: requests.Session, server: FaultServer, **options: Any) -> requests.Response:
    """A GET that believes the server's certificate."""
    return session.get(server.url, verify=server.ca_path or True, **options)


def of(events: list[Any], kind: type) -> list[Any]:
    """The events of one kind."""
    return [event for event in events if type(event) is kind]


# -- the window


@pytest.mark.parametrize(("idle_for", "connections"), [(0.0, 1), (9.9, 1), (10.0, 2), (10.1, 2)])
def test_an_idle_connection_is_recycled_at_the_window(
    server: FaultServer, mount: Mount, clock: FakeClock, idle_for: float, connections: int
) -> None:
    """At exactly the window a middlebox may have forgotten it; a younger one is reused."""
    session = mount(clock)
    get(session, server)
    clock.advance(idle_for)
    get(session, server)

    assert server.accepted == connections


def test_the_window_counts_from_the_last_use(
    fault_server: FaultServer, mount: Mount, clock: FakeClock
) -> None:
    """A busy connection lives on however old it is."""
    session = mount(clock, keepalive=1.0)
    for _ in range(10):
        get(session, fault_server)
        clock.advance(0.9)

    assert fault_server.accepted == 1


def test_the_window_counts_from_the_end_of_the_response(
    fault_server: FaultServer, mount: Mount, clock: FakeClock
) -> None:
    """A connection that has been streaming for an hour was not idle."""
    session = mount(clock)
    response = get(session, fault_server, stream=True)
    clock.advance(HOUR)

    assert response.content == b"ok"
    get(session, fault_server)
    assert fault_server.accepted == 1


def test_real_time_is_the_default(fault_server: FaultServer, mount: Mount) -> None:
    """Without a fake the window is measured on the machine's clocks."""
    session = mount(keepalive=0.05)
    get(session, fault_server)
    threading.Event().wait(0.06)
    get(session, fault_server)

    assert fault_server.accepted == 2


def test_expiry_zero_never_reuses(server: FaultServer, mount: Mount, clock: FakeClock) -> None:
    """Zero means never, not for ever; nothing stays open."""
    session = mount(clock, keepalive=KeepAlivePolicy(expiry=0))
    for _ in range(3):
        get(session, server)

    assert server.accepted == 3
    assert adapter_of(session).stats().idle == 0
    assert server.wait_for_disconnects(3)


@pytest.mark.parametrize(
    ("hint", "idle_for", "connections"),
    [
        ("timeout=5", 2.9, 1),
        ("timeout=5", 3.0, 2),
        ("timeout=5, max=100", 3.0, 2),
        ("max=100, Timeout=5", 3.0, 2),
        ("timeout=2", 0.0, 2),
        ("timeout=1", 0.0, 2),
        ("timeout=0", 0.0, 2),
        ("timeout=60", 9.9, 1),
        ("timeout=60", 10.0, 2),
        ("timeout=soon", 9.9, 1),
        ("timeout=-3", 9.9, 1),
        ("timeout=", 9.9, 1),
        ("5", 9.9, 1),
        ("", 9.9, 1),
    ],
)
def test_a_servers_hint_shortens_the_window(
    fault_server: FaultServer,
    mount: Mount,
    clock: FakeClock,
    *,
    hint: str,
    idle_for: float,
    connections: int,
) -> None:
    """It says when the server closes; two seconds before that we do.

    It never widens, and nonsense says nothing.
    """
    fault_server.default = respond(b"ok", keep_alive=hint)
    session = mount(clock)
    get(session, fault_server)
    clock.advance(idle_for)
    get(session, fault_server)

    assert fault_server.accepted == connections


def test_a_hint_holds_until_the_next_answer_without_one(
    fault_server: FaultServer, mount: Mount, clock: FakeClock
) -> None:
    """The hint is of the last response on that connection."""
    session = mount(clock)
    fault_server.script(respond(b"ok", keep_alive="timeout=5"), respond(b"ok"))
    get(session, fault_server)
    get(session, fault_server)
    clock.advance(9.0)
    get(session, fault_server)

    assert fault_server.accepted == 1


@pytest.mark.parametrize(
    "passed",
    [
        {"boot": HOUR, "wall": HOUR},
        {"wall": HOUR},
        {"monotonic": 11.0, "boot": 11.0, "wall": 11.0 - HOUR},
        {"monotonic": 1.0, "boot": 1.0, "wall": HOUR},
        {"boot": HOUR, "wall": -HOUR},
    ],
    ids=["suspend", "vm-pause", "wall-set-back", "wall-set-forward", "suspend-and-set-back"],
)
def test_no_clock_makes_an_old_connection_young(
    fault_server: FaultServer, mount: Mount, clock: FakeClock, passed: dict[str, float]
) -> None:
    """Each clock is fooled by something that another one sees; a needless dial is cheap."""
    session = mount(clock)
    get(session, fault_server)
    clock.move(**passed)
    get(session, fault_server)

    assert fault_server.accepted == 2


def test_a_small_step_back_keeps_a_young_connection(
    fault_server: FaultServer, mount: Mount, clock: FakeClock
) -> None:
    """Ages are never negative, nor huge because of it."""
    session = mount(clock)
    get(session, fault_server)
    clock.move(monotonic=1.0, boot=1.0, wall=-HOUR)
    get(session, fault_server)

    assert fault_server.accepted == 1


# -- max_age


def test_max_age_replaces_a_busy_connection(
    server: FaultServer, mount: Mount, clock: FakeClock
) -> None:
    """Some balancers forget the oldest flows, not the idlest."""
    session = mount(clock, keepalive=KeepAlivePolicy(max_age=1.0))
    used = []
    for _ in range(8):
        get(session, server)
        used.append(server.requests[-1].connection)
        clock.advance(0.25)

    assert used == [1, 1, 1, 1, 2, 2, 2, 2]


def test_max_age_never_cuts_a_call_in_flight(
    server: FaultServer, mount: Mount, clock: FakeClock
) -> None:
    """A connection that has outlived its age in use is closed when it returns."""
    session = mount(clock, keepalive=KeepAlivePolicy(max_age=1.0))
    go_on = threading.Event()
    server.script(stream([b"one ", go_on, b"two"]))
    response = get(session, server, stream=True)
    clock.advance(5.0)
    go_on.set()

    assert response.content == b"one two"
    assert server.wait_for_disconnects(1)
    assert adapter_of(session).stats().idle == 0


# -- the adaptive window, and paths that forget


def test_the_window_avoids_a_path_that_forgets(
    fault_server_factory: Factory, mount: Mount, clock: FakeClock
) -> None:
    """The window below the path's limit: no failed attempt at all."""
    server = forgets(fault_server_factory())
    events: list[Any] = []
    session = mount(clock, keepalive=0.3, observers=[events.append])
    for _ in range(5):
        assert session.post(server.url).content == b"ok"
        clock.advance(0.7)

    assert of(events, AttemptFailed) == []
    assert len(server.requests) == 5


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(("adaptive", "failures"), [(False, 4), (True, 1)])
def test_a_stale_hit_costs_one_attempt_and_teaches(
    fault_server_factory: Factory,
    mount: Mount,
    clock: FakeClock,
    *,
    tls: bool,
    adaptive: bool,
    failures: int,
) -> None:
    """Each stale hit is recovered and seen; with ``adaptive`` there is only one."""
    server = forgets(fault_server_factory(tls=tls))
    events: list[Any] = []
    session = mount(clock, keepalive=KeepAlivePolicy(adaptive=adaptive), observers=[events.append])
    for _ in range(5):
        answer = session.post(server.url, verify=server.ca_path or True)
        assert answer.content == b"ok"
        clock.advance(0.7)

    failed = of(events, AttemptFailed)
    assert len(failed) == failures
    assert all(event.reused and event.idle_for == pytest.approx(0.7) for event in failed)
    assert len(of(events, AttemptSucceeded)) == 5
    assert server.applied == 5


@pytest.mark.parametrize("number", range(5))
def test_a_lesson_holds_for_a_minute_where_gaps_lie_around_the_limit_of_the_path(
    fault_server: FaultServer, mount: Mount, clock: FakeClock, number: int
) -> None:
    """A reuse just below the deadly age must not widen the window at once."""
    chance = random.Random(number)
    gap = 0.0

    def answer(request: ReceivedRequest) -> Reply:
        is_first = fault_server.connections[request.connection - 1].requests == 1
        return respond(b"ok") if is_first or gap < 5.0 else reset(applies=False)

    fault_server.default = answer
    failed: list[float] = []
    events: list[Any] = []
    session = mount(clock, observers=[events.append])
    for _ in range(200):
        assert session.post(fault_server.url).content == b"ok"
        failed += [clock().boot for _ in of(events, AttemptFailed)]
        events.clear()
        gap = 5.0 * chance.uniform(0.96, 1.04)
        clock.advance(gap)

    assert all(later - earlier >= 60.0 for earlier, later in itertools.pairwise(failed))
    assert len(failed) <= 200 * 5.0 / 60.0 + 1


def test_the_lesson_of_one_origin_is_not_anothers(
    fault_server_factory: Factory, mount: Mount, clock: FakeClock
) -> None:
    """Each path forgets by itself."""
    bad, good = forgets(fault_server_factory()), fault_server_factory()
    session = mount(clock)
    for _ in range(2):
        session.get(bad.url)
        session.get(good.url)
        clock.advance(0.7)
    session.get(good.url)

    assert good.accepted == 1
    windows = {place: each.window for place, each in adapter_of(session).stats().origins.items()}
    assert windows == {bad.url: 0.5, good.url: 10.0}


def test_ten_dead_connections_cost_one_attempt(fault_server_factory: Factory, mount: Mount) -> None:
    """The failure of one retires its siblings, which are closed without being tried."""
    server = forgets(fault_server_factory())
    events: list[Any] = []
    session = mount(observers=[events.append])
    pool_up(session, server, 10)
    events.clear()

    assert session.post(server.url).content == b"ok"
    assert [event.reused for event in of(events, AttemptFailed)] == [True]
    assert [event.reused for event in of(events, AttemptSucceeded)] == [False]
    assert (server.accepted, len(server.requests), server.applied) == (11, 12, 11)
    assert server.wait_for_disconnects(10)


def test_a_dead_pool_costs_concurrent_calls_one_attempt_each(
    fault_server_factory: Factory, mount: Mount
) -> None:
    """Each thread may take any connection first; its retry dials."""
    server = forgets(fault_server_factory())
    events: list[Any] = []
    session = mount(observers=[events.append])
    pool_up(session, server, 8)
    events.clear()
    with in_threads(8, lambda _: session.post(server.url)) as errors:
        pass

    assert errors == []
    by_call: dict[str, list[bool]] = {}
    for event in of(events, AttemptFailed):
        by_call.setdefault(event.call_id, []).append(event.reused)
    assert all(reused == [True] for reused in by_call.values())
    assert len(of(events, AttemptSucceeded)) == 8


# -- faults found at checkout


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_connection_that_the_server_closed_is_not_used(
    server: FaultServer, mount: Mount, how: Any
) -> None:
    """A FIN or a reset that has arrived is seen before anything is sent: no attempt is lost."""
    events: list[Any] = []
    session = mount(observers=[events.append])
    get(session, server)
    assert server.kill_idle(how) == 1
    get(session, server)

    assert server.accepted == 2
    assert of(events, AttemptFailed) == []
    assert len(of(events, ConnectionRecycled)) == 1


def test_unread_bytes_are_never_taken_for_an_answer(server: FaultServer, mount: Mount) -> None:
    """An unsolicited response would be the answer to the next question."""
    session = mount()
    get(session, server)
    assert server.push_idle(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil") == 1
    answers = [get(session, server).content for _ in range(2)]

    assert answers == [b"ok", b"ok"]
    assert server.accepted == 2


def test_expired_connections_are_all_closed(
    server: FaultServer, mount: Mount, clock: FakeClock
) -> None:
    """None is used, and none stays half-closed."""
    session = mount(clock)
    pool_up(session, server, 5)
    clock.advance(10.0)
    get(session, server)

    assert server.wait_for_disconnects(5)
    assert server.open_connections == 1
    assert [server.requests[-1].connection, adapter_of(session).stats().idle] == [6, 1]


def test_connections_at_the_bottom_are_closed(
    server: FaultServer, mount: Mount, clock: FakeClock
) -> None:
    """The pool is last in, first out: sequential calls use the top one and leave the rest."""
    session = mount(clock)
    pool_up(session, server, 5)
    for _ in range(3):
        clock.advance(4.0)
        get(session, server)

    assert server.wait_for_disconnects(4)
    assert server.accepted == 5
    assert adapter_of(session).stats().idle == 1


def test_a_swept_pool_is_used_to_its_full_size_again(
    fault_server: FaultServer, mount: Mount, clock: FakeClock
) -> None:
    """The places of swept connections are not lost."""
    session = mount(clock, pool_maxsize=3)
    for _ in range(4):
        pool_up(session, fault_server, 3)
        clock.advance(10.0)

    assert fault_server.accepted == 12
    assert fault_server.wait_for_disconnects(9)
    assert adapter_of(session).stats().recycled == 9


def test_recycling_is_told_with_its_reason(
    fault_server: FaultServer, mount: Mount, clock: FakeClock
) -> None:
    """An operator must see why connections do not last."""
    events: list[Any] = []
    session = mount(clock, keepalive=KeepAlivePolicy(max_age=15.0), observers=[events.append])
    get(session, fault_server)
    clock.advance(10.0)
    get(session, fault_server)
    clock.advance(9.0)
    get(session, fault_server)
    clock.advance(9.0)
    get(session, fault_server)
    fault_server.kill_idle("fin")
    get(session, fault_server)

    assert [(event.reason, event.idle_for) for event in of(events, ConnectionRecycled)] == [
        ("idle window", 10.0),
        ("max_age", 9.0),
        ("closed by the peer, or unread bytes", 0.0),
    ]
    assert all(
        event.origin == fault_server.url and event.call_id
        for event in of(events, ConnectionRecycled)
    )


# -- sizes


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_full_pool_cannot_hold_is_closed(server: FaultServer, mount: Mount) -> None:
    """``pool_maxsize`` bounds the idle connections, and not those in use."""
    session = mount(pool_maxsize=2)
    responses = [get(session, server, stream=True) for _ in range(5)]

    assert [response.content for response in responses] == [b"ok"] * 5
    assert server.wait_for_disconnects(3)
    assert adapter_of(session).stats().idle == 2


def test_pool_block_limits_connections(
    fault_server: FaultServer, mount: Mount, clock: FakeClock
) -> None:
    """A blocking pool of two never opens a third, though connections expire and die in between."""
    session = mount(clock, pool_maxsize=2, pool_block=True)
    most = threading.Semaphore(2)
    crowded = threading.Event()

    def answer(_: object) -> Reply:
        if not most.acquire(blocking=False):
            crowded.set()
        most.release()
        return respond(b"ok")

    fault_server.default = answer
    for _ in range(3):
        with in_threads(8, lambda _: [get(session, fault_server) for _ in range(3)]) as errors:
            pass
        assert errors == []
        clock.advance(10.0)

    assert not crowded.is_set()
    assert fault_server.accepted <= 6
    assert adapter_of(session).stats().idle <= 2


def test_a_blocking_pool_gets_its_places_back_after_failures(
    fault_server: FaultServer, mount: Mount
) -> None:
    """A place that a failed attempt keeps would block all later calls for ever."""
    session = mount(pool_maxsize=1, pool_block=True, max_retries=0)
    for how in (reset(), silence(), reset()):
        fault_server.script(how)
        with pytest.raises(requests.RequestException):
            get(session, fault_server, timeout=0.2)
    adapter_of(session).rotate()

    assert get(session, fault_server, timeout=5).content == b"ok"


def test_waiting_for_a_blocking_pool_obeys_a_scope(fault_server: FaultServer, mount: Mount) -> None:
    """Everything begun in a scope ends with it, waiting for a place in the pool included."""
    session = mount(pool_maxsize=1, pool_block=True)
    holder = get(session, fault_server, stream=True)
    with pytest.raises(DeadlineExceeded), CancelScope(timeout=0.05):
        get(session, fault_server)

    assert holder.content == b"ok"
    assert fault_server.accepted == 1
    assert get(session, fault_server).content == b"ok"


@pytest.mark.parametrize("is_referenced", [False, True], ids=["forgotten", "referenced"])
def test_more_hosts_than_pools_leave_no_idle_connection_behind(
    fault_server_factory: Factory, mount: Mount, is_referenced: bool
) -> None:
    """A pool that had to go closes its connections, also while somebody keeps a response of it."""
    servers = [fault_server_factory() for _ in range(4)]
    session = mount(pool_connections=2)
    kept = []
    for server in servers:
        response = get(session, server)
        if is_referenced:
            kept.append(response)
    del response

    assert [server.wait_for_disconnects(1, timeout=1.0) for server in servers[:2]] == [True, True]
    assert [server.open_connections for server in servers[2:]] == [1, 1]
    assert adapter_of(session).stats().idle == 2
    get(session, servers[0])
    assert servers[0].accepted == 2


def test_pools_of_a_child_are_evicted_too(fault_server_factory: Factory, mount: Mount) -> None:
    """After a fork the managers start anew, with the same rules."""
    servers = [fault_server_factory() for _ in range(3)]
    session = mount(pool_connections=2)
    adapter_of(session)._state.process.forked()
    kept = [get(session, server) for server in servers]

    assert servers[0].wait_for_disconnects(1)
    assert [response.content for response in kept] == [b"ok"] * 3


def test_no_pools_at_all_means_no_reuse(fault_server: FaultServer, mount: Mount) -> None:
    """``HTTPAdapter`` takes the 0 too, and fails each call with "Pool is closed"."""
    session = mount(pool_connections=0)

    assert [get(session, fault_server).content for _ in range(2)] == [b"ok", b"ok"]
    assert fault_server.wait_for_disconnects(2)
    assert adapter_of(session).stats().idle == 0


def test_a_pool_of_no_size_has_no_bound(fault_server: FaultServer, mount: Mount) -> None:
    """The 0 goes to a queue, as in requests, and a queue takes it for no bound."""
    session = mount(pool_maxsize=0)
    pool_up(session, fault_server, 12)

    assert adapter_of(session).stats().idle == 12


def test_a_stream_outlives_the_eviction_of_its_pool(
    fault_server_factory: Factory, mount: Mount
) -> None:
    """A call in flight completes, and is then closed; a new pool serves the host meanwhile."""
    servers = [fault_server_factory() for _ in range(3)]
    go_on = threading.Event()
    servers[0].script(stream([b"one ", go_on, b"two"]))
    session = mount(pool_connections=2)
    response = get(session, servers[0], stream=True)
    for server in servers[1:]:
        get(session, server)
    used = [get(session, servers[0]) and servers[0].requests[-1].connection for _ in range(3)]
    go_on.set()

    assert response.content == b"one two"
    assert used == [2, 2, 2]
    assert servers[0].wait_for_disconnects(1)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts in /proc")
def test_many_calls_leave_no_descriptors_behind(
    fault_server_factory: Factory, mount: Mount, clock: FakeClock
) -> None:
    """Expired, reset, refused, rotated and plain reuse, 20 times over."""
    server = fault_server_factory()
    session = mount(clock, max_retries=RetryPolicy(max_retries=1, budget=None, wait=lambda _: 0.0))

    def round_trip() -> None:
        server.script(
            respond(b"ok"),
            reset(),
            respond(b"ok"),
            respond(b"x" * 100, cut=50),
            respond(b"ok"),
            reset(),
        )
        for _ in range(4):
            get(session, server)
        clock.advance(10.0)
        get(session, server)
        adapter_of(session).rotate()
        clock.advance(2.0)

    def fds() -> int:
        gc.collect()
        server.wait_for(lambda one: one.open_connections == 0)
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    round_trip()
    before = fds()
    for _ in range(20):
        round_trip()

    assert fds() == before


# -- rotation


def test_rotation_lets_streams_finish_and_then_closes_them(
    server: FaultServer, mount: Mount
) -> None:
    """A connection that returns retired is closed, once, and not pooled."""
    session = mount()
    adapter = adapter_of(session)
    go_on = threading.Event()
    server.script(stream([b"one ", go_on, b"two"]))
    response = get(session, server, stream=True)
    assert adapter.rotate() is Rotation.ROTATED
    assert get(session, server).content == b"ok"
    go_on.set()

    assert response.content == b"one two"
    assert server.wait_for_disconnects(1)
    assert [one.ended_by for one in server.connections] == ["peer", None]
    assert [request.connection for request in server.requests] == [1, 2]
    assert adapter.stats().idle == 1


def test_two_who_saw_the_same_generation_rotate_once(mount: Mount) -> None:
    """Compare and swap."""
    adapter = adapter_of(mount())
    outcomes: list[Rotation] = []
    with in_threads(2, lambda _: outcomes.append(adapter.rotate(0))) as errors:
        pass

    assert errors == []
    assert set(outcomes) == {Rotation.ROTATED, Rotation.ALREADY_ROTATED}
    assert adapter.generation == 1


def test_a_report_retires_all_though_one_origin_has_lost_a_connection_since(
    server: FaultServer, fault_server: FaultServer, mount: Mount
) -> None:
    """After a change of network a failure elsewhere is likely to come before the report."""
    session = mount()
    adapter = adapter_of(session)
    get(session, server)
    get(session, fault_server)
    seen = adapter.generation
    server.script(reset())
    get(session, server)
    assert adapter.generation == seen + 1
    first, second = adapter.rotate(seen), adapter.rotate(seen)
    get(session, fault_server)

    assert (first, second) == (Rotation.ROTATED, Rotation.ALREADY_ROTATED)
    assert adapter.generation == seen + 2
    assert fault_server.accepted == 2


def test_a_report_of_what_was_before_a_close_retires_nothing(mount: Mount) -> None:
    """All that it could mean is closed."""
    adapter = adapter_of(mount())
    adapter.close()

    assert adapter.rotate(0) is Rotation.ALREADY_ROTATED
    assert adapter.generation == 1


@pytest.mark.parametrize(
    ("seconds", "second"),
    [(0.0, Rotation.COALESCED), (0.9, Rotation.COALESCED), (1.0, Rotation.ROTATED)],
)
def test_reports_without_a_generation_coalesce_for_a_second(
    mount: Mount, clock: FakeClock, seconds: float, second: Rotation
) -> None:
    """Several watchers notice the same change of network."""
    adapter = adapter_of(mount(clock))
    first = adapter.rotate()
    clock.advance(seconds)

    assert (first, adapter.rotate()) == (Rotation.ROTATED, second)


def test_a_report_with_the_current_generation_is_never_coalesced(
    mount: Mount, clock: FakeClock
) -> None:
    """A caller that has seen the new generation fail knows more than one that has not."""
    adapter = adapter_of(mount(clock))
    adapter.rotate()

    assert adapter.rotate(adapter.generation) is Rotation.ROTATED
    assert adapter.generation == 2


@pytest.mark.parametrize(
    ("wrong", "error"), [(1, ValueError), (-1, ValueError), ("0", TypeError), (True, TypeError)]
)
def test_a_generation_that_never_was_is_refused(
    mount: Mount, wrong: Any, error: type[Exception]
) -> None:
    """A mistaken counter must not pass for a report."""
    adapter = adapter_of(mount())

    with pytest.raises(error, match="generation"):
        adapter.rotate(wrong)
    assert adapter.generation == 0


def test_what_a_rotation_cannot_load_stays_as_it_was(
    fault_server_tls: FaultServer, mount: Mount, tmp_path: Path
) -> None:
    """Streams of the old generation go on; the new one dials with the certificates from before."""
    session, bundle, go_on = mount(), tmp_path / "ca.pem", threading.Event()
    bundle.write_bytes(Path(fault_server_tls.ca_path or "").read_bytes())
    fault_server_tls.script(stream([b"one ", go_on, b"two"]))
    response = session.get(fault_server_tls.url, verify=str(bundle), stream=True)
    bundle.write_text("being replaced")
    assert adapter_of(session).rotate() is Rotation.ROTATED
    assert session.get(fault_server_tls.url, verify=str(bundle)).content == b"ok"
    go_on.set()

    assert response.content == b"one two"
    assert adapter_of(session).generation == 1
    assert fault_server_tls.accepted == 2


def _rotate(session: requests.Session) -> None:
    adapter_of(session).rotate()


def _close_adapter(session: requests.Session) -> None:
    adapter_of(session).close()


def _shut_down(session: requests.Session) -> None:
    adapter_of(session).shutdown()


@pytest.mark.parametrize("end", [_rotate, _close_adapter, requests.Session.close, _shut_down])
def test_idle_connections_close_at_once_while_responses_live(
    server: FaultServer, mount: Mount, end: Callable[[requests.Session], None]
) -> None:
    """Requests closes no socket while a response refers to its pool; it stays open for ever."""
    session = mount()
    kept = pool_up(session, server, 3)
    end(session)

    assert server.wait_for_disconnects(3)
    assert [one.ended for one in server.connections] == ["fin"] * 3
    assert adapter_of(session).stats().idle == 0
    assert [response.content for response in kept] == [b"ok"] * 3


@pytest.mark.parametrize("end", [_rotate, _close_adapter])
def test_a_connection_put_back_while_all_are_retired_is_closed(
    fault_server: FaultServer,
    mount: Mount,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[requests.Session], None],
) -> None:
    """The end and the return may come in either order: nothing retired lies idle."""
    session = mount()
    meanwhile = [end]

    asked = PoolState._window

    def meddle(*args: Any) -> float:
        if meanwhile:
            meanwhile.pop()(session)
        return asked(*args)

    # Asked at the moment in which a connection is judged.
    monkeypatch.setattr(PoolState, "_window", meddle)
    response = get(session, fault_server)

    assert fault_server.wait_for_disconnects(1)
    assert adapter_of(session).stats().idle == 0
    assert response.content == b"ok"


@pytest.mark.parametrize("grace", [0.0, 0.05])
def test_shutdown_ends_streams_of_all_generations(
    server: FaultServer, mount: Mount, grace: float
) -> None:
    """A current one and a retired one; later endings are harmless."""
    session = mount()
    adapter = adapter_of(session)
    server.script(*[stream([b"one", threading.Event()]) for _ in range(2)])
    old = get(session, server, stream=True)
    adapter.rotate()
    new = get(session, server, stream=True)
    bodies = [response.iter_content(None) for response in (old, new)]
    assert [next(body) for body in bodies] == [b"one", b"one"]
    since = time.monotonic()
    adapter.shutdown(grace)
    in_time(time.monotonic() - since, 1.0)

    for body in bodies:
        with pytest.raises(StreamBroken, match="shut down"):
            next(body)
    assert server.wait_for_disconnects(2)
    for response in (old, new):
        response.close()
    adapter.shutdown()
    adapter.close()
    session.close()
    assert [one.ended_by for one in server.connections] == ["peer", "peer"]


def test_shutdown_wakes_a_reader_in_another_thread(server: FaultServer, mount: Mount) -> None:
    """A worker blocked on a silent provider must not hold up the end of the process."""
    session = mount()
    server.script(stream([b"one", threading.Event()]))
    response = get(session, server, stream=True)
    got = threading.Event()

    def read(_: int) -> None:
        for _piece in response.iter_content(None):
            got.set()

    with in_threads(1, read) as errors:
        assert got.wait(5)
        adapter_of(session).shutdown()

    assert [type(error) for error in errors] == [StreamBroken]


def test_a_stream_may_end_within_the_grace(server: FaultServer, mount: Mount) -> None:
    """``shutdown(grace)`` waits no longer than it has to."""
    session = mount()
    go_on = threading.Event()
    server.script(stream([b"one ", go_on, b"two"]))
    response = get(session, server, stream=True)
    bodies: list[bytes] = []
    with in_threads(1, lambda _: bodies.append(response.content)) as errors:
        threading.Timer(0.05, go_on.set).start()
        adapter_of(session).shutdown(grace=20.0)

    assert (errors, bodies) == ([], [b"one two"])


def test_close_lets_streams_finish_and_the_adapter_be_used_again(
    server: FaultServer, mount: Mount
) -> None:
    """The close of requests does the same."""
    session = mount()
    go_on = threading.Event()
    server.script(stream([b"one ", go_on, b"two"]))
    response = get(session, server, stream=True)
    session.close()
    assert adapter_of(session).generation > 0
    assert get(session, server).content == b"ok"
    go_on.set()

    assert response.content == b"one two"
    assert server.wait_for_disconnects(1)
    assert adapter_of(session).stats().idle == 1
    assert get(session, server).content == b"ok"
    assert server.accepted == 2


def test_endings_may_be_repeated(fault_server: FaultServer, mount: Mount) -> None:
    """cancel, close, release and shutdown twice are harmless; after shutdown errors are clear."""
    session = mount()
    adapter = adapter_of(session)
    response = get(session, fault_server, stream=True)
    piece = iter_bytes(response)
    for _ in range(2):
        piece.cancel()
        piece.close()
        response.close()
        response.raw.release_conn()
        adapter.close()
        adapter.shutdown()

    with pytest.raises(requests.ConnectionError, match="shut down"):
        get(session, fault_server)
    assert adapter.rotate() is Rotation.CLOSED
    assert fault_server.accepted == 1


# -- failures retire


def test_a_failure_retires_its_origin_only(fault_server_factory: Factory, mount: Mount) -> None:
    """Other origins keep their connections; two requests, one rotation."""
    bad, good = fault_server_factory(), fault_server_factory()
    events: list[Any] = []
    session = mount(observers=[events.append])
    pool_up(session, bad, 1)
    get(session, good)
    bad.kill_idle("reset")
    bad.script(reset())
    get(session, bad)
    get(session, good)

    assert (good.accepted, len(bad.requests)) == (1, 3)
    assert [(event.origin, event.generation) for event in of(events, PoolRotated)] == [(bad.url, 1)]
    assert adapter_of(session).generation == 1


def test_what_is_in_flight_when_its_origin_fails_is_not_pooled(
    server: FaultServer, mount: Mount
) -> None:
    """A stream goes on where another call failed; its connection went into the same network."""
    session = mount(max_retries=RetryPolicy(wait=lambda _: 0.0))
    go_on = threading.Event()
    server.script(stream([b"one ", go_on, b"two"]), reset())
    response = get(session, server, stream=True)
    get(session, server)
    go_on.set()

    assert response.content == b"one two"
    assert server.wait_for_disconnects(2)
    assert [one.ended for one in server.connections] == ["fin", "reset", None]


def test_ten_threads_that_fail_together_rotate_once(
    fault_server: FaultServer, mount: Mount
) -> None:
    """Each knows the generation in which its own connection was dialled."""
    events: list[Any] = []
    budget = None
    session = mount(
        observers=[events.append], max_retries=RetryPolicy(budget=budget, wait=lambda _: 0.0)
    )
    together = threading.Barrier(10)
    seen = iter(range(10))

    def fail_first(_: object) -> Reply:
        if next(seen, None) is None:
            return respond(b"ok")
        together.wait(10)
        return reset()

    fault_server.default = fail_first
    with in_threads(10, lambda _: session.post(fault_server.url)) as errors:
        pass

    assert errors == []
    assert adapter_of(session).generation == 1
    assert len(of(events, PoolRotated)) == 1
    assert len(of(events, AttemptFailed)) == 10


def test_a_failure_of_the_new_generation_rotates_again(
    fault_server: FaultServer, mount: Mount
) -> None:
    """Only a second report of the same generation retires nothing."""
    session = mount(max_retries=RetryPolicy(wait=lambda _: 0.0))
    fault_server.script(reset(), reset())
    get(session, fault_server)

    assert adapter_of(session).generation == 2


def test_a_retry_never_takes_a_pooled_connection(fault_server: FaultServer, mount: Mount) -> None:
    """It does not even take a good one: the cause of the retry may concern them all."""
    session = mount(max_retries=RetryPolicy(wait=lambda _: 0.0, statuses=frozenset({503})))
    pool_up(session, fault_server, 3)
    fault_server.script(respond(status=503))
    session.get(fault_server.url)

    assert fault_server.requests[-1].connection == 4
    assert adapter_of(session).generation == 0


def test_statuses_and_clean_ends_retire_nothing(fault_server: FaultServer, mount: Mount) -> None:
    """They say nothing about connections."""
    session = mount(max_retries=0)
    for status in (401, 429, 500, 503):
        fault_server.script(respond(b"no", status=status))
        get(session, fault_server)

    assert adapter_of(session).generation == 0
    assert fault_server.accepted == 1


def test_a_truncated_answer_retires_nothing(fault_server: FaultServer, mount: Mount) -> None:
    """The peer lied; the path brought every byte."""
    session = mount(max_retries=0)
    fault_server.script(sse({"choices": [{"index": 0, "delta": {"content": "half"}}]}, done=False))
    with pytest.raises(StreamTruncated):
        complete_chat(
            session, fault_server.url, model="m", messages=[{"role": "user", "content": "?"}]
        )

    assert adapter_of(session).generation == 0


def test_a_response_timeout_retires_but_teaches_nothing(
    fault_server: FaultServer, mount: Mount, clock: FakeClock
) -> None:
    """Silence is how a path that drops shows itself; a slow answer says nothing about idleness."""
    session = mount(clock)
    pool_up(session, fault_server, 3)
    fault_server.script(silence())
    with pytest.raises(requests.ReadTimeout):
        get(session, fault_server, timeout=(5, 0.1))

    assert adapter_of(session).generation == 1
    assert adapter_of(session).stats().origins[fault_server.url].window == 10.0
    assert fault_server.wait_for_disconnects(3)


def test_a_deadline_in_silence_on_a_reused_connection_retires(
    fault_server: FaultServer, mount: Mount
) -> None:
    """Otherwise a caller with short deadlines would meet the dead siblings one by one."""
    session = mount()
    pool_up(session, fault_server, 3)
    fault_server.script(silence())
    with pytest.raises(DeadlineExceeded), CancelScope(timeout=0.1):
        get(session, fault_server)

    assert adapter_of(session).generation == 1
    assert fault_server.wait_for_disconnects(3)


def test_a_session_that_is_dropped_leaves_nothing(server: FaultServer) -> None:
    """Scripts do not close their sessions."""
    session = mounted()
    pool_up(session, server, 3)
    session.get_adapter(server.url)
    del session
    gc.collect()

    assert server.wait_for_disconnects(3)


def test_the_state_can_be_read(fault_server: FaultServer, mount: Mount) -> None:
    """A debugger shows the repr: numbers, no URL."""
    session = mount(idempotency_keys="streams")
    response = get(session, fault_server, stream=True)
    get(session, fault_server)
    adapter = adapter_of(session)

    assert repr(adapter) == "<ResilientAdapter generation=0 in_flight=1 idle=1>"
    stats = adapter.stats()
    assert (stats.opened, stats.reused, stats.recycled, stats.stale) == (2, 0, 0, 0)
    assert response.content == b"ok"
    assert repr(adapter) == "<ResilientAdapter generation=0 in_flight=0 idle=2>"
