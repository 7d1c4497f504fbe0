"""Cohere's second API: all that is its own; the rest is tested with every dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_wires import DATA, events, read

from resilient_requests import ChatAPIError, StreamProtocolError, StreamTruncated, ToolCall

END = {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}


def told(kind: str, index: Any = None, **message: Any) -> dict[str, Any]:
    """An event with a piece of the message."""
    found: dict[str, Any] = {"type": kind, "delta": {"message": message}}
    return found | ({} if index is None else {"index": index})


def test_the_tool_plan_is_reasoning_and_goes_back_as_itself() -> None:
    """It says why the calls are made."""
    found = read([(DATA / "cohere.sse").read_bytes()], "cohere")

    assert found.reasoning == "Hm. I will look."
    assert found.message == {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hello"}],
        "tool_plan": " I will look.",
        "citations": [
            {
                "start": 0,
                "end": 5,
                "text": "Hello",
                "sources": [{"type": "document", "id": "d1"}],
                "content_index": 1,
                "type": "TEXT_CONTENT",
            }
        ],
        "tool_calls": [
            {
                "id": "look_1",
                "type": "function",
                "function": {"name": "look", "arguments": '{"a": 1}'},
            }
        ],
    }
    assert found.unknown == {}


def test_two_calls_are_told_apart_by_their_index() -> None:
    """Their deltas have no id."""
    heads = [
        {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": ""}}
        for n in range(2)
    ]
    pieces = [{"function": {"arguments": each}} for each in ('{"n":', "1}")]
    found = read(
        events(
            *(told("tool-call-start", n, tool_calls=head) for n, head in enumerate(heads)),
            *(told("tool-call-delta", n, tool_calls=each) for each in pieces for n in range(2)),
            END,
        ),
        "cohere",
    )

    assert found.tool_calls == tuple(ToolCall(n, f"c{n}", "f", '{"n":1}') for n in range(2))


@pytest.mark.parametrize("content", ["Hello", [{"type": "text", "text": "Hello"}], None])
def test_the_content_of_a_document_may_be_a_text(content: Any) -> None:
    """It may also be a list of parts, or missing."""
    body = {"id": "m", "finish_reason": "COMPLETE", "message": {"content": content}}
    found = read([json.dumps(body).encode()], "cohere", "application/json")

    assert found.content == ("Hello" if content else "")
    assert not found.truncated


def test_an_error_at_the_end_is_told_with_its_reason() -> None:
    """It stands beside the finish reason."""
    ending = {
        "type": "message-end",
        "delta": {"finish_reason": "ERROR", "error": "the model went away"},
    }
    with pytest.raises(ChatAPIError, match="the model went away"):
        read(events(ending), "cohere")


def test_a_stream_without_its_end_is_truncated() -> None:
    """There is no other sign."""
    with pytest.raises(StreamTruncated):
        read(events(told("content-delta", 0, content={"text": "a"}), done=False), "cohere")


def test_an_index_is_bounded() -> None:
    """The bound is that of every dialect."""
    head = {"id": "c", "function": {"name": "f"}}
    with pytest.raises(StreamProtocolError, match="tool call index"):
        read(events(told("tool-call-start", 10**9, tool_calls=head), END), "cohere")
