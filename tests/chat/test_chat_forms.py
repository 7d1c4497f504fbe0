"""The form of a body: its first bytes decide, and its Content-Type is a hint."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from chat_wires import ASK, DATA, EXPECTED, Canned, chunk, cut, events, mounted, read, summary
from clients import in_time
from coded_bodies import until_error

from resilient_requests import StreamProtocolError, complete_chat, stream_chat
from resilient_requests.chat._forms import JSONDocument, JSONLines
from resilient_requests.stream import EventTooLarge
from resilient_requests.testing import FaultServer, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    Factory = Callable[..., FaultServer]

KINDS = [
    "text/event-stream",
    "text/event-stream; charset=utf-8",
    "application/json",
    "application/x-ndjson",
    "application/json, text/event-stream",
    "text/plain",
    "text/plain; charset=utf-8",
    "text/html",
    "application/octet-stream",
    "",
]
ONE_OF_EACH = [
    "openai-tools.sse",
    "openai-responses.sse",
    "anthropic.sse",
    "gemini.sse",
    "gemini-array.json",
    "deepseek-blank-lines.json",
    "ollama.ndjson",
    "ollama-no-newline.ndjson",
    "anthropic-whole.json",
    "openai-responses-whole.json",
]


def wanted(name: str) -> dict[str, Any]:
    """Return the members that the completion of a recorded wire must have."""
    hidden = ("dialect", "content_type")
    return {key: value for key, value in EXPECTED[name].items() if key not in hidden}


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_is_read_whatever_it_is_called(kind: str) -> None:
    """Every SDK reads events without a look at the header; and each recorded form is one."""
    for name in ONE_OF_EACH:
        body = (DATA / name).read_bytes()
        for size in (1, 5, len(body)):
            found = read(cut(body, size), EXPECTED[name]["dialect"], kind)

            assert summary(found) == wanted(name), name


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain"])
def test_lines_that_are_called_otherwise_cost_one_request(
    kind: str, fault_server: FaultServer
) -> None:
    """Ollama behind a proxy that renames them."""
    body = (DATA / "ollama.ndjson").read_bytes()
    fault_server.default = stream([body], content_type=kind)
    with mounted() as session:
        found = complete_chat(session, fault_server.url, dialect="ollama", **ASK)

    assert summary(found) == wanted("ollama.ndjson")
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("dialect", ["openai", "ollama"])
def test_a_line_is_shown_when_it_comes(dialect: str, fault_server: FaultServer) -> None:
    """In a dialect of lines, a line does not wait for the next one."""
    line = {
        "openai": json.dumps(chunk("a")),
        "ollama": json.dumps({"message": {"content": "a"}, "done": False}),
    }[dialect].encode()
    pieces: list[Any] = [line + b"\n", *([line] if dialect == "openai" else []), threading.Event()]
    fault_server.script(stream(pieces, content_type="application/x-ndjson"))
    with (
        mounted() as session,
        stream_chat(session, fault_server.url, dialect=dialect, **ASK) as deltas,
    ):
        began = time.monotonic()
        assert next(deltas).content == "a"

    in_time(time.monotonic() - began, 1.0)


def test_chunks_of_openai_may_come_as_lines() -> None:
    """Some gateways know no events."""
    lines = [json.dumps(each).encode() + b"\n" for each in (chunk("a"), chunk("b", "stop"))]
    for kind in KINDS:
        for size in (1, 1000):
            found = read(cut(b"".join(lines), size), "openai", kind)

            assert (found.content, found.truncated) == ("ab", False)


def test_lines_of_ollama_may_come_as_events() -> None:
    """Some gateways wrap them."""
    wire = events(
        {"message": {"content": "a"}, "done": False},
        {"message": {"content": "b"}, "done": True, "done_reason": "stop"},
    )

    assert read(wire, "ollama").content == "ab"


PAGES = {
    "html": b"<!doctype html>\n<title>Sign in</title>",
    "white space first": b"\r\n\n  <html><body>no</body></html>",
    "xml": b"<?xml version='1.0'?><Error/>",
}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json", "application/x-ndjson"])
@pytest.mark.parametrize("size", [1, 1000])
def test_a_page_that_is_called_an_answer_is_called_html(name: str, kind: str, size: int) -> None:
    """A captive portal, or a proxy: to say that the stream was truncated would mislead."""
    with pytest.raises(StreamProtocolError, match=r"the body is HTML|the body begins '<") as caught:
        read(cut(PAGES[name], size), "openai", kind)

    assert "<" in str(caught.value)


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "", "image/png"])
@pytest.mark.parametrize("body", [b"upstream connect error", b"\x89PNG\r\n", b"no"])
def test_a_text_that_is_no_answer_is_refused_before_it_is_streamed(kind: str, body: bytes) -> None:
    """A view can still answer 502 then."""
    with pytest.raises(StreamProtocolError, match="which is no answer; the body begins"):
        stream_chat(Canned([body], kind), "http://x/", **ASK)


@pytest.mark.slow
def test_a_body_without_a_type_may_be_late(fault_server: FaultServer) -> None:
    """Its first bytes show its form, even if they come after the first second."""
    wire: list[Any] = [1.3, *events(chunk("a", "stop"))]
    fault_server.script(stream(wire, content_type="text/plain"))
    with mounted() as session:
        assert complete_chat(session, fault_server.url, **ASK).content == "a"


def test_what_was_looked_at_first_is_not_lost(fault_server: FaultServer) -> None:
    """The body calls itself a text: one event, a pause, and the rest."""
    first, second = (b"data: " + json.dumps(chunk(each)).encode() + b"\n\n" for each in "ab")
    wire: list[Any] = [b"\n", first[:9], 0.05, first[9:], 0.05, second, *events()]
    fault_server.script(stream(wire, content_type="text/plain"))
    with mounted() as session:
        assert complete_chat(session, fault_server.url, **ASK).content == "ab"


def test_an_event_may_hold_an_image(fault_server: FaultServer) -> None:
    """An image is larger than any text. The limit is 64 MiB, or the caller's own."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 20_000_000}}
    fault_server.default = stream(events(chunk("a", images=[image]), chunk(finish="stop")))
    with mounted() as session:
        found = complete_chat(session, fault_server.url, **ASK)
        with pytest.raises(StreamProtocolError, match="exceeds max_event_bytes=1000000"):
            complete_chat(session, fault_server.url, max_event_bytes=1_000_000, **ASK)

    assert found.message["images"] == [image]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"{}\n", ["{}"]),
        (b"{}\r\n[]\r\n", ["{}", "[]"]),
        (b"\n\n{}\n \r\n[]", ["{}", "[]"]),
        (b"{}", ["{}"]),
        (b"\xef\xbb\xbf{}\n", ["{}"]),
        (b'"\xff"\n', ['"\ufffd"']),
        ('"\u2028\x85"\n'.encode(), ['"\u2028\x85"']),
    ],
)
def test_a_line_is_a_document(data: bytes, lines: list[str]) -> None:
    """The cuts do not matter; blank lines are skipped, and the last one needs no end."""
    for size in range(1, len(data) + 2):
        decoder = JSONLines()
        events = [event for piece in cut(data, size) for event in decoder.feed(piece)]
        if decoder.is_pending:
            events += decoder.flush()
        assert [event.data.rstrip("\r") for event in events] == lines
        assert not decoder.is_pending


@pytest.mark.parametrize("decoder", [JSONLines, JSONDocument])
def test_a_document_has_a_limit(decoder: Any) -> None:
    """The limit holds for a document without an end, in any cut."""
    for size in (1, 30, 200):
        document = decoder(100)
        document.feed(b"x" * 50)
        document.feed(b"x" * 50)
        fed, _ = until_error(EventTooLarge, map(document.feed, cut(b"x" * 100, size)))
        assert not any(fed)
