"""A refusal is read within bounds, and becomes a readable line, for any page."""

from __future__ import annotations

import gzip
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from chat_wires import ASK, mounted, refusal
from clients import in_time

from resilient_requests import stream_chat
from resilient_requests.testing import respond, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilient_requests.testing import FaultServer

GZIP = {"Content-Encoding": "gzip"}


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session over our adapter."""
    with mounted() as session:
        yield session


@pytest.fixture
def refused(
    fault_server: FaultServer, session: requests.Session
) -> Callable[..., requests.HTTPError]:
    """The error after a refusal with a given body."""

    def ask(body: bytes, **options: Any) -> requests.HTTPError:
        fault_server.script(respond(body, status=502, **options))
        with pytest.raises(requests.HTTPError) as caught:
            stream_chat(session, fault_server.url, **ASK)
        return caught.value

    return ask


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<script>if (a < b) '<b>x</b>'</script><p>No server</p>", "No server"),
        (b"<SCRIPT\nsrc='x'></SCRIPT ><Title>No\tserver</TITLE>x", "No server"),
        (b"<script>never ends <title>no title</title>", ""),
        (b"<style>a>b{}</style ><br/>No<hr>server", "No server"),
        (b"<title> </title><h1>No server</h1>", "No server"),
        (b"<!DOCTYPE html><?xml ?><scripted>No server</scripted>", "No server"),
        (b"load < 3 or > 5, <3", "load < 3 or > 5, <3"),
        (b"<p>cut in <a hr", "cut in <a hr"),
        (b"<" * 100, "< " * 99 + "<"),
        (b'\xef\xbb\xbf{"detail": "No server"}', "No server"),
        (b'{"errors": [{"code": 7}, {"detail": ["No server"]}]}', "No server"),
        (b'{"error": 42, "message": "No server"}', "No server"),
        (b"42", "42"),
        (b"[" * 50_000, "[" * 299 + "\u2026"),
        (b"[" * 500 + b"]" * 500, "[" * 299 + "\u2026"),
    ],
)
def test_a_body_has_a_reason(
    body: bytes, reason: str, refused: Callable[..., requests.HTTPError]
) -> None:
    """The title of a page, else its text; the message in JSON, else all of it."""
    assert str(refused(body)) == f"502 Bad Gateway: {reason}".removesuffix(": ")


def test_a_page_that_grows_a_thousandfold_costs_little(
    refused: Callable[..., requests.HTTPError],
) -> None:
    """Four kilobytes of gzip; the regular expression of old took hours, and held the GIL."""
    began = time.thread_time()
    error = refused(gzip.compress(b"<" * (4 << 20)), headers=GZIP)

    in_time(time.thread_time() - began, 1.0)
    assert refusal(error).content == b"<" * (64 << 10)


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537])
def test_at_most_64_kib_are_kept(size: int, refused: Callable[..., requests.HTTPError]) -> None:
    """The bound counts the decoded bytes."""
    error = refused(gzip.compress(b"x" * size), headers=GZIP)

    assert len(refusal(error).content) == min(size, 65_536)


@pytest.mark.slow
def test_a_refusal_that_falls_silent_late_is_bounded_in_time(
    fault_server: FaultServer, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is one for all of it, and does not begin anew with each byte."""
    monkeypatch.setattr("resilient_requests.chat._refusal._SECONDS", 1.0)
    fault_server.script(stream([b"no", 0.8, b" server", 60.0], status=502))
    began = time.monotonic()
    with pytest.raises(requests.HTTPError, match=r"no server$"):
        stream_chat(session, fault_server.url, **ASK)

    in_time(time.monotonic() - began, 1.7)


@pytest.mark.parametrize(
    ("hook", "told"),
    [
        (lambda response: response.content, ": No server"),
        (lambda response: list(response.iter_content(3)), ""),
        (lambda response: response.close(), ""),
    ],
    ids=["content", "pieces", "close"],
)
def test_a_hook_may_have_read_a_refusal(
    hook: Callable[[requests.Response], object],
    told: str,
    session: requests.Session,
    refused: Callable[..., requests.HTTPError],
) -> None:
    """Logging does; its status is known all the same."""

    def run(response: requests.Response, **_: Any) -> None:
        hook(response)

    session.hooks["response"] = [run]

    assert str(refused(json.dumps({"error": "No server"}).encode())) == f"502 Bad Gateway{told}"
