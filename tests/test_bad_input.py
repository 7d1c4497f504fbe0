"""Wrong arguments are named where they are given; wrong environment variables cost one warning."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import math
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import tenacity
import urllib3
from clients import attempts_of

from resilient_requests import (
    CancelScope,
    KeepAlivePolicy,
    ResilientAdapter,
    RetryBudget,
    RetryDenied,
    RetryPolicy,
    TCPKeepAlive,
    Timeouts,
    iter_bytes,
    iter_events,
)
from resilient_requests.call import limits_of
from resilient_requests.testing import FaultServer, reset

if TYPE_CHECKING:
    from collections.abc import Callable

DURATIONS: list[tuple[Callable[..., Any], str]] = [
    *[(Timeouts, name) for name in ("connect", "write", "response", "idle", "total")],
    (KeepAlivePolicy, "max_age"),
    (TCPKeepAlive, "user_timeout"),
    (CancelScope, "timeout"),
]
AMOUNTS: list[tuple[Callable[..., Any], str]] = [
    (KeepAlivePolicy, "expiry"),
    (KeepAlivePolicy, "hint_margin"),
    *[(RetryBudget, name) for name in ("capacity", "deposit", "trickle")],
    (ResilientAdapter, "keepalive"),
]
NOT_FINITE = [math.nan, math.inf, 10**400]
NO_NUMBERS = ["1", b"1", True, [1], timedelta(seconds=1), Decimal(1), 1j, object()]


def named(maker: Callable[..., Any], name: str, value: object) -> pytest.ExceptionInfo[Exception]:
    """The error with which a value is refused; it names the parameter."""
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b") as caught:
        maker(**{name: value})
    return caught


@pytest.mark.parametrize(("maker", "name"), [*DURATIONS, *AMOUNTS])
def test_what_is_no_number_is_no_duration(maker: Callable[..., Any], name: str) -> None:
    """True is an int to Python, and a mistake to everybody else."""
    assert {named(maker, name, value).type for value in NO_NUMBERS} == {TypeError}


@pytest.mark.parametrize(("maker", "name"), DURATIONS)
def test_a_duration_is_finite_and_above_zero(maker: Callable[..., Any], name: str) -> None:
    """None says "no limit"; nothing else does."""
    wrong = [0, -1, -0.5, *NOT_FINITE, -math.inf, 2_147_484]

    assert {named(maker, name, value).type for value in wrong} == {ValueError}
    for value in (None, 1, 0.001, 86400.0, 2_147_483):
        maker(**{name: value})


@pytest.mark.parametrize(("maker", "name"), AMOUNTS)
def test_an_amount_is_finite_and_not_negative(maker: Callable[..., Any], name: str) -> None:
    """Zero is valid: never reuse, no deposit."""
    wrong = [-1, -0.001, *NOT_FINITE]

    assert {named(maker, name, value).type for value in wrong} == {ValueError}
    maker(**{name: 0})


@pytest.mark.parametrize(
    "maker",
    [
        ResilientAdapter,
        KeepAlivePolicy,
        RetryPolicy,
        RetryBudget,
        Timeouts,
        TCPKeepAlive,
        CancelScope,
    ],
)
def test_an_unknown_keyword_is_named(maker: Callable[..., Any]) -> None:
    """A misspelt option must not be a silent default."""
    with pytest.raises(TypeError, match="time_out"):
        maker(time_out=1)


@pytest.mark.parametrize(
    "maker", [KeepAlivePolicy, RetryPolicy, RetryBudget, Timeouts, TCPKeepAlive]
)
def test_options_are_keyword_only(maker: Callable[..., Any]) -> None:
    """``Timeouts(1, 2)`` says nothing to a reader."""
    with pytest.raises(TypeError):
        maker(1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("wait", 1),
        ("wait", 0.5),
        ("wait", "1"),
        ("wait", timedelta(seconds=1)),
        ("wait", tenacity.wait_fixed),
        ("wait", tenacity.stop_after_attempt(3)),
        ("wait", tenacity.retry_if_result(bool)),
        ("max_retries", True),
        ("max_retries", -1),
        ("max_retries", 1.0),
        ("max_retries", "2"),
        ("max_retries", None),
        ("retry_response_timeout", 1),
        ("retry_response_timeout", None),
        ("statuses", 503),
        ("statuses", "503"),
        ("statuses", [99]),
        ("statuses", [1000]),
        ("statuses", ["503"]),
        ("budget", 10),
    ],
)
def test_a_wrong_rule_is_named(name: str, value: object) -> None:
    """The error comes at construction, and not in the first outage."""
    named(RetryPolicy, name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_retries", True),
        ("max_retries", -1),
        ("max_retries", 2.0),
        ("max_retries", "2"),
        ("max_retries", None),
        ("pool_connections", -1),
        ("pool_connections", "10"),
        ("pool_maxsize", True),
        ("pool_maxsize", -1),
        ("pool_block", 1),
        ("timeouts", 5),
        ("timeouts", None),
        ("idempotency_keys", "yes"),
        ("tcp_keepalive", 15),
        ("observers", print),
        ("observers", [1]),
        ("observers", "print"),
    ],
)
def test_a_wrong_argument_of_the_adapter_is_named(name: str, value: object) -> None:
    """``HTTPAdapter`` takes a bool as a number of retries, which nobody ever meant."""
    named(ResilientAdapter, name, value)


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("keepalive", None, r"keepalive=KeepAlivePolicy\(expiry=0\) never reuses a connection"),
        ("tcp_keepalive", False, "or None to leave sockets alone, not bool"),
        ("tcp_keepalive", True, r"must be a TCPKeepAlive\(\), or None"),
    ],
)
def test_a_way_to_say_off_that_is_not_ours_is_told_the_right_one(
    name: str, value: object, advice: str
) -> None:
    """People try None and False first; each meaning has one spelling."""
    with pytest.raises(TypeError, match=advice):
        ResilientAdapter(**{name: value})  # type: ignore[arg-type]  # the tested mistake


def test_a_blocking_pool_without_a_place_is_refused() -> None:
    """Every call would wait for ever."""
    with pytest.raises(
        ValueError, match="pool_maxsize must be at least 1 with pool_block=True, not 0"
    ):
        ResilientAdapter(pool_maxsize=0, pool_block=True)


@pytest.mark.parametrize("name", ["idle", "interval", "count"])
def test_a_wrong_socket_option_is_named(name: str) -> None:
    """The kernel refuses it on every dial, which would look like an outage."""
    for value in (0, -1, 1.5, True, "1", 10**9):
        named(TCPKeepAlive, name, value)


@pytest.mark.parametrize(
    ("timeout", "part"),
    [
        (0, "connect"),
        (-1, "connect"),
        ("5", "connect"),
        (True, "connect"),
        ((1, 0), "read"),
        ((1, "5"), "read"),
        ((1, 2, 3), "timeout"),
        ((1,), "timeout"),
        ([1, 2], "timeout"),
    ],
)
def test_a_wrong_timeout_of_a_call_is_named(
    fault_server: FaultServer, timeout: Any, part: str
) -> None:
    """The error comes before any request."""
    with requests.Session() as session:
        session.mount("http://", ResilientAdapter())
        with pytest.raises((TypeError, ValueError), match=part):
            session.get(fault_server.url, timeout=timeout)

    assert fault_server.accepted == 0


@pytest.mark.parametrize("name", ["idle_timeout", "heartbeat", "event_timeout", "max_event_bytes"])
def test_a_wrong_limit_of_a_stream_is_named(name: str) -> None:
    """The error comes before any read, so the response can still be used."""
    readers: list[Any] = (
        [iter_events] if name in ("event_timeout", "max_event_bytes") else [iter_bytes, iter_events]
    )
    response = requests.Response()
    response.raw = io.BytesIO(b"unread")
    for reader in readers:
        for value in (0, -1, True, "1", math.nan):
            named(functools.partial(reader, response), name, value)

    assert response.raw.read() == b"unread"


@pytest.mark.parametrize(
    "max_retries",
    [
        0,
        5,
        RetryPolicy(max_retries=0),
        urllib3.Retry(3),
        urllib3.Retry(0, read=False),
        urllib3.Retry(False),
    ],
)
def test_every_form_of_retries_is_taken(max_retries: Any) -> None:
    """Code for ``HTTPAdapter`` migrates by renaming the class."""
    assert ResilientAdapter(max_retries=max_retries).retry_policy.max_retries in (0, 3, 5)


def test_the_first_four_arguments_are_positional_as_in_requests() -> None:
    """The fifth is not."""
    adapter: Any = ResilientAdapter(1, 2, 3, True)

    assert (adapter._pool_connections, adapter._pool_maxsize, adapter._pool_block) == (1, 2, True)
    assert adapter.retry_policy.max_retries == 3
    with pytest.raises(TypeError):
        ResilientAdapter(1, 2, 3, True, 5)  # type: ignore[call-arg]  # the tested mistake


# The environment

SWITCH = "RESILIENT_REQUESTS_DISABLE"
KEEPALIVE, RETRIES, IDLE = (
    f"RESILIENT_REQUESTS_{name}" for name in ("KEEPALIVE", "MAX_RETRIES", "STREAM_IDLE")
)


def read(name: str) -> float | None:
    """Return the value that an adapter built now takes from the variable."""
    adapter = ResilientAdapter()
    found = {KEEPALIVE: adapter._keepalive.expiry, RETRIES: adapter.retry_policy.max_retries}
    return found.get(name, adapter._timeouts.idle)


@pytest.mark.parametrize(
    ("name", "value", "expected", "warnings"),
    [
        *[(KEEPALIVE, bad, 10.0, 1) for bad in ("0", "-5", "abc", "nan", "inf", "1e999", "10s")],
        *[(KEEPALIVE, blank, 10.0, 0) for blank in ("", " ")],
        (KEEPALIVE, "4", 4.0, 0),
        (KEEPALIVE, " 2.5 ", 2.5, 0),
        *[(RETRIES, bad, 2, 1) for bad in ("-1", "abc", "1.5", "nan", "1e3")],
        *[(RETRIES, blank, 2, 0) for blank in ("", " ")],
        (RETRIES, "0", 0, 0),
        (RETRIES, "6", 6, 0),
        *[(IDLE, bad, 300.0, 1) for bad in ("0", "-1", "abc", "inf", "2147484")],
        (IDLE, "", 300.0, 0),
        (IDLE, "60", 60.0, 0),
    ],
)
def test_a_bad_variable_means_the_default_and_one_warning(  # noqa: PLR0917  # a table
    name: str,
    value: str,
    expected: float,
    warnings: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An operator's slip must not stop a service; the warning names the variable, not its value."""
    monkeypatch.setenv(name, value)
    told = pytest.warns(RuntimeWarning, match=name) if warnings else contextlib.nullcontext()
    with caplog.at_level(logging.WARNING, "resilient_requests"), told:
        found = read(name)

    assert found == expected
    assert [name in record.getMessage() for record in caplog.records] == [True] * warnings
    assert all(repr(value) not in record.getMessage() for record in caplog.records)


