"""Limits and deadlines hold wherever a call is, against a peer that feeds it byte by byte too."""

from __future__ import annotations

import pickle
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import requests
import tenacity
import urllib3
from clients import PATIENT, Client, attempts_of, in_time, inside
from stalls import NEVER, cells, congested, dripping_body, dripping_head, stalled

from resilient_requests import (
    AttemptStarted,
    CancelScope,
    DeadlineExceeded,
    PoolRotated,
    RetryDenied,
    Timeouts,
    is_transient,
    iter_bytes,
    iter_events,
)
from resilient_requests.testing import FaultServer, reset, respond, silence

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow
TOTAL = 0.25


def by_total(server: FaultServer, call: Callable[[Client], Any]) -> None:
    """Make the call under ``Timeouts(total=)``."""
    with Client(server, timeouts=replace(NEVER, total=TOTAL)) as client:
        call(client)


def by_scope(server: FaultServer, call: Callable[[Client], Any]) -> None:
    """Make the call in a scope."""
    with Client(server, timeouts=NEVER) as client, CancelScope(timeout=TOTAL):
        call(client)


@pytest.mark.parametrize(("place", "tls"), [cell for cell in cells() if cell[0] != "backing off"])
@pytest.mark.parametrize("way", ["total", "scope"])
def test_a_deadline_ends_a_call_wherever_it_hangs(place: str, tls: bool, way: str) -> None:
    """All other limits are a minute; nothing is sent again when the time is up."""
    timeouts = replace(NEVER, total=TOTAL) if way == "total" else NEVER
    with stalled(place, tls=tls, timeouts=timeouts) as stall:
        call = stall.call if way == "total" else inside(CancelScope(timeout=TOTAL), stall.call)
        since = time.monotonic()
        with pytest.raises(DeadlineExceeded) as caught:
            call()
        elapsed = time.monotonic() - since
        generation = stall.client.adapter.generation

    assert in_time(elapsed, 5.0) >= TOTAL
    assert isinstance(caught.value, requests.Timeout)
    assert len(stall.client.told(AttemptStarted)) == 1
    assert caught.value.attempts[-1].stopped_by == "deadline"
    assert caught.value.request is not None
    assert caught.value.request.method == "POST"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert generation == 0  # on a fresh connection it says nothing about idle ones
    assert not is_transient(caught.value)


@pytest.mark.parametrize("way", [by_total, by_scope])
def test_a_head_that_drips_does_not_outlast_the_deadline(server: FaultServer, way: Any) -> None:
    """Each byte re-arms a socket's timeout: one per 15 s would pass for ever."""
    server.default = dripping_head()
    since = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        way(server, Client.get)

    assert in_time(time.monotonic() - since, 5.0) >= TOTAL
    assert server.accepted == 1


def test_a_head_that_drips_meets_the_response_limit(server: FaultServer) -> None:
    """The limit on the response bounds the whole head, not each byte of it."""
    server.default = dripping_head()
    since = time.monotonic()
    with (
        Client(server, timeouts=replace(NEVER, response=TOTAL)) as client,
        pytest.raises(requests.ReadTimeout),
    ):
        client.get()

    assert in_time(time.monotonic() - since, 5.0) >= TOTAL
    assert server.accepted == 1


