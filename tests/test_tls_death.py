from __future__ import annotations

import socket

import pytest
import requests

from resilient_requests import ResilientAdapter, StreamBroken, _exchange, iter_bytes
from resilient_requests.testing import FaultServer, Fin, Reply, Send, stream

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="the platform does not tell a reset from an end")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_reset_is_no_end_of_a_body_without_a_length(tls: bool) -> None:
    """Python 3.10 to 3.12.1 report a reset, or ETIMEDOUT from keep-alive, over TLS as a clean end: a truncation."""
    with FaultServer(stream([b"half"], framing="close", ending="reset"), tls=tls) as server, requests.Session() as s:
        s.mount(server.url, ResilientAdapter())
        response = s.get(server.url, stream=True, verify=server.ca_path or True)

        with iter_bytes(response) as body, pytest.raises(StreamBroken):
            list(body)


@pytest.mark.parametrize("notify", [False, True])
def test_a_fin_is_an_end_with_and_without_close_notify(notify: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many servers leave without close_notify; and after one, a late reset of the socket takes nothing back."""
    if notify:
        monkeypatch.setattr(_exchange, "_is_dead", lambda sock: True)
    with FaultServer(Reply((Send(HEAD, b"whole"), Fin(notify=notify))), tls=True) as server, requests.Session() as s:
        s.mount(server.url, ResilientAdapter())
        response = s.get(server.url, stream=True, verify=server.ca_path)

        with iter_bytes(response) as body:
            assert list(body) == [b"whole"]
