"""Records of calls in flight: right in each phase, of this process, made without a lock."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import pickle
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import requests
import tenacity
from children import child, forget_by_process_id
from clients import Client, Running, until
from fake_clock import adapter_of, mounted
from stalls import cells, dripping_head, stalled

from resilient_requests import (
    AttemptStarted,
    CancelScope,
    InFlight,
    ResilientAdapter,
    StreamIdle,
    Timeouts,
    complete_chat,
    iter_bytes,
    iter_events,
)
from resilient_requests.call import Attempt, CallsInFlight, CancelToken, limits_of
from resilient_requests.diagnosis import _look, records
from resilient_requests.testing import FaultServer, silence, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = Timeouts(connect=61.0, write=62.0, response=63.0, idle=64.0)
PHASES = {
    "connecting": ("connect", "connect", 61.0),
    "in the handshake": ("handshake", "connect", 61.0),
    "sending": ("send", "user_timeout", 30.0),  # the kernel's own comes before the write limit
    "waiting for the head": ("wait", "response", 63.0),
    "reading the body": ("body", "idle", 64.0),
    "backing off": ("backoff", None, None),
}
AWAITED = {
    "connecting": "dials, the connect limit ends it in 6",
    "in the handshake": "waiting for the peer's part of the handshake",
    "sending": "nothing has moved for",
    "waiting for the head": "waiting for the first byte",
    "reading the body": "reading the body, ",
    "backing off": "waits 3600 s before attempt 2 (backoff)",
}
ENDLESS = stream([b"data: one\n\n"], ending="silence")


@contextlib.contextmanager
def running(client: Client, call: Any) -> Iterator[Running]:
    """Do something in a thread until the adapter is shut down."""
    run = Running(call)
    try:
        yield run
    finally:
        client.adapter.shutdown()
        run.seconds_to_end()


def only(client: Client) -> InFlight:
    """The one call in flight."""
    (record,) = client.adapter.in_flight()
    return record


def in_phase(client: Client, phase: str) -> InFlight:
    """The one call in flight, once it has come so far."""
    until(lambda: any(each.phase == phase for each in client.adapter.in_flight()))
    return only(client)


@pytest.mark.parametrize(("place", "tls"), cells())
def test_record_of_a_hanging_call_says_its_phase_and_limit(place: str, tls: bool) -> None:
    """An operator asks for the place of a hanging call, and for the limit that will end it."""
    phase, limit, seconds = PHASES[place]
    with (
        stalled(place, tls=tls, timeouts=LIMITS) as stall,
        running(stall.client, stall.call),
    ):
        until(stall.is_reached)
        until(lambda: (only(stall.client).phase, only(stall.client).limit) == (phase, limit))
        record = only(stall.client)
        (sender,) = (each.ident for each in threading.enumerate() if each.name == "running")

    (started,) = stall.client.told(AttemptStarted)
    assert (record.call_id, record.origin) == (started.call_id, started.origin)
    assert (record.attempt, record.thread) == (1, "running")
    assert record.thread_id == sender
    assert 0.0 <= record.since < 20.0
    assert AWAITED[place] in record.judgement
    assert not record.is_held
    if seconds is None:
        assert record.ends_in is None
        assert record.next_in is not None
        assert 3500.0 < record.next_in <= 3600.0
    else:
        assert record.ends_in is not None
        assert seconds - 20.0 < record.ends_in <= seconds
        assert record.next_in is None


@pytest.mark.parametrize(("place", "tls"), cells())
def test_record_counts_bytes_of_the_attempt(place: str, tls: bool) -> None:
    """A proxy's or a handshake's bytes are none of the request's."""
    has_sent = place not in ("connecting", "in the handshake")
    with (
        stalled(place, tls=tls) as stall,
        running(stall.client, stall.call),
    ):
        until(stall.is_reached)
        in_phase(stall.client, PHASES[place][0])
        until(lambda: (only(stall.client).bytes_sent > 0) is has_sent)
        record = only(stall.client)

    assert (record.bytes_received > 0) is (place == "reading the body")