def test_explicit_arguments_win_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The code gives the user's meaning; an unused variable brings no warning."""
    for name in (KEEPALIVE, RETRIES, IDLE):
        monkeypatch.setenv(name, "abc")
    adapter = ResilientAdapter(max_retries=RetryPolicy(), keepalive=10, timeouts=Timeouts())

    assert adapter.retry_policy.max_retries == 2
    assert caplog.records == []


def test_the_environment_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing it after construction changes nothing."""
    adapter = ResilientAdapter()
    monkeypatch.setenv(RETRIES, "7")

    assert adapter.retry_policy.max_retries == 2
    assert ResilientAdapter().retry_policy.max_retries == 7


@pytest.mark.parametrize("value", ["1", " 1 ", "true", "True", "YES", "on"])
def test_the_kill_switch_makes_a_plain_adapter(
    monkeypatch: pytest.MonkeyPatch, fault_server: FaultServer, value: str
) -> None:
    """An operator who suspects this package turns it off: no key, no retry, requests' own pools."""
    monkeypatch.setenv(SWITCH, value)
    fault_server.script(reset())
    with requests.Session() as session:
        session.mount("http://", adapter := ResilientAdapter(idempotency_keys=True))
        with pytest.raises(requests.ConnectionError):
            session.post(fault_server.url)

    assert [each.header("Idempotency-Key") for each in fault_server.requests] == [None]
    assert repr(adapter) == f"<ResilientAdapter disabled by {SWITCH}>"


