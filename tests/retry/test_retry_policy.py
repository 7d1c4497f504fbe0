"""The wait before a retry, its cost, and the connections that a failure retires."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
import tenacity
from clients import Client, Running, attempts_of, counts, refusing, until
from urllib3 import Retry

from resilient_requests import (
    ConnectionOpened,
    PoolRotated,
    RetryBudget,
    RetryDenied,
    RetryScheduled,
    StreamBroken,
    is_transient,
)
from resilient_requests.retry._policy import FullJitter
from resilient_requests.testing import (
    FaultServer,
    Pause,
    Reply,
    Reset,
    reset,
    respond,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# Waits


@pytest.mark.parametrize(
    ("random", "waits"),
    [
        (1.0, [0.15, 0.30, 0.60, 1.20, 2.0, 2.0]),
        (0.5, [0.075, 0.15, 0.30, 0.60, 1.0, 1.0]),
        (0.0, [0.0] * 6),
    ],
)
def test_waits_are_random_below_tops_that_double(
    fault_server: FaultServer, random: float, waits: list[float]
) -> None:
    """Fixed waits would bring all callers back in step."""
    slept: list[float] = []
    fault_server.default = reset()
    wait = FullJitter(lambda: random)
    with Client(fault_server, policy={"max_retries": 6, "wait": wait}) as client:
        vars(client.adapter)["_sleep"] = lambda token, seconds: slept.append(seconds)
        with pytest.raises(requests.ConnectionError):
            client.post()

    assert slept == pytest.approx(waits)
    assert [event.wait for event in client.told(RetryScheduled)] == pytest.approx(waits)


def test_the_first_retry_after_a_stale_connection_does_not_wait(server: FaultServer) -> None:
    """Only idleness was at fault; from the second failure on the path is."""
    slept: list[float] = []
    with Client(server, policy={"wait": FullJitter(lambda: 1.0)}) as client:
        client.warm()
        vars(client.adapter)["_sleep"] = lambda token, seconds: slept.append(seconds)
        server.default = reset()
        with pytest.raises(requests.ConnectionError):
            client.post()

    assert slept == pytest.approx([0.0, 0.30])


def test_a_shutdown_in_the_wait_is_told(server: FaultServer) -> None:
    """An attempt that is followed by none says why; so does the last event."""
    server.default = reset()
    with Client(server, policy={"wait": tenacity.wait_fixed(3600)}) as client:
        running = Running(client.post)
        until(lambda: client.told(RetryScheduled))
        client.adapter.shutdown()
        running.seconds_to_end()

    assert isinstance(running.error, requests.ConnectionError)
    assert running.error.request is not None
    assert [each.stopped_by for each in attempts_of(running.error)] == ["shut down"]
    assert [event.reason for event in client.told(RetryDenied)] == ["shut down"]


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (tenacity.wait_fixed(0.01), [0.01, 0.01]),
        (tenacity.wait_incrementing(start=0.01, increment=0.01), [0.01, 0.02]),
        (tenacity.wait_chain(tenacity.wait_fixed(0.03), tenacity.wait_none()), [0.03, 0.0]),
        (tenacity.wait_exponential(multiplier=0.01) + tenacity.wait_fixed(0.01), [0.02, 0.03]),
        (lambda state: 0.01 * state.attempt_number, [0.01, 0.02]),
    ],
)
def test_any_strategy_of_tenacity_sets_the_waits(
    fault_server: FaultServer, wait: Any, expected: list[float]
) -> None:
    """It is asked with tenacity's state, whose attempt number is true from the first failure on."""
    fault_server.default = reset()
    with (
        Client(fault_server, policy={"wait": wait}) as client,
        pytest.raises(requests.ConnectionError),
    ):
        client.post()

    assert [event.wait for event in client.told(RetryScheduled)] == pytest.approx(expected)


# urllib3's Retry


def test_a_translated_retry_of_urllib3_acts_above_the_connections(server: FaultServer) -> None:
    """Inside urllib3 it would multiply with our own, and hide its attempts."""
    server.script(reset(), respond(b"", status=503))
    retry = Retry(total=3, backoff_factor=0.1, status_forcelist=[503])
    with Client(server, max_retries=retry) as client:
        client.adapter._sleep = lambda token, seconds: None  # type: ignore[method-assign]
        response = client.get()

    assert response.content == b"ok"
    assert counts(server) == (3, 3, 3)
    assert [event.attempt for event in client.told(ConnectionOpened)] == [1, 2, 3]
    assert [event.wait for event in client.told(RetryScheduled)] == pytest.approx([0.0, 0.2])
    assert isinstance(client.adapter.max_retries, Retry)
    assert client.adapter.max_retries.total == 0


def test_an_exhausted_retry_of_urllib3_raises_as_in_requests(fault_server: FaultServer) -> None:
    """``raise_on_status`` is its default; a policy of ours returns the last response instead."""
    fault_server.default = respond(b"", status=503)
    with (
        Client(fault_server, max_retries=Retry(total=1, status_forcelist=[503])) as client,
        pytest.raises(requests.exceptions.RetryError),
    ):
        client.get()

    assert len(fault_server.requests) == 2


