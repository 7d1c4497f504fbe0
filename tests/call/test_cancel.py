"""A cancelled call ends at once, wherever it is, and is never sent again."""

from __future__ import annotations

import gc
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
import tenacity
from clients import Client, Running, in_time, inside, until
from stalls import NEVER, cells, stalled

from resilient_requests import (
    AttemptStarted,
    Cancelled,
    CancelScope,
    PoolRotated,
    RetryDenied,
    RetryScheduled,
    is_transient,
    iter_bytes,
)
from resilient_requests.testing import FaultServer, reset, respond, stream

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(("place", "tls"), cells())
def test_a_call_is_cancelled_wherever_it_hangs(place: str, tls: bool) -> None:
    """All limits are a minute or more; a cancelled call looks retryable, so the flag decides."""
    scope = CancelScope()
    with stalled(place, tls=tls) as stall:
        running = Running(inside(scope, stall.call))
        until(stall.is_reached)
        scope.cancel()
        seconds = running.seconds_to_end()
        generation = stall.client.adapter.generation
        in_flight = stall.client.adapter.stats().in_flight
        made = stall.requests()

    assert isinstance(running.error, Cancelled)
    assert not isinstance(running.error, requests.RequestException)
    in_time(seconds, 1.0)
    assert made <= 1
    assert len(stall.client.told(AttemptStarted)) == 1
    assert generation == (place == "backing off")  # by the reset before it
    assert in_flight == 0
    assert running.error.attempts[-1].stopped_by == "cancelled"
    assert [event.reason for event in stall.client.told(RetryDenied)] == ["cancelled"]
    assert not is_transient(running.error)


def test_a_cancelled_scope_sends_nothing(server: FaultServer) -> None:
    """Cancelled before the call: not even a connection."""
    with Client(server) as client, CancelScope() as scope:
        scope.cancel()
        with pytest.raises(Cancelled):
            client.post()

    assert (server.accepted, len(server.requests)) == (0, 0)


def test_a_wait_of_an_hour_ends_at_once(server: FaultServer) -> None:
    """The backoff is part of the call."""
    server.default = reset()
    scope = CancelScope()
    with Client(server, policy={"wait": tenacity.wait_fixed(3600)}) as client:
        running = Running(inside(scope, client.post))
        until(lambda: client.told(RetryScheduled))
        scope.cancel()
        seconds = running.seconds_to_end()

    assert isinstance(running.error, Cancelled)
    in_time(seconds, 1.0)
    assert len(server.requests) == 1


