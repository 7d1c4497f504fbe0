"""``HTTPAdapter(max_retries=Retry(...))`` migrates by renaming the class, and acts as before."""

from __future__ import annotations

import dataclasses
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3
from clients import Client, refusing
from requests.adapters import HTTPAdapter

from resilient_requests import (
    AttemptStarted,
    ResilientAdapter,
    RetryBudget,
    RetryScheduled,
    Timeouts,
    is_transient,
)
from resilient_requests.retry import policy_of
from resilient_requests.testing import Reply, Send, reset, respond

if TYPE_CHECKING:
    from resilient_requests.testing import FaultServer

RETRIES: dict[str, tuple[dict[str, Any], str, int]] = {
    "a method that is not allowed": (
        {"total": 2, "status_forcelist": [500], "allowed_methods": ["GET"]},
        "PUT",
        500,
    ),
    "a POST by default": ({"total": 2, "status_forcelist": [500]}, "POST", 500),
    "a busy POST by default": ({"total": 2, "status_forcelist": [503]}, "POST", 503),
    "a GET by default": ({"total": 2, "status_forcelist": [500]}, "GET", 500),
    "every method": ({"total": 2, "status_forcelist": [500], "allowed_methods": None}, "POST", 500),
    "no error raised": (
        {"total": 2, "status_forcelist": [500], "raise_on_status": False},
        "GET",
        500,
    ),
    "status=0": (
        {"total": 2, "status": 0, "status_forcelist": [500], "raise_on_status": False},
        "GET",
        500,
    ),
    "status=0, raised": ({"total": 2, "status": 0, "status_forcelist": [500]}, "GET", 500),
    "status=1": ({"total": 5, "status": 1, "status_forcelist": [500]}, "GET", 500),
    "status=1 and no total": ({"total": None, "status": 1, "status_forcelist": [500]}, "GET", 500),
    "total=0": ({"total": 0, "status_forcelist": [500]}, "GET", 500),
    "a method that nobody knows": (
        {"total": 1, "status_forcelist": [500], "allowed_methods": None},
        "LINK",
        500,
    ),
    "a status that nobody knows": ({"total": 1, "status_forcelist": [999]}, "GET", 999),
    "Retry-After on request": ({"total": 2}, "GET", 503),
    "no Retry-After wanted": ({"total": 2, "respect_retry_after_header": False}, "GET", 503),
}

LISTED = policy_of(urllib3.Retry(3, status_forcelist=[503]))


def outcome(server: FaultServer, adapter: HTTPAdapter, method: str) -> tuple[object, int]:
    """Return the outcome of a call, and the number of its requests at the server."""
    server.reset_counts()
    with requests.Session() as session:
        session.mount("http://", adapter)
        try:
            result: object = session.request(method, server.url).status_code
        except requests.RequestException as error:
            result = type(error)
    return result, len(server.requests)


@pytest.mark.parametrize("case", RETRIES)
def test_a_urllib3_retry_means_what_it_meant(fault_server: FaultServer, case: str) -> None:
    """It is compared with requests' own adapter."""
    options, method, status = RETRIES[case]
    fault_server.default = respond(status=status, headers={"Retry-After": "0"})
    plain = outcome(fault_server, HTTPAdapter(max_retries=urllib3.Retry(**options)), method)
    ours = outcome(fault_server, ResilientAdapter(max_retries=urllib3.Retry(**options)), method)

    assert ours == plain


@pytest.mark.parametrize(
    ("options", "method", "fault"),
    [
        ({"total": 3}, "POST", reset()),
        ({"total": 3}, "POST", Reply((Send(b"HTTP/1.1 2"), *reset().steps))),
        ({"total": 3}, "POST", respond(b"0123456789", cut=5)),
        ({"total": 2, "allowed_methods": ["POST"]}, "GET", reset()),
        ({"total": 2, "read": 0}, "GET", reset()),
        ({"total": 2, "read": False}, "GET", reset()),
    ],
    ids=["reset", "cut head", "cut body", "another method", "read=0", "read=False"],
)
def test_a_lost_connection_repeats_no_more_than_the_retry_allows(
    fault_server: FaultServer, options: dict[str, Any], method: str, fault: Reply
) -> None:
    """Its rules about statuses do not cover a server that may have acted."""
    fault_server.default = fault
    adapter = ResilientAdapter(max_retries=urllib3.Retry(**options), idempotency_keys=False)
    error, requests_made = outcome(fault_server, adapter, method)

    assert isinstance(error, type)
    assert requests_made == 1


