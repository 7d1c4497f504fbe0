from __future__ import annotations

import pytest
import requests

from resilient_requests import ResilientAdapter, StreamBroken, iter_bytes
from resilient_requests.testing import FaultServer, Fin, Reply, Send, stream

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_reset_is_no_end_of_a_body_without_a_length(tls: bool) -> None:
    """Python 3.10 to 3.12.1 report some failures over TLS as a clean end: a truncation.

    Those failures are a reset, and ETIMEDOUT from keep-alive.
    """
    with (
        FaultServer(stream([b"half"], framing="close", ending="reset"), tls=tls) as server,
        requests.Session() as s,
    ):
        s.mount(server.url, ResilientAdapter())
        response = s.get(server.url, stream=True, verify=server.ca_path or True)

        with iter_bytes(response) as body, pytest.raises(StreamBroken):
            list(body)


@pytest.mark.parametrize("notify", [False, True])
def test_a_fin_is_an_end_with_and_without_close_notify(notify: bool) -> None:
    """Too many servers leave without close_notify to call that a truncation."""
    with (
        FaultServer(Reply((Send(HEAD, b"whole"), Fin(notify=notify))), tls=True) as server,
        requests.Session() as s,
    ):
        s.mount(server.url, ResilientAdapter())
        response = s.get(server.url, stream=True, verify=server.ca_path)

        with iter_bytes(response) as body:
            assert list(body) == [b"whole"]


def test_a_reset_after_the_end_takes_nothing_back() -> None:
    """Balancers send a FIN and then a reset: all of the body had arrived."""
    reply = stream([b"whole"], framing="close", ending="fin_then_reset")
    with FaultServer(reply, tls=True) as server, requests.Session() as s:
        s.mount(server.url, ResilientAdapter())
        response = s.get(server.url, stream=True, verify=server.ca_path)
        assert server.wait_for_disconnects(1)

        with iter_bytes(response) as body:
            assert list(body) == [b"whole"]
