"""The events for observers and the lines for the log: their content, their moment, their order."""

from __future__ import annotations

import errno
import logging
import random
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import TYPE_CHECKING, Any

import pytest
import requests
import requests.adapters
import tenacity
from clients import BIG, Client, attempts_of

import resilient_requests
from resilient_requests import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    Cancelled,
    CancelScope,
    ConnectionOpened,
    ConnectionRecycled,
    PoolRotated,
    ResilientAdapter,
    RetryBudget,
    RetryDenied,
    RetryPolicy,
    RetryScheduled,
    StreamBroken,
    StreamEnded,
)
from resilient_requests.call import Instant
from resilient_requests.testing import FaultServer, fin, reset, respond, stream

if TYPE_CHECKING:
    from collections.abc import Callable

CALL = (AttemptStarted, AttemptFailed, AttemptSucceeded, RetryScheduled, RetryDenied)


def test_a_recovered_reset_is_told_in_order(fault_server: FaultServer) -> None:
    """The retry stands outside the telemetry: inside, it would blind it exactly when it works."""
    fault_server.script(respond(b"ok"), reset())
    with Client(fault_server) as client:
        client.warm()
        client.get()
    told: list[Any] = [event for event in client.events if isinstance(event, CALL)]
    started, failed, scheduled, again, succeeded = told

    assert client.names(*CALL) == [
        "AttemptStarted",
        "AttemptFailed",
        "RetryScheduled",
        "AttemptStarted",
        "AttemptSucceeded",
    ]
    assert (started.attempt, started.method, again.attempt) == (1, "GET", 2)
    assert (failed.errno, failed.reused, failed.phase, failed.bytes_received) == (
        errno.ECONNRESET,
        True,
        "wait",
        0,
    )
    assert failed.bytes_sent > 0
    assert 0 < failed.idle_for < 5
    assert (scheduled.attempt, scheduled.wait, scheduled.reused) == (1, 0.0, True)
    assert (succeeded.status, succeeded.attempt, succeeded.reused) == (200, 2, False)
    assert {event.call_id for event in client.events} == {started.call_id}


def test_a_failed_send_tells_its_errno(fault_server: FaultServer) -> None:
    """urllib3 drops it, to look for an answer; the end that it finds has none."""
    fault_server.script(reset(read="head"))
    with Client(fault_server) as client:
        response = client.post(BIG)
    (failed,), (scheduled,) = client.told(AttemptFailed), client.told(RetryScheduled)

    assert (failed.phase, scheduled.phase) == ("send", "send")
    assert failed.errno in (errno.ECONNRESET, errno.EPIPE)
    assert scheduled.errno == failed.errno
    error = f"ConnectionError({errno.errorcode[failed.errno]})"
    assert failed.error == error
    assert attempts_of(response)[0].error == error


def test_an_end_in_the_middle_of_a_send_has_no_errno(fault_server: FaultServer) -> None:
    """No system call has failed there: nothing may look like a reset that nobody sent."""
    fault_server.script(fin(read="head"))
    with Client(fault_server) as client:
        response = client.post(BIG)
    (failed,) = client.told(AttemptFailed)

    assert (failed.phase, failed.errno) == ("send", None)
    assert attempts_of(response)[0].error == "ConnectionError"


def test_a_stream_tells_its_end(server: FaultServer) -> None:
    """The event comes once, with the error's class if there was an error."""
    server.script(stream([b"x"], ending="reset"), stream([b"x"]))
    with Client(server) as client:
        with client.get(stream=True) as broken, pytest.raises(StreamBroken):
            list(broken.iter_content(None))
        with client.get(stream=True) as whole:
            list(whole.iter_content(None))
    ends = client.told(StreamEnded)

    assert [end.error for end in ends] == ["StreamBroken", None]
    assert all(end.bytes_received > 0 for end in ends)
    assert len(client.told(PoolRotated)) == 1


def test_a_retry_is_told_before_its_wait(fault_server: FaultServer) -> None:
    """An observer learns of the wait while it lasts."""
    fault_server.script(reset())
    order: list[str] = []
    with Client(fault_server, policy={"wait": tenacity.wait_fixed(0.5)}) as client:
        vars(client.adapter)["_sleep"] = lambda *_: order.extend(client.names(RetryScheduled))
        client.get()

    assert order == ["RetryScheduled"]