def test_a_cancel_at_the_moment_of_connecting_leaves_no_socket(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket is connected and belongs to nobody yet; unclosed, it would warn when collected."""

    class Cancelling(socket.socket):
        def connect(self, address: Any) -> None:
            super().connect(address)
            scope.cancel()

    with Client(server) as client, CancelScope() as scope:
        monkeypatch.setattr(socket, "socket", Cancelling)
        with pytest.raises(Cancelled):
            client.get()
        monkeypatch.undo()
        gc.collect()
        assert server.wait_for_disconnects(1)

    assert len(server.requests) == 0


def test_an_observer_may_cancel(server: FaultServer) -> None:
    """It runs on the thread that sends, perhaps with a lock of ours held."""
    scope = CancelScope()

    def cancel(event: object) -> None:
        if isinstance(event, RetryScheduled):
            scope.cancel()

    server.default = reset()
    with Client(server, observers=(cancel,), policy={"wait": tenacity.wait_fixed(3600)}) as client:
        running = Running(inside(scope, client.post))
        seconds = running.seconds_to_end()

    assert isinstance(running.error, Cancelled)
    in_time(seconds, 1.0)
    assert len(server.requests) == 1


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_a_stream_is_cancelled_with_its_scope(server: FaultServer, framing: Any) -> None:
    """A close-delimited body that is shut down looks like a clean end."""
    server.script(stream([b"some"], framing=framing, ending="silence"))
    scope = CancelScope()
    got: list[Any] = []

    def read() -> None:
        with client.post(stream=True) as response:
            got.extend(response.iter_content(None))

    with Client(server, timeouts=NEVER) as client:
        running = Running(inside(scope, read))
        until(lambda: got)
        scope.cancel()
        seconds = running.seconds_to_end()
        generation = client.adapter.generation

    assert isinstance(running.error, Cancelled)
    in_time(seconds, 0.5)
    assert got == [b"some"]
    assert generation == 0


def test_a_stream_keeps_the_scope_it_began_in(fault_server: FaultServer) -> None:
    """It is read after the block was left, in another thread perhaps."""
    fault_server.script(stream([b"some"], ending="silence"))
    with Client(fault_server, timeouts=NEVER) as client:
        with CancelScope() as scope:
            response = client.post(stream=True)
        with response, iter_bytes(response) as chunks:
            assert next(chunks) == b"some"
            running = Running(lambda: next(chunks))
            scope.cancel()
            running.seconds_to_end(1.0)

    assert isinstance(running.error, Cancelled)


def test_an_outer_scope_ends_what_was_begun_in_an_inner_one(fault_server: FaultServer) -> None:
    """A view's scope around a helper's."""
    fault_server.default = respond(b"late", head_pause=30.0)
    outer, inner = CancelScope(), CancelScope(timeout=60)
    with Client(fault_server, timeouts=NEVER) as client:
        running = Running(inside(outer, inside(inner, client.get)))
        assert fault_server.wait_for_requests(1)
        outer.cancel()
        running.seconds_to_end(1.0)

    assert isinstance(running.error, Cancelled)
    assert inner.is_cancelled


def test_an_inner_scope_leaves_the_outer_one_alone(fault_server: FaultServer) -> None:
    """A helper that gives up does not end its caller."""
    with Client(fault_server) as client, CancelScope() as outer:
        with CancelScope() as inner:
            inner.cancel()
            with pytest.raises(Cancelled):
                client.get()
        response = client.get()

    assert response.status_code == 200
    assert not outer.is_cancelled


def test_other_calls_go_on(fault_server: FaultServer) -> None:
    """A scope ends only the calls that this thread began inside it."""
    gate = threading.Event()
    fault_server.default = respond(b"ok", head_pause=gate)
    scope = CancelScope()
    with Client(fault_server, timeouts=NEVER) as client:
        doomed, other = Running(inside(scope, client.get)), Running(client.get)
        assert fault_server.wait_for_requests(2)
        scope.cancel()
        doomed.seconds_to_end(1.0)
        gate.set()
        other.seconds_to_end()

    assert isinstance(doomed.error, Cancelled)
    assert other.value.status_code == 200


def test_a_scope_in_a_generator_can_be_closed_by_another_thread(fault_server: FaultServer) -> None:
    """Every WSGI view does so: a reset by token raises there, and a leaked scope governs others."""
    fault_server.script(stream([b"some"], ending="silence"))

    def view() -> Iterator[bytes]:
        with CancelScope(timeout=60) as scope:
            scopes.append(scope)
            with client.post(stream=True) as response:
                yield from response.iter_content(None)

    scopes: list[CancelScope] = []
    with Client(fault_server, timeouts=NEVER) as client:
        chunks: Any = view()
        assert next(chunks) == b"some"
        closing = Running(chunks.close)
        closing.seconds_to_end(1.0)
        scopes[0].cancel()
        response = client.get()
        assert fault_server.wait_for_disconnects(1)

    assert closing.error is None
    assert response.status_code == 200


def test_a_scope_is_entered_once() -> None:
    """Its deadline counts from there."""
    with CancelScope() as scope, pytest.raises(RuntimeError, match="only once"), scope:
        pass


def test_cancelling_again_or_late_is_harmless(fault_server: FaultServer) -> None:
    """``cancel()`` comes from anywhere, at any time."""
    with Client(fault_server) as client:
        with CancelScope() as scope:
            response = client.get()
        scope.cancel()
        scope.cancel()
        again = client.get()

    assert (response.status_code, again.status_code) == (200, 200)
    assert fault_server.accepted == 1
    assert client.told(PoolRotated) == []