def test_call_that_waits_for_a_place_in_the_pool_says_so(fault_server: FaultServer) -> None:
    """A pool that is too small looks like a slow network to a waiting caller."""
    fault_server.script(ENDLESS)
    with (
        Client(fault_server, pool_maxsize=1, pool_block=True) as client,
        client.get(stream=True),
        running(client, client.get),
    ):
        until(lambda: any(each.phase == "pool" for each in client.adapter.in_flight()))
        first, second = client.adapter.in_flight()

    assert (first.phase, second.phase) == ("body", "pool")
    assert second.judgement == "waits for a place in the pool: all its connections are in use"
    assert second.tcp is None


@pytest.mark.parametrize("tls", [False, True])
def test_call_whose_head_has_begun_waits_for_the_rest(tls: bool) -> None:
    """The response limit covers the whole head, however slowly that drips."""
    with FaultServer(tls=tls) as server, Client(server, timeouts=LIMITS) as client:
        server.script(dripping_head())
        with running(client, client.get):
            record = in_phase(client, "head")

    assert "for the rest of the head" in record.judgement
    assert record.limit == "response"


def test_second_attempt_has_its_number_and_no_byte_of_the_first(fault_server: FaultServer) -> None:
    """The counts of a record are those of the attempt that runs, its age that of the call."""
    fault_server.script(stream([b"some"], ending="reset"), silence())
    policy = {"wait": tenacity.wait_fixed(0.01)}
    with Client(fault_server, policy=policy) as client, running(client, client.get):
        until(lambda: any(each.attempt == 2 for each in client.adapter.in_flight()))
        record = in_phase(client, "wait")

    assert (record.attempt, record.bytes_received) == (2, 0)


def test_replay_of_a_chat_goes_on_under_the_name_and_age_of_the_call(
    fault_server: FaultServer,
) -> None:
    """A buffered chat that is asked for again is one call to its caller."""
    fault_server.script(stream([0.3, b"data: "], ending="reset"), silence())
    with Client(fault_server) as client:

        def ask() -> None:
            complete_chat(client.session, client.url, model="m", messages=[{"role": "user"}])

        with running(client, ask):
            until(lambda: len(fault_server.requests) == 2)
            record = in_phase(client, "wait")

    first, *_ = client.told(AttemptStarted)
    assert record.call_id == first.call_id
    assert record.since >= 0.3


def test_dial_ahead_is_in_flight(fault_server: FaultServer) -> None:
    """A worker that hangs in `warm` before its first call is a hanging worker too."""
    with FaultServer(tls=True) as server, Client(server) as client:
        server.on_handshake(silence())
        warm = lambda: client.adapter.warm(server.url, verify=server.ca_path)  # noqa: E731
        with running(client, warm):
            record = in_phase(client, "handshake")

    assert record.origin == server.url.rstrip("/")
    assert record.limit == "connect"


@pytest.mark.parametrize("read", [iter_bytes, iter_events])
def test_stream_that_nobody_reads_is_held(server: FaultServer, client: Client, read: Any) -> None:
    """An application that is busy elsewhere must not look for the fault in the network."""
    # The event comes after a moment, since bytes that come with the head are read with it.
    server.script(stream([0.1, b"data: one\n\n"], ending="silence"))
    with client.get(stream=True) as response, read(response) as parts:
        until(lambda: (tcp := only(client).tcp) is None or bool(tcp.unread))
        unread = only(client)
        next(parts)
        held = only(client)

    assert unread.is_held
    assert held.is_held
    assert unread.judgement.startswith("the consumer holds the stream")
    assert "bytes wait to be read" in unread.judgement
    assert held.limit is None  # time of the consumer is no silence
    assert "ends it" not in held.judgement


def test_stream_is_told_with_the_thread_that_reads_it(fault_server: FaultServer) -> None:
    """A response may be read in another thread than the one that sent the request."""
    fault_server.script(ENDLESS)
    with Client(fault_server) as client, client.get(stream=True) as response:
        held = only(client)
        with running(client, lambda: list(response.iter_lines())):
            until(lambda: not only(client).is_held)
            read = only(client)

    assert (held.thread, read.thread) == (threading.current_thread().name, "running")


