"""``HTTPAdapter(max_retries=Retry(...))`` migrates by renaming the class: what the statuses did, they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter

from resilient_requests import ResilientAdapter
from resilient_requests.testing import Reply, Send, reset, respond

if TYPE_CHECKING:
    from resilient_requests.testing import FaultServer

RETRIES: dict[str, tuple[dict[str, Any], str, int]] = {
    "a method that is not allowed": ({"total": 2, "status_forcelist": [500], "allowed_methods": ["GET"]}, "PUT", 500),
    "a POST by default": ({"total": 2, "status_forcelist": [500]}, "POST", 500),
    "a busy POST by default": ({"total": 2, "status_forcelist": [503]}, "POST", 503),
    "a GET by default": ({"total": 2, "status_forcelist": [500]}, "GET", 500),
    "every method": ({"total": 2, "status_forcelist": [500], "allowed_methods": None}, "POST", 500),
    "no error raised": ({"total": 2, "status_forcelist": [500], "raise_on_status": False}, "GET", 500),
    "status=0": ({"total": 2, "status": 0, "status_forcelist": [500], "raise_on_status": False}, "GET", 500),
    "Retry-After on request": ({"total": 2}, "GET", 503),
    "no Retry-After wanted": ({"total": 2, "respect_retry_after_header": False}, "GET", 503),
}


def outcome(server: FaultServer, adapter: HTTPAdapter, method: str) -> tuple[object, int]:
    """What a call brings, and how many requests the server saw of it."""
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
    """Held against requests' own adapter; keys change what is safe after a lost connection, not after a status."""
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
    """What it says about statuses says nothing about a server that may have acted."""
    fault_server.default = fault
    adapter = ResilientAdapter(max_retries=urllib3.Retry(**options), idempotency_keys=False)
    error, requests_made = outcome(fault_server, adapter, method)

    assert isinstance(error, type)
    assert requests_made == 1


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
