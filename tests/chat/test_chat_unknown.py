"""Events that a dialect does not understand are counted, and logged once."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from chat_wires import ASK, chunk, events, mounted, read
from clients import in_time

from resilient_requests import StreamIdle, stream_chat
from resilient_requests.testing import sse

if TYPE_CHECKING:
    from resilient_requests.testing import FaultServer

START = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
STOP = {"type": "message_stop"}
UNKNOWN: dict[str, tuple[str, list[dict[str, Any]], dict[str, int]]] = {
    "openai, a member": (
        "openai",
        [chunk("a", hologram="x"), chunk("b", hologram="y"), chunk(finish="stop")],
        {"delta.hologram": 2},
    ),
    "openai, a chunk": (
        "openai",
        [chunk("a"), {"object": "something.new", "x": 1}, chunk(finish="stop")],
        {"something.new": 1},
    ),
    "openai, members alone": (
        "openai",
        [chunk("a"), {"foo": 1, "bar": 2}, chunk(finish="stop")],
        {"?": 1},
    ),
    "responses, an event": (
        "openai-responses",
        [
            {"type": "response.output_text.delta", "delta": "a"},
            {"type": "response.hologram.delta", "delta": "x"},
            {"type": "response.completed", "response": {}},
        ],
        {"response.hologram.delta": 1},
    ),
    "anthropic, an event": ("anthropic", [START, {"type": "hologram"}, STOP], {"hologram": 1}),
    "anthropic, a block": (
        "anthropic",
        [{**START, "content_block": {"type": "hologram", "x": 1}}, STOP],
        {"content_block.hologram": 1},
    ),
    "anthropic, a delta": (
        "anthropic",
        [
            START,
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "hologram_delta", "hologram": "x"},
            },
            STOP,
        ],
        {"delta.hologram_delta": 1},
    ),
    "gemini, a part": (
        "gemini",
        [{"candidates": [{"content": {"parts": [{"hologram": {}}]}, "finishReason": "STOP"}]}],
        {"part.hologram": 1},
    ),
    "ollama, a member": (
        "ollama",
        [{"message": {"content": "a", "hologram": "x"}, "done": True}],
        {"message.hologram": 1},
    ),
    "cohere, an event": (
        "cohere",
        [
            {"type": "message-start"},
            {"type": "hologram-delta"},
            {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}},
        ],
        {"hologram-delta": 1},
    ),
    "nothing": ("openai", [chunk("a"), chunk(finish="stop")], {}),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_understood_is_counted_and_logged_once(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is one all the same."""
    dialect, chunks, unknown = UNKNOWN[name]
    caplog.set_level(logging.DEBUG, "resilient_requests")
    found = read(events(*chunks), dialect)

    assert found.unknown == unknown
    assert not found.truncated
    told = [each for each in caplog.records if each.name == "resilient_requests.chat"]
    assert [each.levelno for each in told] == [logging.DEBUG] * len(unknown)
    for record, each in zip(told, unknown, strict=True):
        assert each in record.getMessage()
        assert dialect in record.getMessage()


def test_what_is_new_goes_back_with_the_message() -> None:
    """A provider may want it so, as it has wanted signatures."""
    found = read(
        events(chunk("a", hologram="x"), chunk(hologram="y"), chunk(finish="stop")), "openai"
    )

    assert found.message == {"role": "assistant", "content": "a", "hologram": "xy"}


def test_what_is_counted_is_bounded() -> None:
    """A server must not fill our memory, nor our logs, with names."""
    many = [chunk("a", None, **{f"m{n}": 1, "x" * 100: 1, "a b\n": 1}) for n in range(100)]
    found = read(events(*many, chunk(finish="stop")), "openai")

    assert len(found.unknown) == 32
    assert max(map(len, found.unknown)) <= 64
    assert found.unknown["?"] >= 1
    assert all(each.isprintable() for each in found.unknown)


OTHER_OUTPUT: dict[str, tuple[str, dict[str, Any]]] = {
    "an image": ("openai", chunk(images=[{"type": "image_url", "image_url": {"url": "data:"}}])),
    "audio": ("openai", chunk(audio={"data": "AAAA"})),
    "a transcript": ("openai", chunk(audio={"transcript": "a"})),
    "citations": ("openai", chunk(annotations=[{"type": "url_citation"}])),
    "encrypted reasoning": (
        "openai",
        chunk(reasoning_details=[{"type": "reasoning.encrypted", "data": "AAAA"}]),
    ),
    "a member that is new": ("openai", chunk(hologram="x")),
    "a server tool": (
        "openai-responses",
        {"type": "response.web_search_call.searching", "item_id": "w"},
    ),
    "code": (
        "openai-responses",
        {"type": "response.code_interpreter_call_code.delta", "delta": "x"},
    ),
    "an image's part": (
        "openai-responses",
        {"type": "response.image_generation_call.partial_image", "partial_image_b64": "AAAA"},
    ),
    "a delta that is new": ("openai-responses", {"type": "response.hologram.delta", "delta": "x"}),
    "a signature": (
        "anthropic",
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "signature_delta", "signature": "x"},
        },
    ),
    "hidden thinking": (
        "anthropic",
        {**START, "content_block": {"type": "redacted_thinking", "data": "x"}},
    ),
    "a server tool's input": (
        "anthropic",
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": "{"},
        },
    ),
    "inline data": (
        "gemini",
        {"candidates": [{"content": {"parts": [{"inlineData": {"data": "AAAA"}}]}}]},
    ),
    "a citation": (
        "cohere",
        {"type": "citation-start", "index": 0, "delta": {"message": {"citations": {"start": 0}}}},
    ),
}
BEFORE = {
    "anthropic": [
        START,
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "server_tool_use", "id": "s", "name": "x"},
        },
    ]
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER_OUTPUT)
def test_all_output_feeds_the_event_clock(name: str, fault_server: FaultServer) -> None:
    """A model that draws is alive: it is shown as it comes, in ``raw``."""
    dialect, told = OTHER_OUTPUT[name]
    before = BEFORE.get(dialect, [])
    wire = [each for _ in range(8) for each in (told, 0.1)]
    fault_server.default = sse(*before, *wire, threading.Event(), done=False)
    with (
        mounted() as session,
        stream_chat(session, fault_server.url, dialect=dialect, event_timeout=0.3, **ASK) as deltas,
    ):
        began = time.monotonic()
        raws = []
        with pytest.raises(StreamIdle):
            raws.extend(iter(lambda: raws.append(next(deltas).raw), 0))

    assert in_time(time.monotonic() - began, 3.0) >= 0.9
    assert raws.count(told) == 8