def test_raw_response_is_read_too(fault_server: FaultServer) -> None:
    """A reader of ``response.raw`` reads under the same limit, and does not hold the stream."""
    fault_server.script(ENDLESS)
    with (
        Client(fault_server, timeouts=LIMITS) as client,
        client.get(stream=True) as response,
        running(client, response.raw.read),
    ):
        until(lambda: not only(client).is_held)
        record = only(client)

    assert record.limit == "idle"
    assert record.judgement.startswith("reading the body")


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({"event_timeout": 40.0, "idle_timeout": 50.0}, "event"),
        ({"event_timeout": 50.0, "idle_timeout": 40.0}, "idle"),
        ({"idle_timeout": 40.0, "heartbeat": 30.0}, "idle"),
    ],
)
def test_limit_of_a_stream_is_the_one_that_comes_first(
    fault_server: FaultServer, limits: dict[str, Any], limit: str
) -> None:
    """A heartbeat ends no stream; of the other limits the first is named, with its rest."""
    fault_server.script(ENDLESS)
    with (
        Client(fault_server) as client,
        client.get(stream=True) as response,
        running(client, lambda: list(iter_events(response, **limits))),
    ):
        until(lambda: not only(client).is_held and only(client).limit == limit)
        record = only(client)

    assert record.ends_in is not None
    assert 20.0 < record.ends_in <= 40.0


@pytest.mark.parametrize("limit", ["total", "scope"])
def test_deadline_is_named_by_what_sets_it(fault_server: FaultServer, limit: str) -> None:
    """The total time of a call, and of the scope around it, are two settings."""
    fault_server.script(silence())
    total = 30.0 if limit == "total" else None
    with Client(fault_server, timeouts=Timeouts(total=total)) as client:

        def call() -> None:
            with CancelScope(timeout=30.0 if limit == "scope" else None):
                client.get()

        with running(client, call):
            record = in_phase(client, "wait")

    assert record.limit == limit
    assert record.ends_in is not None
    assert 10.0 < record.ends_in <= 30.0
    assert f"the {limit}" in record.judgement


def test_timeout_of_somebody_else_is_the_limit(fault_server: FaultServer) -> None:
    """A timeout set on the socket itself wins over the adapter's: no limit there is none here."""
    fault_server.script(ENDLESS)
    with Client(fault_server) as client, client.get(stream=True) as response:
        response.raw._fp.fp.raw._sock.settimeout(None)
        with running(client, lambda: list(response.iter_lines())):
            until(lambda: not only(client).is_held and only(client).bytes_received > 0)
            until(lambda: only(client).limit is None)

            assert only(client).ends_in is None


def test_call_that_is_over_is_in_flight_no_more(server: FaultServer, client: Client) -> None:
    """No record is left after an answer, an error and a closed stream."""
    client.get()
    server.script(ENDLESS)
    with pytest.raises(StreamIdle), client.get(stream=True) as response:
        list(iter_bytes(response, idle_timeout=0.05))
    server.script(ENDLESS)
    client.get(stream=True).close()

    assert client.adapter.in_flight() == ()


def test_adapter_tells_its_own_calls_and_the_process_all(fault_server: FaultServer) -> None:
    """The oldest call comes first; a stream whose adapter is gone is still a stream."""
    fault_server.script(ENDLESS, ENDLESS)
    with (
        mounted() as session,
        Client(fault_server) as client,
        session.get(fault_server.url, stream=True),
        client.get(stream=True),
    ):
        first, second = records(CallsInFlight.of_process())
        (own,) = client.adapter.in_flight()
        (other,) = adapter_of(session).in_flight()

    assert (first.call_id, second.call_id) == (other.call_id, own.call_id)


def test_an_interruption_between_two_looks_does_not_change_the_order() -> None:
    """The second call then has a greater age in its record than the first one."""
    held, calls = [], []
    for began, looked_at in ((1.0, 2.0), (1.5, 10.0)):
        call = CancelToken()
        held.append(Attempt(call, 1, limits_of(LIMITS, None)))
        call.begin(held[-1])
        call.since, call.boot = began, partial(float, looked_at)
        calls.append(call)

    assert [record.since for record in records(reversed(calls))] == [1.0, 8.5]


