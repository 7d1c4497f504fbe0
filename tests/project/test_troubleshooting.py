"""The page on troubleshooting has the words that users see: each failure is made, and looked up."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from resilient_requests import (
    CancelScope,
    ResilientAdapter,
    RetryBudget,
    RetryPolicy,
    Timeouts,
    iter_events,
    stream_chat,
)
from resilient_requests.testing import FaultServer, Reply, fin, reset, respond, silence, sse, stream

PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"
WORDS = [
    word
    for row in re.findall(r"^\| (`.*?) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    for word in re.findall(r"`([^`]+)`", row)
]
DELTA = {"choices": [{"index": 0, "delta": {"content": "It is"}, "finish_reason": None}]}
IN_BAND = sse({"error": {"type": "invalid_request_error", "message": "no"}})
HTML = respond("<html>", headers={"Content-Type": "text/html"})

Call = Callable[[requests.Session, str], object]


def get(session: requests.Session, url: str) -> object:
    """Send a request that is safe to repeat."""
    return session.get(url, timeout=0.1)


def post(session: requests.Session, url: str) -> object:
    """Send a request that is not."""
    return session.post(url, json={})


def generated(session: requests.Session, url: str) -> object:
    """Send a body that can be read once."""
    return session.put(url, data=iter([b"once"]))


def lines(session: requests.Session, url: str) -> object:
    """Read blocks of a body in requests' own way."""
    return list(session.get(url, stream=True).iter_content(None))


def events(**limits: Any) -> Call:
    """Return a call that reads events within limits."""

    def read(session: requests.Session, url: str) -> object:
        with iter_events(session.get(url, stream=True), **limits) as found:
            return list(found)

    return read


def chat(session: requests.Session, url: str) -> object:
    """Read an answer."""
    messages = [{"role": "user", "content": "hi"}]
    return list(stream_chat(session, url, model="m", messages=messages))


def mute(session: requests.Session, url: str) -> object:
    """Ask with nothing to say."""
    return stream_chat(session, url, model="m", messages=[])


def scoped(session: requests.Session, url: str) -> object:
    """Send within a scope that is out of time soon."""
    with CancelScope(timeout=0.1):
        return session.get(url)


def cancelled(session: requests.Session, url: str) -> object:
    """Send within a scope that was cancelled."""
    with CancelScope() as scope:
        scope.cancel()
        return session.get(url)


def shut_down(session: requests.Session, url: str) -> object:
    """Send through an adapter that is closed for good."""
    adapter = session.get_adapter(url)
    assert isinstance(adapter, ResilientAdapter)
    adapter.shutdown()
    return session.get(url)


def elsewhere(session: requests.Session, _url: str) -> object:
    """Send to a port where nobody listens."""
    return session.get("http://127.0.0.1:1")


def secure(session: requests.Session, url: str) -> object:
    """Speak TLS to the server."""
    return session.get(url.replace("http:", "https:"))


POOR = RetryPolicy(budget=RetryBudget(capacity=0, deposit=0, trickle=0))
CASES: dict[str, tuple[Call, list[Reply], dict[str, Any]]] = {
    "Connection reset by peer": (post, [reset()], {}),
    "Remote end closed connection without response": (post, [fin()], {}),
    "Read timed out. (read timeout=": (get, [silence()], {}),
    "Failed to establish a new connection": (elsewhere, [], {}),
    "WRONG_VERSION_NUMBER": (secure, [], {}),
    "the call's total time is up": (scoped, [silence()], {}),
    "the adapter was shut down": (shut_down, [], {}),
    "messages must not be empty": (mute, [], {}),
    '"policy"': (post, [reset()], {}),
    '"exhausted"': (get, [reset()] * 3, {}),
    '"budget"': (get, [reset()], {"max_retries": POOR}),
    '"not replayable"': (generated, [reset()], {}),
    '"deadline"': (scoped, [silence()], {}),
    '"cancelled"': (cancelled, [], {}),
    "no byte for": (events(idle_timeout=0.2), [sse("a", ending="silence", done=False)], {}),
    "no event for": (events(event_timeout=0.2), [stream([b": ping\n\n", 0.05] * 20)], {}),
    "the connection was lost after": (events(), [sse("a", ending="reset", done=False)], {}),
    "IncompleteRead": (lines, [respond(b"0123456789", cut=5, ending="fin")], {}),
    "without the sign that the answer is complete": (chat, [sse(DELTA, done=False)] * 3, {}),
    "exceeds max_event_bytes": (events(max_event_bytes=10), [sse("a" * 100)], {}),
    "Content-Type is 'text/html'": (chat, [HTML], {}),
    "ChatAPIError": (chat, [IN_BAND], {}),
    "Cancelled": (cancelled, [], {}),
}
# Each of these has a test elsewhere, or is a warning of urllib3's or an error of OpenSSL's own.
ELSEWHERE = {
    "UNEXPECTED_EOF_WHILE_READING",
    "EOF occurred in violation of protocol",
    "CERTIFICATE_VERIFY_FAILED",
    "Failed to resolve",
    "Connection pool is full, discarding connection",
    "must be",
    '"shut down"',
    "stopped_by",
}


@pytest.mark.parametrize("words", CASES)
def test_the_words_of_a_failure_are_on_the_page(words: str) -> None:
    """A reader of the page searches for them."""
    call, replies, options = CASES[words]
    with FaultServer(*replies) as server, requests.Session() as session:
        for prefix in ("http://", "https://"):
            adapter = ResilientAdapter(timeouts=Timeouts(idle=5.0), **options)
            session.mount(prefix, adapter)
        with pytest.raises(Exception) as caught:  # noqa: PT011  # of any class: its words count
            call(session, server.url)

    error = caught.value
    reasons = [f'"{each.stopped_by}"' for each in getattr(error, "attempts", ())]
    assert words in f"{type(error).__name__}: {error} {reasons}"
    assert any(word.startswith(words) for word in WORDS)


def test_each_row_of_the_page_is_tried() -> None:
    """A row without a trial here is known to be tried elsewhere. Stale words help nobody."""
    tried = (*CASES, *ELSEWHERE)
    found = [word for word in WORDS if not word.startswith("attempt.")]

    assert [word for word in found if not word.startswith(tried)] == []


def test_a_bad_variable_is_logged_as_on_the_page(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The page has the words of the log, and not those that the warning adds."""
    monkeypatch.setitem(os.environ, "RESILIENT_REQUESTS_KEEPALIVE", "ten")
    (words,) = re.findall(r"`(has an unusable value: using)`", PAGE.read_text("utf-8"))

    with pytest.warns(RuntimeWarning):
        ResilientAdapter()

    assert words in caplog.text
