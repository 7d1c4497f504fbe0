"""One session in many processes and threads: every answer belongs to its question."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import multiprocessing
import os
import pickle
import sys
import threading
from functools import partial
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

import pytest
import requests
import tenacity
import urllib3
from children import PATIENCE, child, forget_by_process_id
from clients import Running, TooSlow, attempts_of, refusing, until
from fake_clock import adapter_of, ask, echoes, in_threads, mounted
from tenacity.wait import wait_base

from resilient_requests import (
    AttemptRecord,
    Cancelled,
    ChatAPIError,
    DeadlineExceeded,
    KeepAlivePolicy,
    ResilientAdapter,
    RetryBudget,
    RetryPolicy,
    StreamBroken,
    StreamError,
    StreamIdle,
    StreamProtocolError,
    StreamTruncated,
    TCPKeepAlive,
    Timeouts,
    iter_bytes,
)
from resilient_requests.call import Origin
from resilient_requests.exceptions import LoopIdle
from resilient_requests.testing import FaultServer, reset, respond, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import SpawnContext

    from resilient_requests.testing import ReceivedRequest, Reply

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
# Python 3.12 warns of the server's threads. The child uses none of them.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


@pytest.fixture(params=["plain", "tls"])
def server(
    request: pytest.FixtureRequest, fault_server_factory: Callable[..., FaultServer]
) -> FaultServer:
    """A server that answers with the path of the request."""
    return echoes(fault_server_factory(tls=request.param == "tls"))


@pytest.fixture
def session(server: FaultServer) -> Iterator[requests.Session]:
    """A session that has an idle connection to the server."""
    with mounted(keepalive=600.0) as session:
        session.verify = server.ca_path or True
        session.get(server.url)
        yield session


@pytest.fixture(params=["hook", "pid check"])
def forgetting(
    request: pytest.FixtureRequest, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the child learn of the fork by the hook, or, as under uWSGI, by its process id alone."""
    if request.param == "pid check":
        forget_by_process_id(monkeypatch)


def bucket_of(adapter: ResilientAdapter, url: str) -> Any:
    """The tokens that retries at a server may cost."""
    return adapter._budgets.bucket(Origin.of(url), RetryBudget(), adapter._clock().boot)


@forks
def test_parent_and_child_get_their_own_answers(
    server: FaultServer, session: requests.Session, forgetting: None
) -> None:
    """Plain requests hands each the other's answers, with status 200."""
    with child(lambda: ask(session, server.url, "child", 100)):
        ask(session, server.url, "parent", 100)

    by_connection: dict[int, set[str]] = {}
    for request in server.requests:
        by_connection.setdefault(request.connection, set()).add(request.path.partition("-")[0])
    assert list(by_connection.values()) == [{"/", "/parent"}, {"/child"}]


@forks
def test_children_of_one_parent_do_not_meet(
    server: FaultServer, session: requests.Session, forgetting: None
) -> None:
    """A prefork server warms its session before it forks the workers.

    They wait for each other: a fork while threads of the server use OpenSSL may copy a lock of it.
    """
    waiting, start = os.pipe()

    def work(name: str) -> None:
        os.read(waiting, 1)
        ask(session, server.url, name, 25)

    with contextlib.ExitStack() as children:
        for number in range(4):
            children.enter_context(child(partial(work, f"c{number}")))
        os.write(start, b"4444")
    os.close(waiting)
    os.close(start)

    assert server.accepted == 5


@forks
def test_a_grandchild_dials_too(
    server: FaultServer, session: requests.Session, forgetting: None
) -> None:
    """The child's own connections are foreign to its children."""

    def work() -> None:
        ask(session, server.url, "child", 2)
        with child(lambda: ask(session, server.url, "grandchild", 10)):
            ask(session, server.url, "child", 10)

    with child(work):
        pass

    assert server.accepted == 3


