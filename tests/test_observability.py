"""Operators see the trace of a call, stalls while they last, statistics, and never a secret."""

from __future__ import annotations

import itertools
import logging
import threading
import timeit
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from clients import Client, Running, in_time, until
from fake_clock import FakeClock, adapter_of, forgets, mounted
from proxies import HTTPProxy

from resilient_requests import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    ByteStream,
    ChatAPIError,
    ConnectionOpened,
    ConnectionRecycled,
    KeepAlivePolicy,
    PoolRotated,
    ResilientAdapter,
    RetryDenied,
    RetryPolicy,
    RetryScheduled,
    StreamEnded,
    StreamIdle,
    StreamProtocolError,
    Timeouts,
    complete_chat,
    iter_bytes,
    iter_events,
    stream_chat,
)
from resilient_requests.call import Observers, Origin, Phase
from resilient_requests.testing import FaultServer, reset, respond, silence, sse, stream
from resilient_requests.transport._stats import AdapterStats, OriginStats, hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = "hunter2"
ANSWER = "correct-horse"  # stands in the server's answer
OURS = "resilient_requests"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "observability.md"


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Our own records at WARNING and above."""
    return [
        each
        for each in caplog.records
        if each.name.startswith(OURS) and each.levelno >= logging.WARNING
    ]


# -- the story of a call


def test_a_fresh_connection_tells_its_times(server: FaultServer) -> None:
    """A slow call is one of DNS and TCP, of TLS, or of the server: the figures tell them apart."""
    with Client(server) as client:
        client.get()
    (opened,) = client.told(ConnectionOpened)

    assert 0 < opened.connect <= opened.elapsed
    assert opened.connect + opened.handshake == pytest.approx(opened.elapsed)
    assert opened.tls == ("TLSv1.3" if server.ca_path else None)
    if server.ca_path:
        assert opened.handshake > 0


def test_a_tunnel_counts_as_handshake(fault_server_tls: FaultServer) -> None:
    """The proxy's connection is up when CONNECT is sent."""
    with HTTPProxy() as proxy, Client(fault_server_tls) as client:
        client.session.proxies = {"https": proxy.url}
        client.get()
    (opened,) = client.told(ConnectionOpened)

    assert 0 < opened.handshake < opened.elapsed
    assert opened.tls == "TLSv1.3"


def test_attempts_tell_method_and_bytes(server: FaultServer) -> None:
    """A failed attempt has them, too, since half a request sent is another story than none."""
    server.script(reset(), respond(b"answer"))
    with Client(server) as client:
        client.post()
    (failed,), (succeeded,) = client.told(AttemptFailed), client.told(AttemptSucceeded)

    assert failed.method == succeeded.method == "POST"
    assert failed.bytes_sent > 0
    assert succeeded.bytes_received > len(b"answer")


def test_a_stream_tells_how_it_came(server: FaultServer) -> None:
    """First byte, first event and longest gap show the cause and the length of a wait."""
    server.script(sse(0.05, "one", 0.15, "two", done=False))
    with (
        Client(server) as client,
        client.get(stream=True) as response,
        iter_events(response) as events,
    ):
        assert len(list(events)) == 2
    (ended,) = client.told(StreamEnded)

    assert ended.complete
    assert ended.error is None
    assert ended.events_received == 2
    assert ended.first_byte is not None
    assert ended.first_event is not None
    assert 0.04 < ended.first_byte <= ended.first_event < ended.elapsed
    assert 0.1 < ended.longest_gap < ended.elapsed - 0.02


def test_the_consumer_is_no_gap(fault_server: FaultServer) -> None:
    """Time that the application takes between two items is not the network's doing."""
    fault_server.script(stream([b"one", 0.02, b"two"]))
    with Client(fault_server) as client, client.get(stream=True) as response:
        items = response.iter_content(None)
        next(items)
        threading.Event().wait(0.2)
        list(items)

    in_time(client.told(StreamEnded)[0].longest_gap, 0.15)


