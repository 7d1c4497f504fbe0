"""The requests that a chat call refuses before it sends them, and its report of a refusal."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from chat_wires import ASK, Canned, deltas_of, good, mounted, refusal
from clients import in_time

import resilient_requests
from resilient_requests import (
    ChatCompletion,
    ChatDelta,
    ToolCall,
    Usage,
    complete_chat,
    stream_chat,
)
from resilient_requests.testing import FaultServer, respond, stream

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = [stream_chat, complete_chat]
each_call = pytest.mark.parametrize("run", CALLS, ids=["stream", "complete"])


@each_call
@pytest.mark.parametrize(
    ("wrong", "kind", "named"),
    [
        ({"messages": []}, ValueError, "messages"),
        ({"messages": None}, ValueError, "messages"),
        ({"messages": "text"}, TypeError, "messages"),
        ({"stream": False}, ValueError, "stream"),
        ({"stream": None}, ValueError, "stream"),
        ({"stream": 1}, ValueError, "stream"),
        (
            {"dialect": "klingon"},
            ValueError,
            "anthropic, cohere, gemini, ollama, openai, openai-responses",
        ),
        ({"dialect": None}, TypeError, "dialect"),
        ({"model": None}, TypeError, "model"),
        ({"model": ""}, ValueError, "model"),
        ({"idle_timeout": 0}, ValueError, "idle_timeout"),
        ({"idle_timeout": "5"}, TypeError, "idle_timeout"),
        ({"event_timeout": -1}, ValueError, "event_timeout"),
        ({"first_token_timeout": 0}, ValueError, "first_token_timeout"),
        ({"first_token_timeout": "5"}, TypeError, "first_token_timeout"),
        ({"max_event_bytes": 0}, ValueError, "max_event_bytes"),
        ({"max_event_bytes": None}, TypeError, "max_event_bytes"),
        ({"accept_bare_eof": 1}, TypeError, "accept_bare_eof"),
        ({"headers": [("a", "b")]}, TypeError, "headers"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    run: Callable[..., Any],
    wrong: dict[str, Any],
    kind: type[Exception],
    named: str,
    fault_server: FaultServer,
) -> None:
    """The error has the name of the parameter."""
    with mounted() as session, pytest.raises(kind, match=named):
        run(session, fault_server.url, **{**ASK, **wrong})

    assert fault_server.accepted == 0


@each_call
def test_what_is_no_session_or_url_is_refused(run: Callable[..., Any]) -> None:
    """``requests`` itself is easily given in place of a session."""
    with pytest.raises(TypeError, match="session"):
        run(requests, "http://chat.invalid/", **ASK)
    with pytest.raises(TypeError, match="url"):
        run(requests.Session(), None, **ASK)


@each_call
def test_model_and_messages_are_needed(run: Callable[..., Any]) -> None:
    """Python says so itself."""
    with pytest.raises(TypeError, match="messages"):
        run(requests.Session(), "http://chat.invalid/", model="m")


def test_a_heartbeat_is_for_streams() -> None:
    """Nobody watches a buffered call: the name becomes no member of the body."""
    assert "heartbeat" not in inspect.signature(complete_chat).parameters
    with pytest.raises(TypeError, match="heartbeat"):
        complete_chat(requests.Session(), "http://chat.invalid/", heartbeat=1.0, **ASK)


def test_responses_take_a_text_as_input() -> None:
    """Their API does so."""
    session = Canned([b""])
    stream_chat(
        session, "http://x/", model="m", messages="hello", dialect="openai-responses"
    ).close()

    assert session.sent["json"]["input"] == "hello"


def test_stream_true_is_what_we_do_anyway() -> None:
    """Code that was moved here may still say it."""
    session = Canned([b""])
    stream_chat(session, "http://x/", stream=True, **ASK).close()

    assert session.sent["json"]["stream"] is True


def test_what_the_caller_gave_is_not_changed() -> None:
    """Dicts are used again."""
    headers, messages = {"X-A": "b"}, [{"role": "user", "content": "hi"}]
    session = Canned([b""])
    stream_chat(
        session, "http://x/", model="m", messages=messages, headers=headers, dialect="anthropic"
    ).close()

    assert headers == {"X-A": "b"}
    assert messages == [{"role": "user", "content": "hi"}]


def test_an_accept_header_of_the_callers_wins() -> None:
    """It wins in any case of letters."""
    session = Canned([b""])
    stream_chat(session, "http://x/", headers={"accept": "*/*"}, **ASK).close()

    assert session.sent["headers"] == {"accept": "*/*"}


REASONS: dict[str, tuple[bytes, str]] = {
    "openai": (
        b'{"error": {"message": "No such model", "type": "x", "code": null}}',
        "No such model",
    ),
    "anthropic": (
        b'{"type":"error","error":{"type":"not_found_error","message":"model: x"}}',
        "model: x",
    ),
    "gemini": (
        b'[{"error": {"code": 400, "message": "API key not valid.", "status": "X"}}]',
        "API key not valid.",
    ),
    "ollama": (b'{"error": "model not found"}', "model not found"),
    "fastapi": (
        b'{"detail": [{"loc": ["body"], "msg": "field required", "type": "missing"}]}',
        "field required",
    ),
    "problem": (b'{"title": "Gone", "type": "about:blank"}', "Gone"),
    "message": (b'{"message": "Forbidden"}', "Forbidden"),
    "type only": (b'{"error": {"type": "not_found_error"}}', "not_found_error"),
    "string": (b'"no"', "no"),
    "text": (b"upstream connect error\r\n or disconnect", "upstream connect error or disconnect"),
    "page": (
        b"<html><head><title>502 Bad\n Gateway</title></head><body>nginx</body></html>",
        "502 Bad Gateway",
    ),
    "page without a title": (b"<style>p{}</style><p>Bad</p><p>Gateway</p>", "Bad Gateway"),
    "control characters": (b'{"error": "a\\u0000b\\u001b[31mc\\u2028d"}', "a b [31mc d"),
    "events": (b'data: {"error": {"message": "No start"}}\n\ndata: [DONE]\n\n', "No start"),
    "named event": (
        b'event: error\r\ndata: {"type":"error","error":{"message":"No start"}}',
        "No start",
    ),
    "event without data": (b"event: error", "event: error"),
    "unknown JSON": (b'{"a": 1}', '{"a": 1}'),
    "broken JSON": (b'{"error": {"mess', '{"error": {"mess'),
    "no UTF-8": (b"\xff\xfe", "\ufffd\ufffd"),
}


@each_call
@pytest.mark.parametrize("name", REASONS)
def test_a_refusal_is_one_readable_line(
    name: str, run: Callable[..., Any], fault_server: FaultServer
) -> None:
    """A reader of the log must see the provider's words."""
    body, reason = REASONS[name]
    fault_server.script(respond(body, status=404))
    with mounted() as session, pytest.raises(requests.HTTPError) as caught:
        run(session, fault_server.url, **ASK)

    assert str(caught.value) == f"404 Not Found: {reason}"
    assert refusal(caught.value).content == body
    assert refusal(caught.value).status_code == 404


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<title>502 Bad Gateway</title><h1>502 Bad Gateway</h1><hr>nginx", "502 Bad Gateway"),
        (
            b"<h1>502 Bad Gateway</h1>\nNo server is available.",
            "502 Bad Gateway: No server is available.",
        ),
        (b"502 Bad Gateways", "502 Bad Gateway: 502 Bad Gateways"),
    ],
    ids=["title", "heading", "other word"],
)
def test_a_refusal_says_its_status_once(body: bytes, told: str, fault_server: FaultServer) -> None:
    """The pages of nginx and HAProxy begin with it."""
    fault_server.script(respond(body, status=502))
    with mounted() as session, pytest.raises(requests.HTTPError) as caught:
        stream_chat(session, fault_server.url, **ASK)

    assert str(caught.value) == told