@pytest.mark.parametrize("value", ["0", "false", "No", "OFF", "", " "])
def test_a_kill_switch_that_is_off_is_silent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    """Deployments write the value that a switch has anyway; here a warning is an error."""
    monkeypatch.setenv(SWITCH, value)

    assert "disabled" not in repr(ResilientAdapter())
    assert caplog.records == []


@pytest.mark.parametrize("value", ["2", "disable", "ja", "hunter2"])
def test_a_kill_switch_that_is_not_understood_warns_where_a_person_sees_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    """An operator who has turned it believes that all is off; the value is not shown."""
    monkeypatch.setenv(SWITCH, value)
    with pytest.warns(RuntimeWarning, match=f"{SWITCH} is neither on") as warned:
        adapter = ResilientAdapter()

    assert "disabled" not in repr(adapter)
    assert [Path(each.filename).name for each in warned] == [Path(__file__).name]
    assert [SWITCH in record.getMessage() for record in caplog.records] == [True]
    assert value not in f"{warned[0].message} {caplog.text}"


@pytest.mark.parametrize(
    "timeout", [10**7, 9e9, (10**7, 4_294_968), urllib3.Timeout(connect=10**7, read=10**7)]
)
def test_a_timeout_of_months_is_taken_as_requests_does(
    fault_server: FaultServer, timeout: Any
) -> None:
    """A time beyond the range of poll() is clipped: it counts milliseconds in an int."""
    limits = limits_of(Timeouts(), timeout)
    with requests.Session() as session:
        session.mount("http://", ResilientAdapter())
        response = session.get(fault_server.url, timeout=timeout)

    assert response.status_code == 200
    assert (limits.connect, limits.response) == (2_147_483.0, 2_147_483.0)