@forks
@pytest.mark.parametrize("lock", ["state", "tls", "queue", "manager", "bucket", "in-flight call"])
def test_a_lock_held_at_the_fork_does_not_stop_the_child(
    server: FaultServer, session: requests.Session, forgetting: None, lock: str
) -> None:
    """The thread that would release it does not exist there."""
    adapter = adapter_of(session)
    server.script(reset())
    session.get(server.url)  # makes the bucket
    (pool,) = adapter._state.pools()
    streaming: Any = session.get(server.url, stream=True)
    held: Any = {
        "state": lambda: adapter._state._lock,
        "tls": lambda: adapter._state.tls._lock,
        "queue": lambda: pool.pool.mutex,  # type: ignore[attr-defined]
        "manager": lambda: adapter.poolmanager.pools.lock,
        "bucket": lambda: bucket_of(adapter, server.url)._lock,
        "in-flight call": lambda: streaming.raw._original_response.reader.attempt.token._lock,
    }

    def work() -> None:
        ask(session, server.url, "child", 4)
        adapter.rotate()
        adapter.shutdown()

    taken, enough = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        with held[lock]():
            taken.set()
            enough.wait(PATIENCE)

    with in_threads(1, hold) as errors:
        assert taken.wait(5)
        try:
            with child(work):
                pass
        finally:
            enough.set()

    assert errors == []
    assert streaming.content == b"/"


@forks
@pytest.mark.parametrize(
    "end", ["close response", "collect", "close", "shutdown", "rotate", "exit"]
)
def test_what_a_child_ends_goes_on_in_the_parent(
    server: FaultServer, session: requests.Session, forgetting: None, end: str
) -> None:
    """The connection and its TLS state are the parent's: the child sends no FIN."""
    go_on = threading.Event()
    server.script(respond(b"idle"), stream([b"one ", go_on, b"two"]))
    session.get(server.url)
    live = [session.get(server.url, stream=True)]
    adapter = adapter_of(session)

    def work() -> None:
        match end:
            case "close response":
                live.pop().close()
            case "collect":
                live.clear()
                gc.collect()
            case "close":
                session.close()
            case "shutdown":
                adapter.shutdown()
            case "rotate":
                adapter.rotate()

    with child(work):
        pass
    go_on.set()

    assert live[0].content == b"one two"
    ask(session, server.url, "parent", 4)
    assert server.accepted == 1


@forks
@pytest.mark.parametrize("end", ["close", "leave", "read", "collect"])
def test_a_child_leaves_the_limits_of_its_parents_readers_alone(
    server: FaultServer, session: requests.Session, forgetting: None, end: str
) -> None:
    """The options of a socket are shared, and so is whether it blocks."""
    go_on = threading.Event()
    server.script(stream([b"one\n", go_on, b"two\n"], ending="silence"))
    live = [session.get(server.url, stream=True, timeout=(3, 0.5))]
    reader: Any = live[0].raw._original_response.reader
    reading = Running(lambda: list(live[0].iter_lines()))
    until(lambda: reader._is_waiting and reader.attempt.bytes_received)

    def work() -> None:
        match end:
            case "close":
                live[0].close()
            case "leave":
                with pytest.raises(SystemExit), live[0]:
                    sys.exit(0)
            case "read":
                with pytest.raises(StreamBroken):
                    next(live[0].iter_content(1))
            case "collect":
                live.clear()
                gc.collect()

    with child(work):
        pass
    go_on.set()

    reading.seconds_to_end()
    assert isinstance(reading.error, StreamIdle)


@forks
def test_a_child_leaves_another_adapters_socket_as_it_is(server: FaultServer) -> None:
    """A parent that waits without a limit would be told at once that it has waited."""
    go_on = threading.Event()
    server.script(stream([b"one ", go_on, b"two"]))
    with requests.Session() as plain:
        plain.verify = server.ca_path or True
        pieces = iter_bytes(plain.get(server.url, stream=True))

        def work() -> None:
            with pytest.raises(StreamBroken):
                next(pieces)

        with child(work):
            pass
        reading = Running(lambda: b"".join(pieces))
        with contextlib.suppress(TooSlow):
            reading.seconds_to_end(0.1)
        go_on.set()
        reading.seconds_to_end()

    assert reading.value == b"one two"


