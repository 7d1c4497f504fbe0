"""When an answer is at its end: by a marker, or by the last word of each choice."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from chat_wires import ASK, ROLE, USAGE, chunk, events, good, mounted, read
from clients import in_time

from resilient_requests import (
    StreamBroken,
    StreamProtocolError,
    StreamTruncated,
    complete_chat,
    stream_chat,
)
from resilient_requests.testing import FaultServer, sse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

    Factory = Callable[..., FaultServer]


@pytest.fixture
def session(fault_server: FaultServer) -> Iterator[requests.Session]:
    """A session over our adapter."""
    with mounted(fault_server) as session:
        yield session


def early(text: str = "") -> dict[str, Any]:
    """A chunk that says that it is the last."""
    return chunk(text, "stop", role="assistant")


def gemini(text: str, finish: str | None = None) -> dict[str, Any]:
    """A chunk of Gemini's."""
    candidate = {"content": {"parts": [{"text": text}] if text else []}, "index": 0}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})]}


EARLY: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "with each chunk": ("openai", [early(), early("a"), early("b")]),
    "with each chunk, from the first text": ("openai", [early("a"), early("b")]),
    "with the first chunk": ("openai", [early(), chunk("a"), chunk("b")]),
    "gemini": ("gemini", [gemini("", "STOP"), gemini("a"), gemini("b")]),
    "gemini, with each chunk": ("gemini", [gemini(each, "STOP") for each in "ab"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EARLY)
def test_a_finish_reason_that_comes_early_is_not_the_last_word(
    name: str, fault_server: FaultServer, session: requests.Session
) -> None:
    """More may follow, after a pause: the answer ends with the body, or two silent seconds."""
    dialect, chunks = EARLY[name]
    wire = [each for part in chunks for each in (part, 0.5)]
    fault_server.script(sse(*wire, done=False), sse(*wire, threading.Event(), done=False))
    ended = complete_chat(session, fault_server.url, dialect=dialect, **ASK)
    began = time.monotonic()
    held = complete_chat(session, fault_server.url, dialect=dialect, **ASK)

    assert ended.content == held.content == "ab"
    assert not ended.truncated
    assert in_time(time.monotonic() - began, 4.0) >= 2.4


@pytest.mark.parametrize("name", EARLY)
@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_break_behind_an_early_finish_reason_is_one(
    name: str, framing: Any, fault_server: FaultServer, session: requests.Session
) -> None:
    """The answer had not come to its end."""
    dialect, chunks = EARLY[name]
    fault_server.script(sse(*chunks, done=False, ending="reset", framing=framing))
    with (
        stream_chat(session, fault_server.url, dialect=dialect, **ASK) as deltas,
        pytest.raises(StreamBroken) as caught,
    ):
        list(deltas)

    assert caught.value.partial.content == "ab"
    assert caught.value.partial.truncated


@pytest.mark.parametrize("name", EARLY)
def test_a_chunk_cut_behind_an_early_finish_reason_is_truncated(name: str) -> None:
    """A clean end in the middle of a chunk is no end of the answer."""
    dialect, chunks = EARLY[name]
    wire = [*events(*chunks, done=False), b'data: {"choices":[{"index":0,"delta":{"conte']
    with pytest.raises(StreamTruncated) as caught:
        read(wire, dialect)

    assert caught.value.partial.content == "ab"


def test_usage_alone_says_that_the_finish_reason_was_the_last_word(
    fault_server: FaultServer, session: requests.Session
) -> None:
    """A whole answer in one chunk, and the connection stays open."""
    usage = {"choices": [], "usage": USAGE}
    fault_server.script(sse(early("a"), usage, threading.Event(), done=False))
    began = time.monotonic()
    found = complete_chat(session, fault_server.url, **ASK)

    in_time(time.monotonic() - began, 1.0)
    assert (found.content, found.usage and found.usage.total_tokens) == ("a", 7)


@pytest.mark.parametrize("finish", ["null", "", None])
def test_a_finish_reason_that_is_none_ends_nothing(finish: str | None) -> None:
    """Some write null as a text."""
    with pytest.raises(StreamTruncated):
        read(events(chunk("a", finish), done=False), "openai")

    assert read(events(chunk("a", finish)), "openai").finish_reason is None


MARKERS = [b"data: DONE\n\n", b'data: "[DONE]"\n\n', b"data:[DONE]\n\n", b"data: [DONE]"]
ODD = [
    b"data: null\n\n",
    b"data: {nonsense\n\n",
    b"data: [1, 2]\n\n",
    b"data: 5\n\n",
    b"data: <br>\n\n",
]


@pytest.mark.parametrize("end", MARKERS)
def test_the_marker_may_be_written_otherwise(end: bytes) -> None:
    """It means the same, with a finish reason before it or without."""
    for chunks in ([chunk("a")], [chunk("a"), chunk(finish="stop")]):
        found = read([*events(*chunks, done=False), end], "openai")

        assert (found.content, found.truncated) == ("a", False)


@pytest.mark.parametrize("end", ODD)
@pytest.mark.parametrize(
    "chunks", [[chunk("a"), chunk(finish="stop")], [early("a")]], ids=["behind", "at once"]
)
def test_what_cannot_be_read_behind_a_finished_answer_ends_it(
    end: bytes, chunks: list[Any]
) -> None:
    """It does not discard the answer."""
    found = read([*events(*chunks, done=False), end, *events(chunk("b"))], "openai")

    assert (found.content, found.truncated) == ("a", False)


@pytest.mark.parametrize("end", ODD)
@pytest.mark.parametrize("chunks", [[chunk("a")], [early(), chunk("a")]], ids=["open", "early"])
def test_what_cannot_be_read_before_the_end_is_a_protocol_error(
    end: bytes, chunks: list[Any]
) -> None:
    """It may have been a part of the answer."""
    with pytest.raises(StreamProtocolError) as caught:
        read([*events(*chunks, done=False), end, *events()], "openai")

    assert caught.value.partial.content == "a"


OTHER_PROTOCOLS: dict[str, tuple[str, list[Any]]] = {
    "anthropic to openai": ("openai", [{"type": "message_start", "message": {}}, {"type": "ping"}]),
    "openai to anthropic": ("anthropic", [chunk("a"), chunk(finish="stop")]),
    "openai to responses": ("openai-responses", [chunk("a")]),
    "gemini to openai": ("openai", [gemini("a", "STOP")]),
    "openai to gemini": ("gemini", [chunk("a")]),
    "openai to ollama": ("ollama", [chunk("a")]),
    "ollama to cohere": ("cohere", [{"message": {"content": "a"}, "done": False}]),
    "nothing": ("openai", []),
}


@pytest.mark.parametrize("name", OTHER_PROTOCOLS)
def test_a_marker_behind_what_nobody_understood_names_the_dialect(name: str) -> None:
    """An empty answer would be a failure told as a success."""
    dialect, chunks = OTHER_PROTOCOLS[name]
    with pytest.raises(StreamProtocolError, match=f"dialect='{dialect}'"):
        read(events(*chunks), dialect)


def test_a_document_may_be_followed_by_the_marker() -> None:
    """Some gateways write the whole answer, and then the end of a stream."""
    answer = {"choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]}
    for end in (b"\ndata: [DONE]\n\n", b"\n\ndata: [DONE]", b"\n[DONE]\n", b"\n", b""):
        for indent in (None, 2):
            body = json.dumps(answer, indent=indent).encode() + end
            for size in (1, 7, len(body)):
                pieces = [body[at : at + size] for at in range(0, len(body), size)]
                found = read(pieces, "openai")

                assert (found.content, found.truncated) == ("Hello", False)


def test_a_break_at_the_finish_reason_of_one_chunk_may_have_come_too_early(
    fault_server: FaultServer, session: requests.Session
) -> None:
    """A reader that leaves there cannot know whether it was the last: the completion says so."""
    fault_server.script(sse(early("a"), threading.Event(), done=False), good())
    with stream_chat(session, fault_server.url, **ASK) as deltas:
        next(deltas)

    assert deltas.completion.truncated


def test_the_last_word_behind_the_answer_ends_it_soon(
    fault_server: FaultServer, session: requests.Session
) -> None:
    """The usual form: nothing more is waited for than a tenth of a second."""
    elapsed = []
    for _ in range(3):  # a machine that is busy with other things may be late once
        wire = (ROLE, chunk("a"), chunk(finish="stop"), threading.Event())
        fault_server.script(sse(*wire, done=False))
        began = time.monotonic()
        assert complete_chat(session, fault_server.url, **ASK).content == "a"
        elapsed.append(time.monotonic() - began)

    in_time(min(elapsed), 0.3)


def test_nothing_behind_the_last_event_is_read(
    fault_server: FaultServer, session: requests.Session
) -> None:
    """Where a dialect names its last event, what follows belongs to no answer."""
    said = {"type": "response.output_text.delta", "item_id": "a", "output_index": 0}
    over: dict[str, Any] = {
        "type": "response.completed",
        "response": {"status": "completed", "output": []},
    }
    first, late = ({**said, "delta": text} for text in ("whole", ", and more"))
    fault_server.script(sse(first, over, late, done=False))

    answer = complete_chat(session, fault_server.url, dialect="openai-responses", **ASK)

    assert (answer.content, answer.truncated) == ("whole", False)