# The budget on real sockets


def test_an_empty_budget_means_the_original_error_at_once(server: FaultServer) -> None:
    """Denied never blocks, and is told."""
    server.default = reset()
    with Client(
        server, policy={"budget": RetryBudget(capacity=1, deposit=0, trickle=0), "max_retries": 9}
    ) as client:
        with pytest.raises(requests.ConnectionError) as first:
            client.post()
        with pytest.raises(requests.ConnectionError) as second:
            client.post()

    assert [each.stopped_by for each in attempts_of(first.value)] == [None, "budget"]
    assert [each.stopped_by for each in attempts_of(second.value)] == ["budget"]
    assert counts(server) == (3, 3, 3)
    assert [event.reason for event in client.told(RetryDenied)] == ["budget", "budget"]
    assert is_transient(second.value)


def test_a_replay_after_a_body_had_begun_costs_two(server: FaultServer) -> None:
    """The server has done its work twice by then."""
    server.script(respond(b"0123456789", cut=5))
    with (
        Client(
            server, policy={"budget": RetryBudget(capacity=1.9, deposit=0, trickle=0)}
        ) as client,
        pytest.raises(StreamBroken) as caught,
    ):
        client.get()

    assert caught.value.attempts[0].stopped_by == "budget"


def test_without_a_budget_only_the_count_limits(fault_server: FaultServer) -> None:
    """``budget=None``: retries are free."""
    fault_server.default = reset()
    with (
        Client(fault_server, policy={"budget": None, "max_retries": 12}) as client,
        pytest.raises(requests.ConnectionError),
    ):
        client.get()

    assert len(fault_server.requests) == 13


# Rotations


def test_a_failure_retires_the_connections_of_its_origin_only(
    fault_server_factory: Callable[..., FaultServer],
) -> None:
    """Another origin lies behind another path."""
    with fault_server_factory() as one, fault_server_factory() as other, Client(one) as client:
        client.session.get(other.url)
        client.warm()
        one.reset_counts()
        one.script(reset())
        client.get()
        client.session.get(other.url)
        generation = client.adapter.generation

    assert (generation, len(client.told(PoolRotated))) == (1, 1)
    assert counts(one) == (1, 2, 2)
    assert other.accepted == 1


def test_a_second_failure_on_the_new_generation_rotates_it(server: FaultServer) -> None:
    """Each generation is retired once, and every generation can be."""
    server.default = reset()
    with Client(server) as client, pytest.raises(requests.ConnectionError):
        client.get()

    assert [event.generation for event in client.told(PoolRotated)] == [1, 2, 3]


def test_ten_calls_that_fail_together_rotate_once(server: FaultServer) -> None:
    """They began in one generation, and the first failure retires it."""
    gate = threading.Event()
    server.script(*[Reply((Pause(gate), Reset()))] * 10)
    with Client(server) as client:
        running = [Running(client.get) for _ in range(10)]
        assert server.wait_for_requests(10)
        gate.set()
        for each in running:
            each.seconds_to_end()
            assert each.value.status_code == 200

    assert len(client.told(PoolRotated)) == 1
    assert len(server.requests) == 20


def test_what_says_nothing_about_the_path_rotates_nothing(server: FaultServer) -> None:
    """Statuses, bad JSON and refused ports implicate no pooled connection."""
    server.script(respond(status=401), respond(status=500), respond(b"{"))
    with Client(server) as client, refusing() as url:
        client.get()
        client.get()
        with pytest.raises(requests.exceptions.JSONDecodeError):
            client.get().json()
        with pytest.raises(requests.ConnectionError):
            client.session.get(url)
        generation = client.adapter.generation

    assert generation == 0
    assert server.accepted == 1


def test_a_host_that_does_not_exist_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver's word is final; a hiccup of the resolver is not."""
    hiccups = [socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_NODATA, socket.EAI_MEMORY]
    numbers = iter([*hiccups, socket.EAI_NONAME])

    def resolve(*args: Any) -> Any:
        raise socket.gaierror(next(numbers), "no")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with (
        Client("http://host.invalid", policy={"max_retries": 9}) as client,
        pytest.raises(requests.ConnectionError) as caught,
    ):
        client.post()

    assert len(attempts_of(caught.value)) == 5
    assert attempts_of(caught.value)[-1].stopped_by == "policy"
    assert not is_transient(caught.value)
    assert "Failed to resolve 'host.invalid'" in str(caught.value)


@pytest.mark.parametrize(
    "host", ["a..b", "a" * 70 + ".example"], ids=["an empty label", "a long label"]
)
def test_a_host_that_cannot_exist_is_asked_for_once(host: str) -> None:
    """Its name is no name; requests lets urllib3's own error pass."""
    url = f"http://{host}/"
    with requests.Session() as plain, pytest.raises(Exception, match="label") as expected:
        plain.get(url)
    with Client(url) as client, pytest.raises(type(expected.value), match="label") as caught:
        client.get()
    tokens = client.tokens()

    assert str(caught.value) == str(expected.value)
    assert [each.stopped_by for each in attempts_of(caught.value)] == ["policy"]
    assert tokens == 10