READERS: dict[str, Callable[[requests.Response], Any]] = {
    "iter_content": lambda response: list(response.iter_content(None)),
    "iter_content in blocks": lambda response: list(response.iter_content(4096)),
    "iter_lines": lambda response: list(response.iter_lines()),
    "content": lambda response: response.content,
    "iter_bytes": lambda response: list(iter_bytes(response)),
    "iter_events": lambda response: list(iter_events(response)),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("way", [by_total, by_scope])
def test_a_stream_that_drips_does_not_outlast_the_deadline(
    server: FaultServer, way: Any, reader: str
) -> None:
    """The deadline bounds the response too, through every way to read it."""
    server.default = dripping_body()

    def call(client: Client) -> None:
        with client.get(stream=True) as response:
            READERS[reader](response)

    since = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        way(server, call)

    assert in_time(time.monotonic() - since, 5.0) >= TOTAL
    assert server.accepted == 1


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("way", [by_total, by_scope])
def test_a_body_that_drips_does_not_outlast_the_deadline(
    server: FaultServer, way: Any, framing: Any
) -> None:
    """Read inside the attempt, in every framing."""
    server.default = dripping_body(framing=framing)
    since = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        way(server, Client.get)

    assert in_time(time.monotonic() - since, 5.0) >= TOTAL
    assert server.accepted == 1


@pytest.mark.parametrize("way", ["total", "scope"])
def test_a_deadline_is_not_a_reason_to_retry(server: FaultServer, way: str) -> None:
    """60 ms, a silent server, three retries: one request."""
    server.default = silence()
    timeouts = Timeouts(total=0.06) if way == "total" else PATIENT
    scope = CancelScope(timeout=None if way == "total" else 0.06)
    since = time.monotonic()
    with (
        Client(server, policy={"max_retries": 3}, timeouts=timeouts) as client,
        scope,
        pytest.raises(DeadlineExceeded),
    ):
        client.post()

    assert len(client.told(AttemptStarted)) == 1
    assert len(server.requests) <= 1
    in_time(time.monotonic() - since, 5.0)


@pytest.mark.parametrize("way", ["total", "scope"])
def test_a_deadline_in_the_wait_for_a_retry_is_told(server: FaultServer, way: str) -> None:
    """A wait that would have ended in time, but for a machine that slept through it."""
    server.default = reset()
    timeouts = replace(NEVER, total=TOTAL) if way == "total" else NEVER
    scope = CancelScope(timeout=None if way == "total" else TOTAL)
    with (
        Client(server, timeouts=timeouts, policy={"wait": tenacity.wait_fixed(0.01)}) as client,
        scope,
    ):

        def sleep(token: Any, seconds: float) -> None:
            time.sleep(seconds + TOTAL)
            token.check()

        client.adapter._sleep = sleep  # type: ignore[method-assign]
        with pytest.raises(DeadlineExceeded) as caught:
            client.post()

    assert [each.stopped_by for each in caught.value.attempts] == ["deadline"]
    assert [each.reason for each in client.told(RetryDenied)] == ["deadline"]


def test_retries_do_not_outlast_the_deadline(server: FaultServer) -> None:
    """Such a wait is not begun: the failure at hand leaves, and says why nothing followed."""
    server.default = reset()
    wait = tenacity.wait_chain(tenacity.wait_none(), tenacity.wait_none(), tenacity.wait_fixed(60))
    policy = {"max_retries": 1000, "budget": None, "wait": wait}
    since = time.monotonic()
    with (
        Client(server, policy=policy, timeouts=replace(PATIENT, total=5.0)) as client,
        pytest.raises(requests.ConnectionError) as caught,
    ):
        client.post()

    in_time(time.monotonic() - since, 5.0)
    assert len(server.requests) == 3
    assert attempts_of(caught.value)[-1].stopped_by == "deadline"
    assert [each.reason for each in client.told(RetryDenied)] == ["deadline"]


def test_a_deadline_in_silence_on_a_reused_connection_retires_it(server: FaultServer) -> None:
    """A path that drops silently shows itself in no other way."""
    with Client(server, timeouts=NEVER) as client:
        client.warm()
        server.default = silence()
        with CancelScope(timeout=0.1), pytest.raises(DeadlineExceeded):
            client.post()
        stale = client.adapter.stats().stale

    assert len(client.told(PoolRotated)) == 1
    assert stale == 0


def test_a_scope_bounds_a_call_with_its_redirects(fault_server: FaultServer) -> None:
    """Each redirect is another send: ``Timeouts.total`` starts anew, a scope does not."""
    fault_server.default = respond(status=302, headers={"Location": "/"}, head_pause=0.05)
    with (
        Client(fault_server, timeouts=replace(PATIENT, total=TOTAL)) as client,
        CancelScope(timeout=TOTAL),
        pytest.raises(DeadlineExceeded, match="CancelScope"),
    ):
        client.get()

    assert 2 <= len(fault_server.requests) <= 6


@pytest.mark.parametrize(("outer", "inner"), [(0.1, 60.0), (60.0, 0.1), (0.1, None)])
def test_the_earliest_deadline_of_nested_scopes_counts(
    fault_server: FaultServer, outer: float, inner: float | None
) -> None:
    """An inner scope cannot buy time."""
    fault_server.default = silence()
    since = time.monotonic()
    with (
        Client(fault_server, timeouts=NEVER) as client,
        CancelScope(timeout=outer),
        CancelScope(timeout=inner),
        pytest.raises(DeadlineExceeded),
    ):
        client.get()

    in_time(time.monotonic() - since, 5.0)


def test_a_scope_that_was_left_no_longer_counts(fault_server: FaultServer) -> None:
    """Its time goes on, for the streams that began in it only."""
    with Client(fault_server) as client:
        with CancelScope(timeout=0.3):
            client.get()
        time.sleep(0.31)
        response = client.get()

    assert response.status_code == 200


# The limits of one attempt


@pytest.mark.parametrize(
    "timeout",
    [
        0.15,
        (5, 0.15),
        urllib3.Timeout(connect=5, read=0.15),
        urllib3.Timeout(read=0.15),
        urllib3.Timeout(total=0.15),
    ],
    ids=["number", "pair", "urllib3", "urllib3 read", "urllib3 total"],
)
def test_a_calls_own_timeout_counts(server: FaultServer, timeout: Any) -> None:
    """Every form that requests takes counts."""
    server.default = silence()
    since = time.monotonic()
    with Client(server) as client, pytest.raises(requests.ReadTimeout):
        client.get(timeout=timeout)

    assert in_time(time.monotonic() - since, 5.0) >= 0.15


def test_a_dial_has_the_connect_limit() -> None:
    """The dial is repeated, since nobody has seen the request."""
    with (
        congested() as url,
        Client(url) as client,
        pytest.raises(requests.ConnectTimeout) as caught,
    ):
        client.get(timeout=(0.1, 30))

    assert [each.phase for each in attempts_of(caught.value)] == ["connect"] * 3
    assert is_transient(caught.value)


def test_a_silent_handshake_has_the_connect_limit(fault_server_tls: FaultServer) -> None:
    """Requests calls that a ReadTimeout; it is no response timeout, and is repeated."""
    fault_server_tls.on_handshake(silence(), silence(), silence())
    with Client(fault_server_tls) as client, pytest.raises(requests.ReadTimeout) as caught:
        client.post(timeout=(0.1, 30))

    assert fault_server_tls.accepted == 3
    assert [each.phase for each in attempts_of(caught.value)] == ["handshake"] * 3
    assert is_transient(caught.value)
