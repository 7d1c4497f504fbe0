"""Texts that come whole, as lists of parts, or under names of a provider's own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_wires import ASK, Canned, chunk, deltas_of, events, read

from resilient_requests import ChatCompletion, stream_chat

HMM = {"type": "thinking", "thinking": [{"type": "text", "text": "hmm "}]}
SO = {"type": "thinking", "thinking": [{"type": "text", "text": "so"}]}
HELLO = {"type": "text", "text": "Hello"}
SUMMARY = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hmm"}]}


def answer(*chunks: dict[str, Any], **options: Any) -> ChatCompletion:
    """The completion of an answer whose deltas add up to it."""
    with stream_chat(Canned(events(*chunks)), "http://x/", **options, **ASK) as stream:
        deltas = deltas_of(stream)
    completion = stream.completion
    assert "".join(each.content for each in deltas) == completion.content
    assert "".join(each.reasoning for each in deltas) == completion.reasoning
    return completion


@pytest.mark.parametrize(
    ("pieces", "content", "reasoning"),
    [
        ([[HMM], [SO], [HELLO]], "Hello", "hmm so"),
        ([[HMM, SO], [HELLO], " world"], "Hello world", "hmm so"),
        (["Well, ", [HELLO], "!"], "Well, Hello!", ""),
        ([[HELLO, {"type": "text", "text": ""}], []], "Hello", ""),
        ([[{"type": "thinking", "thinking": "hmm"}], [HELLO]], "Hello", "hmm"),
        ([["Hel", "lo"]], "Hello", ""),
        ([[{"type": "output_text", "text": "Hello", "annotations": []}]], "Hello", ""),
        ([[SUMMARY], [HELLO]], "Hello", "hmm"),
        ([[{"type": "image_url", "image_url": {"url": "data:"}}, HELLO]], "Hello", ""),
    ],
    ids=[
        "Mistral",
        "several, then a string",
        "a string first",
        "empty",
        "thinking as text",
        "strings",
        "Responses",
        "Databricks",
        "an image",
    ],
)
def test_a_content_of_parts_is_read(pieces: list[Any], content: str, reasoning: str) -> None:
    """It may stand in deltas, in a whole message within an event, and in a document."""
    deltas = [{"choices": [{"index": 0, "delta": {"content": each}}]} for each in pieces]
    found = answer(*deltas, chunk(finish="stop"))

    assert (found.content, found.reasoning) == (content, reasoning)
    for each in pieces:
        message = {"role": "assistant", "content": each}
        document = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        whole = read([json.dumps(document).encode()], "openai", "application/json")
        assert whole == answer(document)
        assert whole.content in content
        assert whole.reasoning in reasoning


@pytest.mark.parametrize(
    ("delta", "reasoning"),
    [
        ({"reasoning_content": "hmm"}, "hmm"),
        ({"reasoning": "hmm"}, "hmm"),
        ({"reasoning_text": "hmm"}, "hmm"),
        ({"reasoning_content": [SUMMARY]}, "hmm"),
        ({"reasoning_content": "hmm", "reasoning": "hmm"}, "hmm"),
        (
            {"reasoning": "hmm", "reasoning_details": [{"type": "reasoning.text", "text": "hmm"}]},
            "hmm",
        ),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "hmm"}]}, "hmm"),
        ({"reasoning_details": [{"type": "reasoning.summary", "summary": "hmm"}]}, "hmm"),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "AAA"}]}, ""),
        ({"reasoning_content": None, "reasoning": ""}, ""),
    ],
)
def test_reasoning_is_read_once_under_whatever_name(delta: dict[str, Any], reasoning: str) -> None:
    """Several providers send it twice."""
    choice = {"index": 0, "delta": {"content": "a", **delta}, "finish_reason": None}
    found = answer({"choices": [choice]}, chunk(finish="stop"))

    assert (found.content, found.reasoning) == ("a", reasoning)


def test_the_parts_of_a_summary_are_paragraphs() -> None:
    """Glued together, the last word of one would run into the heading of the next."""
    parts = [{"type": "summary_text", "text": text} for text in ("One", "Two")]
    found = answer(
        chunk(reasoning_content=[{"type": "reasoning", "summary": parts}]), chunk("a", "stop")
    )

    assert found.reasoning == "One\n\nTwo"


def test_a_message_where_a_delta_was_due_is_read() -> None:
    """Some proxies cannot stream."""
    message = {"role": "assistant", "content": "Hello"}
    found = answer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    assert (found.content, found.finish_reason, found.truncated) == ("Hello", "stop", False)


@pytest.mark.parametrize("told", ["Hello", "Hello world"])
def test_a_message_that_repeats_the_deltas_adds_what_is_missing(told: str) -> None:
    """Some providers sum up at the end, or in each chunk."""
    last = {"role": "assistant", "content": told}
    found = answer(
        chunk("Hel"),
        {"choices": [{"index": 0, "delta": {"content": "lo"}, "message": {"content": "Hello"}}]},
        {"choices": [{"index": 0, "message": last, "finish_reason": "stop"}]},
    )

    assert (found.content, found.truncated) == (told, False)


def test_a_message_that_contradicts_the_deltas_is_truncated() -> None:
    """One of the two is not the text of the model."""
    last = {"role": "assistant", "content": "Bye"}
    found = answer(
        chunk("Hello"), {"choices": [{"index": 0, "message": last, "finish_reason": "stop"}]}
    )

    assert (found.content, found.truncated) == ("Hello", True)


def test_the_names_of_an_answer_are_the_first_that_come() -> None:
    """Some gateways make up an id per chunk."""
    found = answer(
        {"id": "", "model": "", "choices": []},
        {**chunk("a"), "id": "one"},
        {**chunk("b", "stop"), "id": "two"},
    )

    assert (found.id, found.model) == ("one", "m-1")