def test_a_refusal_without_a_body_is_its_status(fault_server: FaultServer) -> None:
    """An empty reason is none."""
    fault_server.script(respond(status=503, reason=""))
    with mounted() as session, pytest.raises(requests.HTTPError, match=r"^503$"):
        stream_chat(session, fault_server.url, **ASK)


def test_a_long_refusal_is_cut(fault_server: FaultServer) -> None:
    """The reason has 300 characters, and the bytes that are read are bounded, too."""
    fault_server.script(respond(b"x" * 1_000_000, status=500))
    with mounted() as session, pytest.raises(requests.HTTPError) as caught:
        stream_chat(session, fault_server.url, **ASK)

    assert str(caught.value) == "500 Internal Server Error: " + "x" * 299 + "…"
    assert len(refusal(caught.value).content) < 200_000


@pytest.mark.parametrize(
    "reply",
    [stream([b"half ", 60.0], status=500), stream([b"half "], status=500, ending="reset")],
    ids=["stall", "cut"],
)
def test_a_refusal_whose_body_does_not_end_is_still_one(
    reply: Any, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is known, and a fault of the body must not replace it."""
    monkeypatch.setattr("resilient_requests.chat._refusal._SECONDS", 0.1)
    fault_server.script(reply)
    with (
        mounted() as session,
        pytest.raises(requests.HTTPError, match=r"^500 Internal Server Error: half$"),
    ):
        stream_chat(session, fault_server.url, **ASK)


@pytest.mark.slow
def test_a_refusal_that_drips_is_bounded_in_time(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that go on coming must not hold the caller."""
    monkeypatch.setattr("resilient_requests.chat._refusal._SECONDS", 0.5)
    fault_server.script(stream([b"x", 0.03] * 200, status=500))
    began = time.monotonic()
    with (
        mounted() as session,
        pytest.raises(requests.HTTPError, match=r"^500 Internal Server Error: x+$"),
    ):
        stream_chat(session, fault_server.url, **ASK)

    in_time(time.monotonic() - began, 3.0)


def test_a_redirect_status_without_a_location_is_no_answer(fault_server: FaultServer) -> None:
    """Requests returns such a response as it is."""
    fault_server.script(respond(status=304))
    with (
        mounted() as session,
        pytest.raises(resilient_requests.StreamProtocolError, match="Content-Type"),
    ):
        stream_chat(session, fault_server.url, **ASK)


def test_the_public_types_are_values() -> None:
    """Frozen, comparable, and they cross processes."""
    usage = Usage(1, 2, 3, {"prompt_tokens": 1})
    call = ToolCall(0, "a", "f", "{}")
    for value in (
        usage,
        call,
        ChatDelta("a", "b", (call,), "stop", usage, 0, {"secret": 1}),
        ChatCompletion(
            "a", "b", (call,), "stop", usage, "m", "id", True, (), (ChatCompletion("c"),)
        ),
    ):
        assert pickle.loads(pickle.dumps(value)) == value
        assert "secret" not in repr(value)
        with pytest.raises(AttributeError):
            setattr(
                value,
                value._fields[0] if isinstance(value, tuple) else dataclasses.fields(value)[0].name,
                5,
            )


def test_the_repr_of_a_stream_says_how_it_is(fault_server: FaultServer) -> None:
    """It shows no part of the content."""
    fault_server.script(good())
    with mounted() as session:
        deltas = stream_chat(session, fault_server.url, **ASK)
        states = [repr(deltas)]
        list(deltas)
        states.append(repr(deltas))

    assert states == ["<ChatStream open dialect=openai>", "<ChatStream over dialect=openai>"]


def test_iterating_again_continues(fault_server: FaultServer) -> None:
    """It is its own iterator."""
    fault_server.script(good("a"))
    with mounted() as session, stream_chat(session, fault_server.url, **ASK) as deltas:
        first = next(iter(deltas))
        rest = list(deltas)

    assert isinstance(first, ChatDelta)
    assert [each.content for each in deltas_of(rest)] == ["a", ""]