class Broken:
    """A waiting strategy with a mistake in it."""

    def __call__(self, state: tenacity.RetryCallState) -> float:
        """Raise."""
        return 1 / 0


@pytest.mark.parametrize(
    ("wait", "kind"),
    [(Broken(), ZeroDivisionError), (lambda _: "soon", TypeError), (lambda _: None, TypeError)],
)
def test_a_mistake_in_a_waiting_strategy_stands_before_the_failure(
    fault_server: FaultServer, wait: Any, kind: type[Exception]
) -> None:
    """It is the caller's own code, and must not hide why it was asked."""
    fault_server.default = reset()
    events: list[Any] = []
    with requests.Session() as session:
        session.mount(
            "http://",
            ResilientAdapter(max_retries=RetryPolicy(wait=wait), observers=[events.append]),
        )
        with pytest.raises(kind, match=None if kind is ZeroDivisionError else "wait") as caught:
            session.get(fault_server.url)

    assert isinstance(caught.value.__cause__, requests.ConnectionError)
    assert [each.stopped_by for each in attempts_of(caught.value)] == ["policy"]
    assert [event.reason for event in events if isinstance(event, RetryDenied)] == ["policy"]


@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan"), float("-inf")])
def test_a_wait_below_zero_is_none(fault_server: FaultServer, seconds: float) -> None:
    """A jitter that goes too far down must not cost a call."""
    fault_server.script(reset())
    with requests.Session() as session:
        session.mount("http://", ResilientAdapter(max_retries=RetryPolicy(wait=lambda _: seconds)))
        response = session.get(fault_server.url)

    assert response.status_code == 200