@forks
def test_the_budget_of_a_child_is_full(
    server: FaultServer, session: requests.Session, forgetting: None
) -> None:
    """The tokens that the parent has spent are no debt of its workers."""
    adapter = adapter_of(session)
    bucket = bucket_of(adapter, "http://a:1")
    assert bucket.withdraw(10, adapter._clock().boot)

    def work() -> None:
        ask(session, server.url, "child", 1)
        assert bucket_of(adapter, "http://a:1").tokens(adapter._clock().boot) == 10

    with child(work):
        pass
    assert bucket.tokens(adapter._clock().boot) < 5


@forks
def test_the_hook_needs_no_call(server: FaultServer, session: requests.Session) -> None:
    """A child that never sends holds nothing of its parent's either."""

    def work() -> None:
        assert adapter_of(session).stats().idle == 0

    with child(work):
        pass
    assert adapter_of(session).stats().idle == 1


@forks
def test_a_pool_that_was_looked_up_before_the_fork_dials_too(
    server: FaultServer, session: requests.Session, forgetting: None
) -> None:
    """The fork lies between look-up and checkout, or somebody keeps the pool."""
    (pool,) = adapter_of(session)._state.pools()
    assert isinstance(pool, urllib3.HTTPConnectionPool)

    def work() -> None:
        for number in range(4):
            assert pool.urlopen("GET", f"/{number}", retries=False).data == b"/%d" % number

    with child(work):
        pass
    ask(session, server.url, "parent", 4)
    assert server.accepted == 2