def test_a_stream_that_is_closed_early_was_not_complete(server: FaultServer) -> None:
    """No error, and yet not the end."""
    server.script(stream([b"one", b"two"], ending="silence"))
    with (
        Client(server) as client,
        client.get(stream=True) as response,
        iter_bytes(response) as items,
    ):
        next(items)
    (ended,) = client.told(StreamEnded)

    assert (ended.complete, ended.error, ended.first_event) == (False, None, None)


@pytest.mark.parametrize("begins", [False, True])
def test_a_response_that_is_closed_early_was_not_complete(
    server: FaultServer, begins: bool
) -> None:
    """A with block around a legacy loop is the usual way to leave one."""
    server.script(stream([b"one\n", b"two\n"], ending="silence"))
    with Client(server) as client, client.get(stream=True) as response:
        if begins:
            next(response.iter_lines())
        response.close()
        response.close()
    (ended,) = client.told(StreamEnded)

    assert (ended.complete, ended.error) == (False, None)
    assert (ended.first_byte is not None) is begins


def test_a_stream_without_a_byte_has_no_first_byte(server: FaultServer) -> None:
    """None, and not 0."""
    server.script(stream([], ending="silence"))
    with (
        Client(server, timeouts=Timeouts(idle=0.05)) as client,
        client.get(stream=True) as response,
    ):
        items = response.iter_content(None)
        with pytest.raises(StreamIdle):
            next(items)
    (ended,) = client.told(StreamEnded)

    assert (ended.first_byte, ended.error, ended.complete) == (None, "StreamIdle", False)
    assert ended.longest_gap == pytest.approx(0.05, abs=0.04)


def test_loops_over_one_response_are_one_story(fault_server: FaultServer) -> None:
    """The first loop stops after a block, the next goes on there."""
    fault_server.script(stream([0.05, b"one\n", 0.02, b"two\n"], content_type="text/plain"))
    with Client(fault_server) as client, client.get(stream=True) as response:
        assert next(response.iter_content(2)) == b"on"
        list(response.iter_content(2))
    ended = client.told(StreamEnded)

    assert len(ended) == 1
    assert ended[0].first_byte is not None
    assert ended[0].first_byte < ended[0].elapsed - 0.01
    assert ended[0].longest_gap > 0.04


def test_recycling_tells_its_reason() -> None:
    """Each connection that is not used again says why."""
    with FaultServer() as server:
        clock, told = FakeClock(), list[Any]()
        with mounted(clock, observers=[told.append]) as session:
            session.get(server.url)
            clock.advance(10.0)
            session.get(server.url)
            server.kill_idle("fin")
            until(lambda: server.open_connections == 0)
            session.get(server.url)
    recycled = [event for event in told if isinstance(event, ConnectionRecycled)]

    assert [(event.reason, event.idle_for) for event in recycled] == [
        ("idle window", 10.0),
        ("closed by the peer, or unread bytes", 0.0),
    ]


def test_the_page_names_every_phase() -> None:
    """A user who counts by phase needs to know them all."""
    text = PAGE.read_text(encoding="utf-8")
    _, _, told = text.partition("`phase` is one of")

    assert [
        phase.value for phase in Phase if f'"{phase.value}"' not in told.partition(".")[0]
    ] == []


def test_a_rotation_tells_how_many_it_closed(fault_server: FaultServer) -> None:
    """The connections that lay idle are gone without an event of their own."""
    with Client(fault_server) as client:
        client.warm()
        client.adapter.rotate()
    (rotated,) = client.told(PoolRotated)

    assert (rotated.origin, rotated.closed, rotated.reason) == ("*", 1, "rotate()")