@pytest.mark.parametrize(
    ("options", "dials"),
    [
        ({"total": 2}, 3),
        ({"total": 2, "connect": 0}, 1),
        ({"total": 5, "connect": 1}, 2),
        ({"total": None, "connect": 1, "read": 2}, 2),
        ({"total": 1, "read": 0}, 2),
        ({"total": 2, "connect": False}, 1),
    ],
)
def test_a_count_of_dials_bounds_dials(options: dict[str, Any], dials: int) -> None:
    """The count is below the total; counts of other kinds do not bound dials."""
    with refusing() as url, Client(url, max_retries=urllib3.Retry(**options)) as client:
        with pytest.raises(requests.ConnectionError):
            client.get()

        assert len(client.told(AttemptStarted)) == dials


@pytest.mark.parametrize(
    ("options", "expected"), [({"read": 1}, 2), ({"read": 1, "connect": 0, "status": 0}, 2)]
)
def test_a_count_of_lost_answers_bounds_those(
    fault_server: FaultServer, options: dict[str, Any], expected: int
) -> None:
    """Even a larger total does not allow more."""
    fault_server.default = reset()
    _, requests_made = outcome(
        fault_server, ResilientAdapter(max_retries=urllib3.Retry(5, **options)), "GET"
    )

    assert requests_made == expected


def test_a_method_that_nobody_knows_is_repeated_where_all_methods_are(
    fault_server: FaultServer,
) -> None:
    """``allowed_methods=None`` is no list of those that we have heard of."""
    fault_server.default = reset()
    retry = urllib3.Retry(2, allowed_methods=None)
    _, requests_made = outcome(fault_server, ResilientAdapter(max_retries=retry), "PROPFIND")

    assert requests_made == 3


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({"timeouts": Timeouts(total=30.0)}, "60"),
        (
            {"max_retries": dataclasses.replace(LISTED, budget=RetryBudget(capacity=0, trickle=0))},
            "0",
        ),
    ],
    ids=["deadline", "budget"],
)
def test_retries_on_a_status_that_end_early_raise_too(
    fault_server: FaultServer, options: dict[str, Any], seconds: str
) -> None:
    """A caller with the promise of an error instead of a 503 does not look at the status."""
    fault_server.default = respond(status=503, headers={"Retry-After": seconds})
    with (
        Client(fault_server, **{"max_retries": LISTED, **options}) as client,
        pytest.raises(requests.exceptions.RetryError) as caught,
    ):
        client.get()

    assert len(fault_server.requests) == 1
    assert not is_transient(caught.value)


def test_retries_on_a_status_end_where_the_body_cannot_be_sent_again(
    fault_server: FaultServer,
) -> None:
    """This end is no success either."""
    fault_server.default = respond(status=503)
    retry = urllib3.Retry(2, status_forcelist=[503], allowed_methods=None)
    with (
        Client(fault_server, max_retries=retry) as client,
        pytest.raises(requests.exceptions.RetryError),
    ):
        client.post(data=iter([b"once"]))

    assert len(fault_server.requests) == 1


class Stubborn(urllib3.Retry):
    """Has rules of its own, as urllib3 allows."""

    def get_backoff_time(self) -> float:
        """Return other seconds than urllib3's."""
        return 0.01 * len(self.history)

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        """Return True for every fault of the server."""
        return method == "GET" and status_code >= 500


def test_a_retry_of_a_subclass_is_asked_itself(fault_server: FaultServer) -> None:
    """Its own rules are why there is a subclass."""
    fault_server.default = respond(status=502)
    with Client(fault_server, max_retries=Stubborn(2)) as client:
        posted = client.post()
        with pytest.raises(requests.exceptions.RetryError):
            client.get()

    assert posted.status_code == 502
    assert [event.wait for event in client.told(RetryScheduled)] == pytest.approx([0.01, 0.02])


def test_a_translated_policy_survives_pickle_and_replace(fault_server: FaultServer) -> None:
    """It is a policy like any other."""
    policy = pickle.loads(pickle.dumps(ResilientAdapter(max_retries=Stubborn(5)))).retry_policy
    fault_server.default = respond(status=502)
    adapter = ResilientAdapter(max_retries=dataclasses.replace(policy, max_retries=1))

    assert outcome(fault_server, adapter, "GET") == (requests.exceptions.RetryError, 2)


def test_an_exhausted_retry_names_no_query(fault_server: FaultServer) -> None:
    """Keys of some providers travel in the query."""
    fault_server.default = respond(status=500)
    adapter = ResilientAdapter(max_retries=urllib3.Retry(1, status_forcelist=[500]))
    with requests.Session() as session:
        session.mount("http://", adapter)
        with pytest.raises(requests.exceptions.RetryError) as caught:
            session.get(f"{fault_server.url}/path?key=secret")

    assert "secret" not in str(caught.value)
    assert "/path" in str(caught.value)