def test_every_event_names_call_and_origin(server: FaultServer) -> None:
    """No event has a path, query, header or body, since events go to logs and metrics."""
    server.script(reset(), respond(b"ok"), stream([b"x"], ending="reset"))
    with Client(server) as client:
        url = f"{server.url}/secret?key=secret#secret"
        client.session.post(url, data=b"secret", headers={"Authorization": "secret"})
        with client.session.post(url, stream=True) as response, pytest.raises(StreamBroken):
            list(response.iter_content(None))
        server.kill_idle()
        client.get()
        client.adapter.rotate()

    assert {type(event) for event in client.events} >= {
        *(AttemptStarted, AttemptFailed, RetryScheduled, AttemptSucceeded),
        *(ConnectionOpened, PoolRotated, StreamEnded),
    }
    for event in client.events:
        values = {field.name: getattr(event, field.name) for field in fields(event)}
        is_by_hand = isinstance(event, PoolRotated) and event.reason == "rotate()"
        assert values["origin"] == ("*" if is_by_hand else server.url)
        assert is_by_hand or values["call_id"]
        assert "secret" not in repr(event)
        if not isinstance(event, (PoolRotated, ConnectionRecycled)):
            assert values["attempt"] in (1, 2)
    with pytest.raises(FrozenInstanceError):
        client.events[0].origin = "x"


@pytest.mark.parametrize(
    "url", ["https://api.example.com/v1", "http://api.example.com/", "https://[::1]/"]
)
def test_an_origin_has_its_port(url: str) -> None:
    """Attempts and connections of one origin can be counted together, the default port's too."""
    host = "[::1]" if "::1" in url else "api.example.com"
    expected = f"https://{host}:443" if url.startswith("https") else f"http://{host}:80"

    class Mocked(ResilientAdapter):
        def _send_once(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            raise requests.ConnectionError

    told: list[Any] = []
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, Mocked(observers=(told.append,), max_retries=0))
        with pytest.raises(requests.ConnectionError):
            session.get(url)

    assert {event.origin for event in told} == {expected}