def test_a_recovered_reset_shows_once_everywhere(
    server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It shows in the log, the events and the statistics, with the idle age."""
    with caplog.at_level(logging.DEBUG, OURS), Client(server) as client:
        client.warm()
        server.script(reset(applies=False))
        assert client.post().status_code == 200
        stats = client.adapter.stats()
    (failed,), (warning,) = client.told(AttemptFailed), warnings_of(caplog)
    place = stats.origins[server.url]

    assert failed.reused
    assert failed.idle_for is not None
    assert warning.name == f"{OURS}.retry"
    assert warning.__dict__[f"{OURS}.idle_for"] == failed.idle_for
    assert f"idle_for={round(failed.idle_for, 3)})" in warning.getMessage()
    assert (stats.stale, stats.retries, place.youngest_stale) == (1, 1, failed.idle_for)


@pytest.mark.parametrize("part", ["pool", "attempt", "stream"])
def test_a_part_of_the_log_can_be_asked_for(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    """DEBUG for one child logger is heard, though the one above it is not at DEBUG."""
    with caplog.at_level(logging.DEBUG, f"{OURS}.{part}"), mounted() as session:
        assert session.get(fault_server.url, stream=True).content == b"ok"

    ours = {each.name for each in caplog.records if each.name.startswith(OURS)}
    assert ours == {f"{OURS}.{part}"}


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        (AttemptStarted, logging.DEBUG),
        (AttemptSucceeded, logging.DEBUG),
        (AttemptFailed, logging.DEBUG),
        (RetryScheduled, logging.WARNING),
        (RetryDenied, logging.INFO),
        (ConnectionOpened, logging.DEBUG),
        (ConnectionRecycled, logging.DEBUG),
        (PoolRotated, logging.INFO),
        (StreamEnded, logging.DEBUG),
    ],
)
def test_levels_that_an_operator_can_live_with(
    kind: Any, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A recovered failure is one WARNING; DEBUG has the detail."""
    event = kind(**{field.name: 1 for field in fields(kind)})
    with caplog.at_level(level, OURS):
        Observers().tell(event)
    (record,) = [each for each in caplog.records if each.name.startswith(OURS)]
    caplog.clear()
    with caplog.at_level(level + 1, OURS):
        Observers().tell(event)

    assert record.levelno == level
    assert record.getMessage()
    assert {f"{OURS}.{field.name}" for field in fields(kind)} <= set(record.__dict__)
    assert caplog.records == []
    assert Observers().wants(kind) is (level >= logging.WARNING)


def test_asking_whether_anybody_listens_costs_next_to_nothing() -> None:
    """It is a call of any function; the benchmarks measure the goal, which is 0.3 µs."""
    emitter, kinds = Observers(), frozenset({AttemptStarted})

    def seconds(function: Callable[[], object]) -> float:
        return min(timeit.repeat(function, number=2000, repeat=7))

    in_time(
        seconds(lambda: emitter.wants(AttemptStarted)),
        10 * seconds(lambda: AttemptStarted in kinds),
    )


# -- stalls


@pytest.mark.parametrize("observed", [False, True])
def test_a_stall_is_told_once_while_it_lasts(
    server: FaultServer, caplog: pytest.LogCaptureFixture, *, observed: bool
) -> None:
    """The report comes after a third of the limit, while there is something to look at."""
    resume = threading.Event()

    def resume_once_told() -> None:
        until(lambda: warnings_of(caplog))
        resume.set()

    server.script(stream([b"one", resume, b"two", 0.05, b"three"]))
    options: dict[str, Any] = {"observers": [lambda event: None]} if observed else {}
    with mounted(timeouts=Timeouts(idle=0.6), **options) as session:
        waiter = Running(resume_once_told)
        with session.get(server.url, stream=True, verify=server.ca_path or True) as response:
            body = b"".join(response.iter_content(None))
        waiter.seconds_to_end()
    (record,) = warnings_of(caplog)

    assert body == b"onetwothree"
    assert record.getMessage().startswith("stream stalled: no byte from ")
    assert record.name == f"{OURS}.stream"
    assert record.__dict__[f"{OURS}.silence"] == pytest.approx(0.2, abs=0.15)
    assert record.__dict__[f"{OURS}.idle_timeout"] == 0.6
    assert record.__dict__[f"{OURS}.origin"] == server.url


def limit_of(stream: ByteStream) -> float | None:
    """The timeout of the last read."""
    assert stream._reader._socket is not None
    return stream._reader._socket.limit


@pytest.mark.parametrize("options", [{}, {"heartbeat": 0.03}], ids=["plain", "heartbeat"])
def test_a_stall_that_goes_on_ends_at_the_limit(
    server: FaultServer, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    """Looking earlier does not make the limit longer."""
    server.script(stream([b"one"], ending="silence"))
    with mounted(timeouts=Timeouts(idle=0.15)) as session:
        response = session.get(server.url, stream=True, verify=server.ca_path or True)
        with (
            response,
            iter_bytes(response, **options) as items,
            pytest.raises(StreamIdle) as caught,
        ):
            list(items)

    assert caught.value.idle_timeout == 0.15
    assert in_time(caught.value.elapsed, 0.6) > 0.14
    assert options or limit_of(items) == pytest.approx(0.1, abs=0.03)  # the rest
    assert len([each for each in warnings_of(caplog) if each.name.endswith("stream")]) == 1


def test_a_buffered_body_that_stalls_is_told_too(
    server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    """With stream=False nobody else could see it."""
    server.script(respond(b"whole", cut=2, ending="silence"))
    with (
        mounted(timeouts=Timeouts(idle=0.15), max_retries=0) as session,
        pytest.raises(requests.ConnectionError),
    ):
        session.get(server.url, verify=server.ca_path or True)

    assert [each.name for each in warnings_of(caplog)] == [f"{OURS}.stream"]


def test_nobody_is_told_of_a_stall_where_warnings_are_off(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The socket is asked once, with the whole limit."""
    fault_server.script(stream([b"one"], ending="silence"))
    with caplog.at_level(logging.ERROR, OURS), mounted(timeouts=Timeouts(idle=0.1)) as session:
        items = iter_bytes(session.get(fault_server.url, stream=True))
        next(items)
        with pytest.raises(StreamIdle):
            next(items)

    assert limit_of(items) == 0.1
    assert warnings_of(caplog) == []


# -- statistics


def test_statistics_say_what_to_set() -> None:
    """The hint of a real run: a path that forgets at once, and a window that is too wide for it."""
    clock = FakeClock()
    policy = KeepAlivePolicy(expiry=60.0, adaptive=False)
    with FaultServer() as server, mounted(clock, keepalive=policy) as session:
        forgets(server)
        for _ in range(4):
            session.get(server.url)
            clock.advance(31.5)
        stats = adapter_of(session).stats()
    origin = stats.origins[server.url]

    assert (stats.stale, stats.retries, origin.youngest_stale) == (3, 3, 31.5)
    assert (
        origin.hint
        == "3 of 3 reuses older than 31 s were reset: keepalive=10 would have avoided them"
    )
    assert str(origin.hint) in repr(stats)


@pytest.mark.parametrize(
    ("good", "dead", "said"),
    [
        (
            [5, 32, 35],
            [31.4] * 9,
            "9 of 11 reuses older than 31 s were reset: keepalive=10 would have avoided them",
        ),
        (
            [31.2],
            [31.4] * 3,
            "3 of 4 reuses older than 31 s were reset: keepalive=10 would have avoided them",
        ),
        (
            [],
            [8.0] * 3,
            "3 of 3 reuses older than 8 s were reset: keepalive=4 would have avoided them",
        ),
        (
            [],
            [1.234] * 3,
            "3 of 3 reuses older than 1.23 s were reset: keepalive=0.61 would have avoided them",
        ),
        ([], [31.0] * 2, None),
        (
            [40] * 3,
            [31.0] * 3,
            "3 of 6 reuses older than 31 s were reset: keepalive=10 would have avoided them",
        ),
        ([40] * 4, [31.0] * 3, None),
        ([40] * 40, [], None),
    ],
)
def test_the_hint(good: list[float], dead: list[float], said: str | None) -> None:
    """Only where the figures say so: three that died, and at least half of those as old."""
    assert hint([(age, False) for age in good] + [(age, True) for age in dead]) == said


def test_statistics_can_be_read() -> None:
    """One line for the whole, and one for each origin."""
    calm = OriginStats(
        opened=1,
        reused=9,
        recycled=0,
        stale=0,
        retries=0,
        window=10.0,
        youngest_stale=None,
        hint=None,
    )
    bad = OriginStats(
        opened=4,
        reused=3,
        recycled=1,
        stale=2,
        retries=2,
        window=2.5,
        youngest_stale=5.25,
        hint="set it",
    )
    stats = AdapterStats(
        generation=3,
        in_flight=1,
        idle=2,
        origins={"https://a.example:443": calm, "http://b.example:80": bad},
    )

    assert repr(stats).splitlines() == [
        (
            "<AdapterStats generation=3 in_flight=1 idle=2 "
            "opened=5 reused=12 recycled=1 stale=2 retries=2"
        ),
        "  https://a.example:443 opened=1 reused=9 recycled=0 stale=0 retries=0 window=10",
        (
            "  http://b.example:80 opened=4 reused=3 recycled=1 stale=2 retries=2 "
            "window=2.5 youngest_stale=5.25 (set it)>"
        ),
    ]
    assert repr(calm) == "<OriginStats opened=1 reused=9 recycled=0 stale=0 retries=0 window=10>"


def test_reuses_that_were_good_count_against_the_hint() -> None:
    """A path that kept four connections for longer has not forgotten the three that died."""
    adapter = ResilientAdapter()
    place = Origin("http", "host", 80)
    for _ in range(3):
        adapter._state.stale(place, 31.0)
    before = adapter.stats().origins["http://host:80"].hint
    for _ in range(4):
        adapter._state.good(place, 40.0)

    assert before is not None
    assert adapter.stats().origins["http://host:80"].hint is None


def test_the_memory_of_reuses_is_bounded() -> None:
    """An adapter lives for months."""
    adapter = ResilientAdapter()
    origin = Origin("http", "host", 80)
    for _ in range(5000):
        adapter._state.good(origin, 1.0)

    assert len(adapter._state._origins.of(origin)._ages) < 1000


# -- secrets

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": SECRET}]}
ERROR = {
    "error": {"type": f"server_{ANSWER}", "code": ANSWER, "message": f"no access for {ANSWER}"}
}
REPLIES = {
    "success": [respond(ANSWER.encode(), headers={"Set-Cookie": f"s={ANSWER}", "X-Key": ANSWER})],
    "recovered": [reset(), respond(b"ok")],
    "failed": [reset()] * 3,
    "refused by status": [respond(ANSWER, status=503, reason=ANSWER)] * 3,
    "not understood": [respond(ANSWER, cut=("head", 20), ending="fin")] * 3,
    "silent": [silence()] * 3,
    "body cut": [respond(ANSWER * 9, cut=5)] * 3,
    "body stalled": [respond(ANSWER * 9, cut=7, ending="silence")] * 3,
    "stream": [sse({"data": ANSWER})],
    "stream cut": [sse({"data": ANSWER}, ending="reset")],
    "stream stalled": [sse({"data": ANSWER}, ending="silence")],
    "bad chunks": [stream([ANSWER.encode()], framing="close", content_type=f"text/{ANSWER}")],
    "not gzip": [respond(ANSWER, headers={"Content-Encoding": "gzip"})],
    "chat error": [sse(ERROR)],
    "chat nonsense": [sse(f"{ANSWER} is no JSON")],
}


def use(session: requests.Session, url: str, *, stream: bool) -> None:
    """Make a call with secrets everywhere, and read the answer."""
    response = session.post(
        f"{url}/{SECRET}?key={SECRET}#{SECRET}",
        data=SECRET,
        headers={"Authorization": f"Bearer {SECRET}", "X-Key": SECRET, "Idempotency-Key": SECRET},
        cookies={"session": SECRET},
        stream=stream,
    )
    with response:
        if stream and response.headers.get("Content-Type") == "text/event-stream":
            with iter_events(response) as events:
                list(events)
        else:
            list(response.iter_lines())


def chat(session: requests.Session, url: str, *, buffered: bool) -> None:
    """Make a chat call with secrets everywhere."""
    headers = {"Authorization": f"Bearer {SECRET}"}
    address = f"{url}/{SECRET}?key={SECRET}"
    if buffered:
        complete_chat(session, address, headers=headers, user=SECRET, **CHAT)
        return
    with stream_chat(session, address, headers=headers, user=SECRET, **CHAT) as answer:
        list(answer)


CALLS: dict[str, Callable[[requests.Session, str], None]] = {
    "buffered": lambda session, url: use(session, url, stream=False),
    "streamed": lambda session, url: use(session, url, stream=True),
    "stream_chat": lambda session, url: chat(session, url, buffered=False),
    "complete_chat": lambda session, url: chat(session, url, buffered=True),
}


def texts_of(error: BaseException) -> Iterator[str]:
    """Yield our own words in an error: the attempts, and the message if the class is ours."""
    yield repr(getattr(error, "attempts", ()))
    if type(error).__module__.startswith(OURS):
        # An excerpt of an unreadable answer, and the provider's own words, are for the caller
        # alone, and never for a log.
        speaks = isinstance(error, (StreamProtocolError, ChatAPIError))
        yield from (
            text.replace(ANSWER, "") if speaks else text for text in (str(error), repr(error))
        )


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "proxied"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("replies", REPLIES)
def test_no_secret_is_told(
    fault_server: FaultServer,
    caplog: pytest.LogCaptureFixture,
    replies: str,
    call: str,
    *,
    proxied: bool,
) -> None:
    """Query, headers, cookies, bodies, userinfo and proxy stay out of all that is told."""
    fault_server.script(*REPLIES[replies])
    told: list[Any] = []
    said: list[str] = []
    policy = RetryPolicy(wait=lambda _: 0.0, statuses=frozenset({503}))
    limits = Timeouts(connect=1.0, write=1.0, response=0.05, idle=0.05)
    with HTTPProxy() as proxy, requests.Session() as session, caplog.at_level(logging.DEBUG, OURS):
        adapter = ResilientAdapter(max_retries=policy, timeouts=limits, observers=[told.append])
        session.mount("http://", adapter)
        if proxied:
            session.proxies = {"http": proxy.url.replace("//", f"//{SECRET}:{SECRET}@")}
        try:
            CALLS[call](session, fault_server.url.replace("//", f"//{SECRET}:{SECRET}@"))
        except (requests.RequestException, ValueError) as error:
            said += texts_of(error)
        said += [
            repr(adapter),
            repr(adapter.stats()),
            repr(adapter._state.in_flight.all()),
            repr(adapter.retry_policy),
        ]
        said += map(repr, told)
        said += map(repr, adapter._state.pools())
    for record in caplog.records:
        if record.name.startswith(OURS):
            said += [record.getMessage(), repr(record.__dict__)]

    assert told
    assert [text for text in said if SECRET in text or ANSWER in text] == []


def test_an_observer_that_raises_is_logged_without_the_call(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The traceback is the observer's own."""

    def faulty(event: object) -> None:
        raise RuntimeError("mine")

    with mounted(observers=[faulty]) as session:
        session.post(f"{fault_server.url}/?{SECRET}", data=SECRET, headers={"X-Key": SECRET})

    assert caplog.records
    assert SECRET not in caplog.text


def test_call_ids_differ(fault_server: FaultServer) -> None:
    """They tell the stories of concurrent calls apart."""
    with Client(fault_server) as client:
        for _ in range(3):
            client.get()
    groups = [
        list(group)
        for _, group in itertools.groupby(client.events, key=lambda event: event.call_id)
    ]

    assert len(groups) == 3


def test_the_window_of_an_origin_is_the_one_in_force(fault_server: FaultServer) -> None:
    """A lesson of an origin does not count if the policy is not adaptive."""
    windows = []
    for adaptive in (True, False):
        with Client(fault_server, keepalive=KeepAlivePolicy(adaptive=adaptive)) as client:
            client.warm()
            place = next(iter(client.adapter._state._origins._known))
            client.adapter._state.stale(place, 2.0)
            (origin,) = client.adapter.stats().origins.values()
            windows.append(origin.window)

    assert windows == [pytest.approx(1.0, abs=0.1), 10.0]
