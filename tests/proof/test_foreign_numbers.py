"""Numbers that Python cannot convert end in a response or an error of ours, and no ValueError."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
import requests
from chat_wires import ASK, Canned, chunk, mounted
from clients import Client

from resilient_requests import (
    ChatAPIError,
    Timeouts,
    complete_chat,
    iter_events,
    stream_chat,
)
from resilient_requests.chat.kinds import is_transient
from resilient_requests.retry import retry_after
from resilient_requests.testing import FaultServer, Fin, Reply, Send, respond

BEYOND_INT = "9" * 5000
"""More digits than int() takes."""

WRITABLE = "9" * 4300
"""As many digits as int() takes and str() writes."""

# -- Retry-After -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.0),
        (" 5 ", 5.0),
        ("0", 0.0),
        ("60", 60.0),
        ("61", 60.0),
        (BEYOND_INT, 60.0),
        ("0" * 5000, 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 60.0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", 0.0),
        (f"Fri, 31 Dec {'9' * 40} 23:59:59", 0.0),
        (f"Fri, 31 Dec {BEYOND_INT} 23:59:59 GMT", 0.0),
        ("Fri, 31 Dec 0 23:59:59 GMT", 0.0),
        ("-5", 0.0),
        ("1.5", 0.0),
        ("inf", 0.0),
        ("nan", 0.0),
        ("٣", 0.0),
        ("soon", 0.0),
        (" ", 0.0),
        ("", 0.0),
        (None, 0.0),
    ],
)
def test_retry_after_is_seconds_a_date_or_nothing(value: str | None, seconds: float | None) -> None:
    """RFC 9110 10.2.3; at most a minute."""
    assert retry_after(value) == seconds


@pytest.mark.parametrize("value", ["Fri, 31 Dec 99999 23:59:59 GMT", "-5", "1.5", ""])
def test_an_unreadable_retry_after_does_not_stop_a_retry(
    value: str, fault_server: FaultServer
) -> None:
    """The policy's own wait holds then."""
    fault_server.script(respond(status=503, headers={"Retry-After": value}))
    with Client(fault_server, policy={"statuses": {503}}) as client:
        assert client.get().status_code == 200
        assert client.waited_after == [1]


def test_a_retry_after_beyond_the_deadline_leaves_the_response(fault_server: FaultServer) -> None:
    """It is a long wait, and no error."""
    fault_server.default = respond(status=503, headers={"Retry-After": BEYOND_INT})
    timeouts = Timeouts(total=5.0)
    with Client(fault_server, policy={"statuses": {503}}, timeouts=timeouts) as client:
        assert client.get().status_code == 503


# -- chat ------------------------------------------------------------------------------------------


def events(*data: str) -> list[bytes]:
    """An event stream that has begun to answer."""
    return [f"data: {each}\n\n".encode() for each in (json.dumps(chunk("hello")), *data)]


@pytest.mark.parametrize(
    "error",
    [
        f'{{"message": "no", "code": "{BEYOND_INT}"}}',
        f'{{"message": "no", "code": {WRITABLE}}}',
        f'{{"message": "no", "code": -{WRITABLE}}}',
        '{"message": "no", "code": 1e9999}',
        WRITABLE,
        f'{{"message": "no", "code": {BEYOND_INT}}}',
        BEYOND_INT,
    ],
)
def test_an_error_with_any_code_is_told(error: str) -> None:
    """The error keeps the text before it."""
    session = Canned(events(f'{{"error": {error}}}'))
    with pytest.raises(ChatAPIError) as caught:
        complete_chat(session, "http://chat.invalid/", **ASK)

    assert caught.value.partial.content == "hello"
    assert not caught.value.transient


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("429", True),
        ("500", True),
        ("599", True),
        ("499", False),
        ("600", False),
        ("overloaded_error", True),
        (BEYOND_INT, False),
        (int(WRITABLE), False),
        ("٤٢٩", False),
        ("", False),
        (None, False),
        (503, True),
        (-1, False),
    ],
)
def test_a_code_decides_whether_an_error_is_transient(
    code: str | int | None, expected: bool
) -> None:
    """The code decides where the error has no type."""
    assert is_transient(None, code) is expected


@pytest.mark.parametrize("tokens", [WRITABLE, str(1 << 63)])
def test_a_count_that_no_counter_holds_is_none(tokens: str) -> None:
    """The sum of two such numbers could not be written: ``repr`` would raise ValueError."""
    usage = f'{{"prompt_tokens": {tokens}, "completion_tokens": 4}}'
    done = json.dumps(chunk(finish="stop"))
    session = Canned(events(f'{done[:-1]}, "usage": {usage}}}'))
    completion = complete_chat(session, "http://chat.invalid/", **ASK)

    assert completion.usage is not None
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (None, 4)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"error": {{"code": {BEYOND_INT}, "message": "No such model"}}}}',
        f'{{"code": 7, "errors": [{{"code": {BEYOND_INT}, "detail": "No such model"}}]}}',
        f'{{"detail": [{{"loc": [{BEYOND_INT}], "msg": "No such model"}}]}}',
        f'{{"status": 1e{BEYOND_INT}, "title": "No such model"}}',
    ],
    ids=["error", "errors", "detail", "title"],
)
def test_a_refusal_with_any_number_has_its_reason(body: str, fault_server: FaultServer) -> None:
    """The reason is the words of the refusal, for any number."""
    fault_server.script(respond(body, status=404))
    with mounted() as session, pytest.raises(requests.HTTPError, match=r"Found: No such model$"):
        stream_chat(session, fault_server.url, **ASK)


# -- heads and framings ----------------------------------------------------------------------------

CHUNKED = "Transfer-Encoding: chunked\r\n\r\n"
ANSWERS = {
    "status": f"HTTP/1.1 {BEYOND_INT} OK\r\n\r\n",
    "version": f"HTTP/{BEYOND_INT} 200 OK\r\n\r\n",
    "length": f"HTTP/1.1 200 OK\r\nContent-Length: {BEYOND_INT}\r\n\r\n",
    "negative length": f"HTTP/1.1 200 OK\r\nContent-Length: -{BEYOND_INT}\r\n\r\n",
    "keep-alive": "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
    f"Keep-Alive: timeout={BEYOND_INT}, max={BEYOND_INT}\r\n\r\n",
    "size": f"HTTP/1.1 200 OK\r\n{CHUNKED}{BEYOND_INT}\r\nx\r\n",
    "zeros": f"HTTP/1.1 200 OK\r\n{CHUNKED}{'0' * 5000}\r\n\r\n",
    "retry": f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: {BEYOND_INT}\n\n",
    "expiry": f"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Max-Age={BEYOND_INT}\r\n\r\n",
    "parameter": f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset={BEYOND_INT}\r\n\r\n",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_with_any_number_is_a_response_or_an_error(
    name: str, fault_server: FaultServer
) -> None:
    """That holds for every way to read it."""
    fault_server.default = Reply((Send(ANSWERS[name].encode()), Fin()))

    def use(**options: Any) -> None:
        with contextlib.suppress(requests.RequestException):
            response = client.get(**options)
            list(iter_events(response) if options.get("stream") else response.iter_lines())

    with Client(fault_server, policy={"max_retries": 0}) as client:
        use()
        use(stream=True)

        assert client.adapter.stats().in_flight == 0