def test_response_and_error_are_the_objects_from_inside(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt goes through the attribute that mocks and tracers replace, without a wrapper."""
    inside: list[Any] = []
    stock = requests.adapters.HTTPAdapter.send

    def traced(*args: Any, **kwargs: Any) -> requests.Response:
        try:
            inside.append(stock(*args, **kwargs))
        except BaseException as error:
            inside.append(error)
            raise
        return inside[-1]  # type: ignore[no-any-return]

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", traced)
    server.script(reset(), respond(b"ok"), reset(), reset(), reset())
    with Client(server) as client:
        response = client.get()
        with pytest.raises(requests.ConnectionError) as caught:
            client.get()

    assert len(inside) == 5
    assert response is inside[1]
    assert caught.value is inside[4]


def test_an_observer_that_raises_changes_nothing(
    server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The call and the other observers go on as before; the observer's own error is logged."""
    told: list[Any] = []

    def faulty(event: object) -> None:
        raise ValueError("mine")

    server.script(reset())
    with Client(server, observers=(faulty, told.append)) as client:
        response = client.post()

    assert response.status_code == 200
    assert told == client.events
    assert any(record.exc_info for record in caplog.records)


def test_a_recovered_failure_is_one_warning(
    server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    """``extra`` has the same facts. An expected failure has no traceback."""
    server.script(reset())
    with caplog.at_level(logging.DEBUG, "resilient_requests"), Client(server) as client:
        client.session.post(
            f"{server.url}/secret?secret", data=b"secret", headers={"Authorization": "secret"}
        )
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]

    assert warning.__dict__["resilient_requests.phase"] == "wait"
    assert warning.exc_info is None
    ours = [record for record in caplog.records if record.name.startswith("resilient_requests")]
    assert len(ours) >= 6
    assert all("secret" not in record.getMessage() for record in ours)


def test_a_cancelled_call_tells_why_nothing_follows(fault_server: FaultServer) -> None:
    """Each attempt that is told to have failed was told to have started."""
    with Client(fault_server) as client, CancelScope() as scope:
        scope.cancel()
        with pytest.raises(Cancelled):
            client.get()
    told = client.names(*CALL)

    assert told.count("AttemptFailed") == told.count("AttemptStarted")
    assert [event.reason for event in client.told(RetryDenied)] == ["cancelled"]


RECORDED = [
    "number",
    "reused",
    "idle_for",
    "phase",
    "bytes_sent",
    "bytes_received",
    "status",
    "error",
    "elapsed",
    "stopped_by",
]


def test_attempts_hold_text_and_no_exception(server: FaultServer) -> None:
    """An exception would keep frames alive, and with them prompts and keys."""
    server.default = reset()
    with Client(server) as client, pytest.raises(requests.ConnectionError) as caught:
        client.post()

    for record in attempts_of(caught.value):
        values = [getattr(record, name) for name in RECORDED]
        assert all(isinstance(value, (str, int, float, bool, type(None))) for value in values)
        assert (record.error or "").startswith(("ConnectionError", "SSLError"))
        assert record.elapsed > 0
        assert record.bytes_sent > 0


def test_all_events_are_public() -> None:
    """An observer dispatches on their classes."""
    kinds = (*CALL, ConnectionOpened, ConnectionRecycled, PoolRotated, StreamEnded)

    assert {kind.__name__ for kind in kinds} <= set(resilient_requests.__all__)


# The budget, through a whole adapter, on a clock that is set by hand


@dataclass
class Clock:
    """A clock for an adapter."""

    at: float = 1000.0

    def __call__(self) -> Instant:
        return Instant(self.at, self.at, self.at)


class Simulated(ResilientAdapter):
    """An adapter whose network is a function: it says whether an attempt fails."""

    is_lost: Callable[[], bool]

    def _send_once(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Fail, or answer 200."""
        self.attempts += 1
        if self.is_lost():
            raise requests.ConnectionError
        response = requests.Response()
        response.status_code = 200
        response._content = b""
        return response

    attempts = 0

    @staticmethod
    def _sleep(token: Any, seconds: float) -> None:
        """Waiting is beside the point."""


def simulate(calls: int, is_lost: Callable[[], bool]) -> tuple[float, int, list[Any]]:
    """Attempts per call, calls that failed, and events, at one call a second."""
    clock, told, failed = Clock(), list[Any](), 0
    kind = type(
        "Clocked", (Simulated,), {"_clock": staticmethod(clock), "is_lost": staticmethod(is_lost)}
    )
    adapter = kind(max_retries=RetryPolicy(), observers=(told.append,))
    request = requests.Request("GET", "http://host.invalid/").prepare()
    for _ in range(calls):
        clock.at += 1.0
        try:
            adapter.send(request)
        except requests.ConnectionError:
            failed += 1
    return adapter.attempts / calls, failed, told


def test_a_dead_origin_is_hardly_asked_more_often_than_it_is_called() -> None:
    """300 s, one call a second: the policy, the budget and the clock as a call uses them."""
    per_call, failed, told = simulate(300, lambda: True)
    reasons = [event.reason for event in told if isinstance(event, RetryDenied)]

    assert per_call <= 1.2
    assert failed == 300
    assert reasons.count("budget") > 250
    assert set(reasons) == {"budget", "exhausted"}


def test_random_loss_is_recovered_from() -> None:
    """One call a second, one attempt in five lost: at least 98 of 100 calls succeed."""
    dice = random.Random(20)
    per_call, failed, _ = simulate(2000, lambda: dice.random() < 0.2)

    assert failed <= 40
    assert 1.15 < per_call < 1.35


def test_each_origin_has_its_own_budget(fault_server_factory: Callable[..., FaultServer]) -> None:
    """An outage of one provider takes no retries of another; a shared policy shares no tokens."""
    policy = {"budget": RetryBudget(capacity=1, deposit=0, trickle=0)}
    with (
        fault_server_factory() as dead,
        fault_server_factory() as other,
        Client(dead, policy=policy) as client,
    ):
        dead.default = reset()
        other.script(reset())
        with pytest.raises(requests.ConnectionError):
            client.get()
        response = client.session.get(other.url)

    assert response.status_code == 200
    assert (len(dead.requests), len(other.requests)) == (2, 2)