def test_stream_outlives_its_adapter_in_the_process_wide_view(fault_server: FaultServer) -> None:
    """Helpers make a session, send, and drop it: only the response hangs then."""
    fault_server.script(ENDLESS)
    session = requests.Session()
    session.mount("http://", ResilientAdapter())
    response = session.get(fault_server.url, stream=True)
    session.close()
    del session
    gc.collect()

    (record,) = records(CallsInFlight.of_process())
    response.close()
    assert record.phase == "body"
    assert records(CallsInFlight.of_process()) == ()


def test_record_is_frozen_and_pickles(fault_server: FaultServer) -> None:
    """A record may be handed to another process, and describes its own moment."""
    fault_server.script(ENDLESS)
    with Client(fault_server) as client, client.get(stream=True):
        record = only(client)

    assert pickle.loads(pickle.dumps(record)) == record
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.phase = "wait"  # type: ignore[misc]


def test_record_holds_no_secret(fault_server: FaultServer) -> None:
    """It has neither query nor header nor body, since it ends up in logs."""
    fault_server.script(ENDLESS)
    secret = {"Authorization": "Bearer s3cret"}
    with Client(fault_server) as client:
        url = f"{fault_server.url}/s3cret?key=s3cret"
        with client.session.post(url, data=b"s3cret", headers=secret, stream=True):
            record = only(client)

    assert "s3cret" not in repr(record)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("learns", ["hook", "process id"])
def test_child_has_no_record_of_its_parents_calls(
    server: FaultServer, client: Client, learns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent's calls are not the child's to look at, whether or not an at-fork hook has run."""
    if learns == "process id":
        forget_by_process_id(monkeypatch)

    def look() -> None:
        assert client.adapter.in_flight() == ()
        assert records(CallsInFlight.of_process()) == ()

    server.script(ENDLESS)
    with client.get(stream=True), child(look):
        assert only(client).phase == "body"


def test_records_are_made_without_a_lock(fault_server: FaultServer) -> None:
    """A signal may have interrupted the holder of any lock: to wait for it would never end."""
    fault_server.script(silence())
    with Client(fault_server) as client, running(client, client.get):
        in_phase(client, "wait")
        (token,) = client.adapter._state.in_flight.all()
        locks: list[Any] = [
            token._lock,
            client.adapter._state._lock,
            threading._active_limbo_lock,  # type: ignore[attr-defined]  # of threading.enumerate()
        ]
        looked: list[Any] = []
        held = threading.Event()

        def look() -> None:
            held.wait(5)
            looked.append(client.adapter.in_flight())

        # Another thread than the holder: some of the locks are re-entrant.
        looker = threading.Thread(target=look, daemon=True)
        looker.start()
        with locks[0], locks[1], locks[2]:
            held.set()
            until(lambda: looked, 5.0)
        looker.join(5)

    assert looked


def test_thread_that_is_gone_has_a_number() -> None:
    """The thread that sent a request may have ended while somebody else holds its response."""
    assert _look._name_of(-1) == "thread -1"


def test_call_that_never_had_an_attempt_is_not_told() -> None:
    """A call has no facts to report before its first attempt."""
    calls = CallsInFlight()
    token = CancelToken(calls=calls)

    assert records(calls.all()) == ()
    token.leave()


def test_call_that_vanishes_leaves_nothing() -> None:
    """Nothing tells that a call has ended whose response is dropped unread."""
    calls = CallsInFlight()
    token = CancelToken(calls=calls)
    assert calls.all() == [token]

    del token
    assert vars(calls) == vars(CallsInFlight())


def test_age_of_a_call_grows_while_it_waits() -> None:
    """Age is of the call: its waits between attempts count."""
    with stalled("backing off", tls=False) as stall, running(stall.client, stall.call):
        until(stall.is_reached)
        first = in_phase(stall.client, "backoff")

        until(lambda: only(stall.client).since > first.since)