@forks
def test_threads_of_a_child_forget_its_parent_once(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second thread must not use, or drop, state that is half made."""
    forget_by_process_id(monkeypatch)
    adapter = adapter_of(session)
    begun, go_on, passed = threading.Event(), threading.Event(), threading.Event()
    forget = adapter._state._forget
    times: list[int] = []

    def slowly() -> None:
        times.append(os.getpid())
        begun.set()
        assert go_on.wait(PATIENCE)
        forget()

    def come(number: int) -> None:
        if number:
            assert begun.wait(PATIENCE)
        adapter.stats()
        if number:
            passed.set()

    def work() -> None:
        monkeypatch.setattr(adapter._state, "_forget", slowly)
        with in_threads(2, come) as errors:
            try:
                assert begun.wait(PATIENCE)
                assert not passed.wait(0.1)
            finally:
                go_on.set()
        assert errors == []
        assert times == [os.getpid()]

    with child(work):
        pass


def test_a_child_closes_its_copies_of_idle_connections(
    server: FaultServer, session: requests.Session
) -> None:
    """Otherwise each worker holds a descriptor per connection that its parent once had."""
    kept = [session.get(server.url, stream=True) for _ in range(3)]
    assert [response.content for response in kept] == [b"/"] * 3
    adapter_of(session)._state.process.forked()

    assert server.wait_for_disconnects(3)


@forks
def test_an_adapter_made_after_the_fork_is_at_home(server: FaultServer) -> None:
    """In the child nothing is foreign to it."""

    def work() -> None:
        with mounted() as session:
            session.verify = server.ca_path or True
            ask(session, server.url, "child", 10)

    with child(work):
        pass
    assert server.accepted == 1


# -- pickle and copy


@pytest.fixture(scope="module")
def spawn() -> SpawnContext:
    """Processes that start from nothing.

    Python keeps one helper process for them, which is no leak of ours.
    """
    resource_tracker.ensure_running()
    return multiprocessing.get_context("spawn")


@pytest.mark.slow
def test_a_session_travels_to_a_spawned_process(
    spawn: SpawnContext, server: FaultServer, session: requests.Session
) -> None:
    """On macOS and Windows multiprocessing spawns, and so does Celery with its solo pool."""
    process = spawn.Process(
        target=ask, args=(session, server.url, "spawned", 10, server.ca_path or True)
    )
    process.start()
    process.join(PATIENCE)
    code = process.exitcode
    process.close()

    assert code == 0
    assert server.accepted == 2


def _pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


SETTINGS: dict[str, Any] = {
    "pool_connections": 3,
    "pool_maxsize": 4,
    "max_retries": RetryPolicy(
        max_retries=5,
        wait=tenacity.wait_fixed(1),
        retry_response_timeout=True,
        statuses=frozenset({503}),
        budget=RetryBudget(capacity=3),
    ),
    "pool_block": True,
    "keepalive": KeepAlivePolicy(expiry=7.0, max_age=70.0, hint_margin=1.0, adaptive=False),
    "timeouts": Timeouts(connect=1.0, write=2.0, response=3.0, idle=4.0, total=5.0),
    "idempotency_keys": False,
    "tcp_keepalive": TCPKeepAlive(idle=30, interval=6, count=2, user_timeout=None),
    "observers": (id,),  # a function that pickles
}


def comparable(value: object) -> object:
    """A value that can be compared: a waiting strategy and a Retry of urllib3 have no equality."""
    if isinstance(value, (RetryPolicy, urllib3.Retry, wait_base)):
        return type(value), {name: comparable(each) for name, each in vars(value).items()}
    return value


def settings_of(adapter: ResilientAdapter) -> dict[str, Any]:
    """All that the constructor was told."""
    return {name: comparable(getattr(adapter, name)) for name in ResilientAdapter.__attrs__}


COPIES = pytest.mark.parametrize(
    "copied", [_pickled, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"]
)


@COPIES
@pytest.mark.parametrize(
    "options", [SETTINGS, {}, {"tcp_keepalive": None}], ids=["all", "defaults", "no-keepalive"]
)
def test_a_copy_of_an_adapter_keeps_all_settings(
    copied: Callable[[Any], Any], options: dict[str, Any]
) -> None:
    """A worker behaves as its parent was told to."""
    adapter = ResilientAdapter(**options)
    other = copied(adapter)

    assert settings_of(other) == settings_of(adapter)
    assert other.poolmanager.connection_pool_kw == adapter.poolmanager.connection_pool_kw
    assert type(other) is ResilientAdapter


def test_a_translated_retry_survives() -> None:
    """A worker waits and gives up as its parent would."""
    adapter = ResilientAdapter(
        max_retries=urllib3.Retry(3, backoff_factor=0.5, status_forcelist=[503])
    )

    assert settings_of(_pickled(adapter)) == settings_of(adapter)


def test_the_environment_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was read when the adapter was built, elsewhere perhaps."""
    monkeypatch.setenv("RESILIENT_REQUESTS_KEEPALIVE", "3")
    monkeypatch.setenv("RESILIENT_REQUESTS_DISABLE", "1")
    adapter = ResilientAdapter()
    monkeypatch.setenv("RESILIENT_REQUESTS_KEEPALIVE", "4")
    monkeypatch.delenv("RESILIENT_REQUESTS_DISABLE")

    assert settings_of(_pickled(adapter)) == settings_of(adapter)
    assert _pickled(adapter)._keepalive.expiry == 3.0


@COPIES
def test_a_copy_shares_nothing_that_is_alive(
    server: FaultServer, session: requests.Session, copied: Callable[[Any], Any]
) -> None:
    """Pools, locks, generation and budget are each adapter's own; the original goes on."""
    other = requests.Session()
    adapter = adapter_of(session)
    streaming = session.get(server.url, stream=True)
    adapter.rotate()
    other.mount("http://", clone := copied(adapter))
    other.mount("https://", clone)
    with other:
        ask(other, server.url, "copy", 4, verify=server.ca_path or True)
        assert repr(clone).startswith("<ResilientAdapter generation=0 in_flight=0 idle=1 ")
    ask(session, server.url, "original", 4)

    assert streaming.content == b"/"
    assert server.accepted == 3


def test_a_copied_session_shares_its_adapter(
    server: FaultServer, session: requests.Session
) -> None:
    """``copy.copy(session)`` is shallow in requests too."""
    other = copy.copy(session)

    assert other.get_adapter(server.url) is session.get_adapter(server.url)


@pytest.mark.parametrize("copied", [_pickled, copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_session_in_use_can_be_copied(
    server: FaultServer, session: requests.Session, copied: Callable[[Any], Any]
) -> None:
    """The session has idle connections and one in flight."""
    streaming = session.get(server.url, stream=True)
    with copied(session) as other:
        ask(other, server.url, "copy", 4)

    assert streaming.content == b"/"
    assert server.accepted == 2


# -- errors travel

NO_POOL: Any = None
RECORD = AttemptRecord(
    number=1,
    reused=True,
    idle_for=1.5,
    phase="wait",
    bytes_sent=10,
    bytes_received=0,
    status=None,
    error="ConnectionError(ECONNRESET)",
    elapsed=0.1,
    stopped_by="policy",
)
FACTS: dict[str, Any] = {
    "bytes_received": 7,
    "events_received": 2,
    "elapsed": 1.5,
    "partial": {"content": "half"},
}
ERRORS = [
    StreamError("failed", **FACTS),
    StreamIdle(idle_timeout=30.0, clock="events", **FACTS),
    StreamIdle("other words", clock="bytes", **FACTS),
    LoopIdle(urllib3.exceptions.ReadTimeoutError(NO_POOL, "", "silent"), **FACTS),
    StreamBroken("broken", **FACTS),
    StreamTruncated("truncated", **FACTS),
    StreamProtocolError("what", **FACTS),
    ChatAPIError(
        "overloaded", type="overloaded_error", code=529, transient=True, partial={"content": "half"}
    ),
    DeadlineExceeded(),
    DeadlineExceeded("the time is up"),
    Cancelled(),
    Cancelled("enough", partial={"content": "half"}),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_of_ours_survives_pickle(error: Any, protocol: int) -> None:
    """Celery and multiprocessing hand errors over so; one that does not pickle hides itself."""
    error.attempts = (RECORD,)
    other = pickle.loads(pickle.dumps(error, protocol))

    assert type(other) is type(error)
    assert (str(other), repr(other.args)) == (str(error), repr(error.args))
    assert vars(other) == vars(error)
    with pytest.raises(type(error)):
        raise other


def test_an_error_leaves_its_response_behind() -> None:
    """A socket cannot travel, and a reference to it must not make the error unpicklable."""
    response: Any = requests.Response()
    response.raw = threading.Lock()
    response.request = requests.Request("POST", "http://a/", data=iter([b"x"])).prepare()
    other = _pickled(StreamBroken("broken", response=response))

    assert (other.response, other.request) == (None, None)


def test_errors_of_real_calls_survive_pickle(
    server: FaultServer, session: requests.Session
) -> None:
    """They are the original of requests, with each attempt, and a broken stream."""
    server.script(reset(), reset(), reset(), reset(), respond(b"x" * 10, cut=5))
    with pytest.raises(requests.ConnectionError) as failure:
        session.post(server.url, data=b"x")
    with pytest.raises(StreamBroken) as broken:
        session.get(server.url, stream=True, timeout=5).content  # noqa: B018

    errors: list[Any] = [failure.value, broken.value]
    for error in errors:
        other = _pickled(error)
        assert type(other) is type(error)
        assert other.attempts == error.attempts
    assert len(attempts_of(failure.value)) == 3


def _parts() -> Iterator[bytes]:
    yield b"x"


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ({"data": b"x"}, b"x"),
        ({"data": bytearray(b"x")}, b"x"),
        ({"data": "x"}, "x"),
        ({"data": _parts()}, None),
        ({"data": memoryview(b"x")}, None),
        ({"data": b"x", "hooks": {"response": lambda response, **_: response}}, b"x"),
        ({"data": b"x", "auth": requests.auth.HTTPDigestAuth("a", "b")}, b"x"),
    ],
    ids=["bytes", "bytearray", "str", "generator", "memoryview", "hook", "digest"],
)
def test_an_error_takes_of_its_request_what_can_travel(options: Any, body: Any) -> None:
    """A file, a generator or a hook must not make it unpicklable; here they are still on it."""
    with refusing() as url, mounted() as session, pytest.raises(requests.ConnectionError) as caught:
        session.post(url, headers={"X-Mine": "1"}, **options)
    error: Any = caught.value
    other: Any = _pickled(error)

    assert (type(other), other.attempts) == (type(error), error.attempts)
    assert (other.request.method, other.request.url) == (error.request.method, error.request.url)
    assert other.request.headers["X-Mine"] == "1"
    assert other.request.body == body
    assert error.request.body == options["data"]
    assert bool(error.request.hooks["response"]) == ("hooks" in options or "auth" in options)


def test_an_error_takes_a_response_whose_request_cannot_travel(server: FaultServer) -> None:
    """One of requests' errors has both."""
    server.default = respond(b"busy", status=503)
    retry = urllib3.Retry(0, status_forcelist=[503])
    with mounted(max_retries=retry) as session, io.BytesIO(b"x") as file:
        with pytest.raises(requests.exceptions.RetryError) as caught:
            session.put(server.url, data=file, verify=server.ca_path or True)
        other: Any = _pickled(caught.value)

    assert other.response.content == b"busy"
    assert (other.request.body, other.response.request.body) == (None, None)


# -- threads


def test_every_thread_gets_its_own_answers(server: FaultServer, session: requests.Session) -> None:
    """16 threads, one session, fewer places in the pool than threads."""
    with in_threads(16, lambda number: ask(session, server.url, f"t{number}", 25)) as errors:
        pass

    assert errors == []
    assert len(server.requests) == 16 * 25 + 1
    stats = adapter_of(session).stats()
    assert (stats.in_flight, stats.opened) == (0, server.accepted)
    assert stats.idle <= 10


def _rotate(adapter: ResilientAdapter) -> None:
    adapter.rotate(adapter.generation)


@pytest.mark.slow
@pytest.mark.parametrize("end", [_rotate, ResilientAdapter.close], ids=["rotate", "close"])
def test_calls_do_not_notice_rotations(
    server: FaultServer, session: requests.Session, end: Callable[[ResilientAdapter], None]
) -> None:
    """Their connections are retired again and again: no error, no wrong answer, nothing left."""
    adapter = adapter_of(session)
    done = threading.Event()

    def work(number: int) -> None:
        if number:
            ask(session, server.url, f"t{number}", 25)
            return
        while not done.wait(0.001):
            end(adapter)

    with in_threads(9, work) as errors:
        server.wait_for_requests(8 * 25 + 1, timeout=PATIENCE)
        done.set()
    adapter.close()

    assert errors == []
    assert adapter.generation > 3
    assert (adapter.stats().in_flight, adapter.stats().idle) == (0, 0)
    assert server.wait_for(lambda one: one.open_connections == 0)


def test_streams_do_not_notice_rotations(server: FaultServer, session: requests.Session) -> None:
    """Each body is read while other threads retire its connection."""
    adapter = adapter_of(session)
    server.default = lambda request: stream([request.target.encode()] * 20)

    def work(number: int) -> None:
        for turn in range(10):
            target = f"/{number}-{turn}"
            with session.get(server.url + target, stream=True) as response:
                _rotate(adapter)
                assert b"".join(response.iter_content(None)) == target.encode() * 20

    with in_threads(6, work) as errors:
        pass

    assert errors == []
    assert adapter.stats().in_flight == 0


def test_failures_of_one_thread_do_not_reach_the_others(
    server: FaultServer, session: requests.Session
) -> None:
    """Every tenth request is reset: connections are retired all the time, and answers are right."""
    session.close()
    policy = RetryPolicy(max_retries=5, budget=None, wait=tenacity.wait_none())
    adapter = ResilientAdapter(max_retries=policy, idempotency_keys=True)
    session.mount("http://", adapter)
    session.mount("https://", adapter)

    def answer(request: ReceivedRequest) -> Reply:
        return (
            reset() if request.number % 10 == 0 else respond(request.target.encode() + request.body)
        )

    server.default = answer
    with in_threads(8, lambda number: ask(session, server.url, f"t{number}", 25)) as errors:
        pass

    assert errors == []
    assert adapter.generation > 0
    assert adapter.stats().in_flight == 0
