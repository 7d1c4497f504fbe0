"""The message of an answer goes back as it is: a tool loop of three turns in each dialect."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import requests
from chat_wires import call, chunk, events, mounted, read
from hypothesis import given
from hypothesis import strategies as st

from resilient_requests import ChatCompletion, ToolCall, complete_chat, stream_chat
from resilient_requests.testing import FaultServer, ReceivedRequest, Reply, respond, stream

if TYPE_CHECKING:
    from collections.abc import Callable

QUESTION: dict[str, Any] = {"role": "user", "content": "What is 1 + 1, and then + 1?"}


def of_openai(number: int, arguments: str) -> list[dict[str, Any]]:
    """A turn of OpenRouter's, with reasoning that is signed, and a call."""
    details = [
        {"type": "reasoning.text", "text": "hmm", "format": "x-v1", "index": 0},
        {"type": "reasoning.text", "text": " so", "index": 0},
        {"type": "reasoning.text", "signature": f"sig{number}", "index": 0},
        {"type": "reasoning.encrypted", "data": "AAAA", "id": "r1", "index": 1},
    ]
    head = {**call(0, call_id=f"c{number}", name="add"), "type": "function"}
    return [
        chunk(role="assistant", content=""),
        *(chunk(reasoning_details=[each]) for each in details),
        chunk("Let me "),
        chunk("see."),
        chunk(tool_calls=[head]),
        *(chunk(tool_calls=[call(0, each)]) for each in (arguments[:4], arguments[4:])),
        chunk(finish="tool_calls"),
    ]


def sent_by_openai(number: int, arguments: str) -> Any:
    """Return the message of that turn, as a whole."""
    return {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning_details": [
            {
                "type": "reasoning.text",
                "text": "hmm so",
                "format": "x-v1",
                "index": 0,
                "signature": f"sig{number}",
            },
            {"type": "reasoning.encrypted", "data": "AAAA", "id": "r1", "index": 1},
        ],
        "tool_calls": [
            {
                "id": f"c{number}",
                "type": "function",
                "function": {"name": "add", "arguments": arguments},
            }
        ],
    }


def of_mistral(number: int, arguments: str) -> list[dict[str, Any]]:
    """A turn whose content has parts."""
    return [
        chunk(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
        chunk(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "m"}]}]),
        chunk(content=[{"type": "text", "text": "Let me "}]),
        chunk("see."),
        chunk(tool_calls=[call(0, arguments, call_id=f"c{number}", name="add")]),
        chunk(finish="tool_calls"),
    ]


def sent_by_mistral(number: int, arguments: str) -> Any:
    """Return the message of that turn, as a whole."""
    sent = sent_by_openai(number, arguments)
    del sent["reasoning_details"]
    return {
        **sent,
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hmm"}]},
            {"type": "text", "text": "Let me see."},
        ],
    }


def of_responses(number: int, arguments: str) -> list[dict[str, Any]]:
    """A turn with encrypted reasoning, a tool of the provider's own, an image and a call."""
    items = sent_by_responses(number, arguments)
    found: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        found += [
            {
                "type": "response.output_item.added",
                "output_index": index,
                "item": {**item, "status": "in_progress", "arguments": "", "content": []},
            },
            {"type": "response.output_item.done", "output_index": index, "item": item},
        ]
    output = items if number % 2 else []  # some gateways leave it empty
    end = {"type": "response.completed", "response": {"status": "completed", "output": output}}
    return [*found, end]


def sent_by_responses(number: int, arguments: str) -> Any:
    """The items of that turn."""
    return [
        {"type": "reasoning", "id": f"rs{number}", "summary": [], "encrypted_content": "AAAA"},
        {"type": "web_search_call", "id": f"ws{number}", "action": {"query": "x"}},
        {"type": "image_generation_call", "id": f"ig{number}", "result": "iVBO"},
        {
            "type": "message",
            "id": f"m{number}",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}],
        },
        {
            "type": "function_call",
            "id": f"fc{number}",
            "call_id": f"c{number}",
            "name": "add",
            "arguments": arguments,
        },
    ]


def of_anthropic(number: int, arguments: str) -> list[dict[str, Any]]:
    """A turn with signed and hidden thinking, the provider's own tool, citations and a call."""

    def start(index: int, **block: Any) -> dict[str, Any]:
        return {"type": "content_block_start", "index": index, "content_block": block}

    def delta(index: int, kind: str, **members: Any) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **members}}

    return [
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 5}}},
        start(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="hm"),
        delta(0, "thinking_delta", thinking="m"),
        delta(0, "signature_delta", signature=f"sig{number}"),
        {"type": "content_block_stop", "index": 0},
        start(1, type="redacted_thinking", data="AAAA"),
        start(2, type="server_tool_use", id=f"s{number}", name="web_search", input={}),
        delta(2, "input_json_delta", partial_json='{"query":'),
        delta(2, "input_json_delta", partial_json=' "x"}'),
        start(3, type="web_search_tool_result", tool_use_id=f"s{number}", content=[{"url": "u"}]),
        start(4, type="text", text=""),
        delta(4, "text_delta", text="Let me "),
        delta(4, "citations_delta", citation={"type": "char_location", "cited_text": "x"}),
        delta(4, "citations_delta", citation={"type": "char_location", "cited_text": "y"}),
        delta(4, "text_delta", text="see."),
        start(5, type="compaction", content=""),
        delta(5, "compaction_delta", content="before"),
        start(6, type="text", text=""),
        start(7, type="tool_use", id=f"c{number}", name="add", input={}, caller={"type": "direct"}),
        delta(7, "input_json_delta", partial_json=arguments[:4]),
        delta(7, "input_json_delta", partial_json=arguments[4:]),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        {"type": "message_stop"},
    ]


def sent_by_anthropic(number: int, arguments: str) -> Any:
    """Return the message of that turn, as a whole; a text that stayed empty would be refused."""
    citations = [{"type": "char_location", "cited_text": each} for each in "xy"]
    content = [
        {"type": "thinking", "thinking": "hmm", "signature": f"sig{number}"},
        {"type": "redacted_thinking", "data": "AAAA"},
        {
            "type": "server_tool_use",
            "id": f"s{number}",
            "name": "web_search",
            "input": {"query": "x"},
        },
        {"type": "web_search_tool_result", "tool_use_id": f"s{number}", "content": [{"url": "u"}]},
        {"type": "text", "text": "Let me see.", "citations": citations},
        {"type": "compaction", "content": "before"},
        {
            "type": "tool_use",
            "id": f"c{number}",
            "name": "add",
            "input": json.loads(arguments),
            "caller": {"type": "direct"},
        },
    ]
    return {"role": "assistant", "content": content}


def of_gemini(number: int, arguments: str) -> list[dict[str, Any]]:
    """A turn with a thought, signatures, an image and a call."""
    parts = [
        {"text": "hm", "thought": True},
        {"text": "m", "thought": True},
        {"text": "Let me "},
        {"text": "see."},
        {"text": "", "thoughtSignature": "AAAA"},
        {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
        {
            "functionCall": {"id": f"c{number}", "name": "add", "args": json.loads(arguments)},
            "thoughtSignature": f"sig{number}",
        },
    ]
    chunks = [{"candidates": [{"content": {"role": "model", "parts": [each]}}]} for each in parts]
    end = {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}]}
    return [*chunks, end]


def sent_by_gemini(number: int, arguments: str) -> Any:
    """Return the message of that turn; parts with a signature stay as they are."""
    parts = [
        {"text": "hmm", "thought": True},
        {"text": "Let me see."},
        {"text": "", "thoughtSignature": "AAAA"},
        {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
        {
            "functionCall": {"id": f"c{number}", "name": "add", "args": json.loads(arguments)},
            "thoughtSignature": f"sig{number}",
        },
    ]
    return {"role": "model", "parts": parts}


def of_ollama(number: int, arguments: str) -> list[dict[str, Any]]:
    """A turn with thinking and a call."""
    message = sent_by_ollama(number, arguments)
    return [
        {"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
        {"message": {"role": "assistant", "content": "", "thinking": "m"}, "done": False},
        {"message": {"role": "assistant", "content": "Let me "}, "done": False},
        {"message": {"role": "assistant", "content": "see."}, "done": False},
        {"message": {**message, "content": "", "thinking": ""}, "done": False},
        {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
    ]


def sent_by_ollama(number: int, arguments: str) -> Any:
    """Return the message of that turn, as a whole."""
    function = {"name": "add", "arguments": json.loads(arguments)}
    return {
        "role": "assistant",
        "content": "Let me see.",
        "thinking": "hmm",
        "tool_calls": [{"id": f"c{number}", "function": function}],
    }


def of_cohere(number: int, arguments: str) -> list[dict[str, Any]]:
    """A turn with thinking, a plan, citations and a call."""

    def told(kind: str, index: int | None = None, **message: Any) -> dict[str, Any]:
        found: dict[str, Any] = {"type": kind, "delta": {"message": message}}
        return found | ({} if index is None else {"index": index})

    head = {"id": f"c{number}", "type": "function", "function": {"name": "add", "arguments": ""}}
    return [
        {**told("message-start", role="assistant"), "id": "m"},
        told("tool-plan-delta", tool_plan="I will "),
        told("tool-plan-delta", tool_plan="add."),
        told("content-start", 0, content={"type": "thinking", "thinking": ""}),
        told("content-delta", 0, content={"thinking": "hmm"}),
        told("content-end", 0),
        told("content-start", 1, content={"type": "text", "text": ""}),
        told("content-delta", 1, content={"text": "Let me "}),
        told("content-delta", 1, content={"text": "see."}),
        told("citation-start", 0, citations={"start": 0, "end": 3, "text": "Let"}),
        told("citation-end", 0),
        told("tool-call-start", 0, tool_calls=head),
        told("tool-call-delta", 0, tool_calls={"function": {"arguments": arguments[:4]}}),
        told("tool-call-delta", 0, tool_calls={"function": {"arguments": arguments[4:]}}),
        told("tool-call-end", 0),
        {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}},
    ]


def sent_by_cohere(number: int, arguments: str) -> Any:
    """Return the message of that turn, as a whole."""
    function = {"name": "add", "arguments": arguments}
    return {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hmm"},
            {"type": "text", "text": "Let me see."},
        ],
        "tool_plan": "I will add.",
        "citations": [{"start": 0, "end": 3, "text": "Let"}],
        "tool_calls": [{"id": f"c{number}", "type": "function", "function": function}],
    }


# Each dialect: its turns, their messages as a whole, and the message for the result of a call.
TURNS: dict[str, tuple[str, Any, Any, Callable[[ToolCall, str], dict[str, Any]]]] = {
    "openai": (
        "openai",
        of_openai,
        sent_by_openai,
        lambda made, result: {"role": "tool", "tool_call_id": made.id, "content": result},
    ),
    "mistral": (
        "openai",
        of_mistral,
        sent_by_mistral,
        lambda made, result: {"role": "tool", "tool_call_id": made.id, "content": result},
    ),
    "openai-responses": (
        "openai-responses",
        of_responses,
        sent_by_responses,
        lambda made, result: {
            "type": "function_call_output",
            "call_id": made.id,
            "output": result,
        },
    ),
    "anthropic": (
        "anthropic",
        of_anthropic,
        sent_by_anthropic,
        lambda made, result: {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": made.id, "content": result}],
        },
    ),
    "gemini": (
        "gemini",
        of_gemini,
        sent_by_gemini,
        lambda made, result: {
            "role": "user",
            "parts": [
                {
                    "functionResponse": {
                        "id": made.id,
                        "name": made.name,
                        "response": {"result": result},
                    }
                }
            ],
        },
    ),
    "ollama": (
        "ollama",
        of_ollama,
        sent_by_ollama,
        lambda made, result: {"role": "tool", "tool_name": made.name, "content": result},
    ),
    "cohere": (
        "cohere",
        of_cohere,
        sent_by_cohere,
        lambda made, result: {"role": "tool", "tool_call_id": made.id, "content": result},
    ),
}
MEMBERS = {"openai-responses": "input", "gemini": "contents"}
LAST: dict[str, list[dict[str, Any]]] = {
    "openai": [chunk("It is 3.", "stop")],
    "openai-responses": [
        {"type": "response.output_text.delta", "item_id": "m9", "delta": "It is 3."},
        {"type": "response.completed", "response": {"status": "completed"}},
    ],
    "anthropic": [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": "It is 3."},
        },
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ],
    "gemini": [
        {"candidates": [{"content": {"parts": [{"text": "It is 3."}]}, "finishReason": "STOP"}]}
    ],
    "ollama": [{"message": {"content": "It is 3."}, "done": True, "done_reason": "stop"}],
    "cohere": [
        {
            "type": "content-start",
            "index": 0,
            "delta": {"message": {"content": {"type": "text", "text": "It is 3."}}},
        },
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}},
    ],
}


def wire(dialect: str, chunks: list[dict[str, Any]]) -> Reply:
    """An answer."""
    if dialect == "ollama":
        lines = [json.dumps(each).encode() + b"\n" for each in chunks]
        return stream(lines, content_type="application/x-ndjson")
    return stream(events(*chunks, done=dialect == "openai"))


class Provider:
    """Adds one message per turn, and refuses messages that come back changed."""

    def __init__(self, name: str) -> None:
        self.dialect, self._of, self._sent, self._result = TURNS[name]
        self.wanted: list[Any] = [QUESTION]
        self.turns = 0

    def __call__(self, request: ReceivedRequest) -> Reply:
        body = json.loads(request.body)
        given = body[MEMBERS.get(self.dialect, "messages")]
        if given != self.wanted:
            wrong = [each for each in given if each not in self.wanted]
            return respond(json.dumps({"error": {"message": f"not as sent: {wrong}"}}), status=400)
        self.turns += 1
        number = self.turns
        if number == 3:
            return wire(self.dialect, LAST[self.dialect])
        arguments = json.dumps({"a": number, "b": 1})
        sent = self._sent(number, arguments)
        made = ToolCall(0, f"c{number}", "add", arguments)
        self.wanted += sent if isinstance(sent, list) else [sent]
        self.wanted.append(self._result(made, str(number + 1)))
        return wire(self.dialect, self._of(number, arguments))


@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize("way", ["complete", "stream"])
def test_a_tool_loop_of_three_turns_is_accepted(
    name: str, way: str, fault_server_factory: Any
) -> None:
    """Signatures, encrypted reasoning, ids, images and citations are there, as they were sent."""
    provider = Provider(name)
    server: FaultServer = fault_server_factory(default=provider)
    dialect, _, sent, result = TURNS[name]
    messages: list[Any] = [QUESTION]
    turns = 0
    with mounted() as session:
        while True:
            completion = ask(session, server.url, dialect, messages, way)
            turns += 1
            messages.append(completion.message)
            if not completion.tool_calls:
                break
            (made,) = completion.tool_calls
            assert completion.message == sent(turns, made.arguments)
            numbers = json.loads(made.arguments)
            messages.append(result(made, str(numbers["a"] + numbers["b"])))

    assert (turns, completion.content) == (3, "It is 3.")


def ask(
    session: requests.Session, url: str, dialect: str, messages: list[Any], way: str
) -> ChatCompletion:
    """One turn."""
    options: dict[str, Any] = {"model": "m", "messages": messages, "dialect": dialect}
    if way == "complete":
        return complete_chat(session, url, **options)
    with stream_chat(session, url, **options) as deltas:
        for _ in deltas:
            assert deltas.completion.message is None or deltas.completion.finish_reason
    return deltas.completion


@pytest.mark.parametrize("name", TURNS)
def test_a_provider_refuses_what_comes_back_otherwise(name: str, fault_server_factory: Any) -> None:
    """Without the refusal, the test of the loop could not fail."""
    server: FaultServer = fault_server_factory(default=Provider(name))
    dialect = TURNS[name][0]
    with mounted() as session:
        ask(session, server.url, dialect, [QUESTION], "complete")
        with pytest.raises(requests.HTTPError, match="400"):
            ask(session, server.url, dialect, [QUESTION, {"role": "assistant"}], "complete")


@pytest.mark.parametrize("name", TURNS)
def test_an_answer_that_is_not_whole_has_no_message(name: str) -> None:
    """Half of one must not be sent back."""
    dialect, of, _, _ = TURNS[name]
    chunks = of(1, '{"a": 1}')
    for size in range(len(chunks) - 2):
        wired = (
            [json.dumps(each).encode() + b"\n" for each in chunks[:size]]
            if dialect == "ollama"
            else events(*chunks[:size], done=False)
        )
        kind = "application/x-ndjson" if dialect == "ollama" else "text/event-stream"
        with pytest.raises(requests.RequestException) as caught:
            read(wired, dialect, kind)

        assert caught.value.partial.message is None  # type: ignore[attr-defined]
        assert caught.value.partial.tool_calls == ()  # type: ignore[attr-defined]


def test_audio_is_put_together() -> None:
    """Its data and its transcript come in pieces, its id and its time at once."""
    found = read(
        events(
            chunk(audio={"id": "audio_1", "transcript": "Hel"}),
            chunk(audio={"data": "AAAA"}),
            chunk(audio={"transcript": "lo", "data": "BBBB"}),
            chunk(audio={"expires_at": 1700000000}),
            chunk(finish="stop"),
        ),
        "openai",
    )

    assert found.message == {
        "role": "assistant",
        "content": None,
        "audio": {
            "id": "audio_1",
            "transcript": "Hello",
            "data": "AAAABBBB",
            "expires_at": 1700000000,
        },
    }


def test_images_and_annotations_are_collected() -> None:
    """Each comes whole, or with others."""
    images = [{"type": "image_url", "image_url": {"url": f"data:{n}"}, "index": n} for n in (0, 1)]
    notes = [{"type": "url_citation", "url_citation": {"url": "u"}}]
    found = read(
        events(
            chunk("a", images=images[:1]),
            chunk("b", images=images[1:], annotations=notes),
            chunk(finish="stop"),
        ),
        "openai",
    )

    assert found.message == {
        "role": "assistant",
        "content": "ab",
        "images": images,
        "annotations": notes,
    }


def test_reasoning_goes_back_under_its_own_name() -> None:
    """Some providers refuse a call whose reasoning is missing."""
    found = read(
        events(
            chunk(reasoning_content="hm", role="assistant"),
            chunk(reasoning_content="m"),
            chunk("a"),
            chunk(finish="stop"),
        ),
        "openai",
    )

    assert found.message == {"role": "assistant", "content": "a", "reasoning_content": "hmm"}


def test_a_refusal_goes_back_as_one() -> None:
    """A refusal is no content, and its calls are void."""
    found = read(
        events(
            chunk(refusal="No", role="assistant"),
            chunk(refusal="."),
            chunk(tool_calls=[call(0, "{}", call_id="a", name="f")]),
            chunk(finish="stop"),
        ),
        "openai",
    )

    assert found.content == "No."
    assert found.message == {"role": "assistant", "content": None, "refusal": "No."}


def test_each_choice_has_its_own_message() -> None:
    """Only one of them goes on."""
    chunks = [
        {"choices": [{"index": n, "delta": {"content": text}, "finish_reason": None}]}
        for n, text in ((0, "a"), (1, "b"), (0, "A"), (1, "B"))
    ]
    ends: list[Any] = [
        {"choices": [{"index": n, "delta": {}, "finish_reason": "stop"}]} for n in (0, 1)
    ]
    found = read(events(*chunks, *ends), "openai", n=2)

    assert [each.message["content"] for each in (found, *found.alternatives)] == ["aA", "bB"]


def test_an_input_that_is_no_json_goes_back_as_the_provider_wants_it() -> None:
    """Anthropic's documentation names the member."""
    found = read(
        events(
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "tool_use", "id": "a", "name": "f", "input": {}},
            },
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": '{"a'},
            },
            {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}},
            {"type": "message_stop"},
        ),
        "anthropic",
    )

    assert found.truncated
    assert found.message["content"][0]["input"] == {"INVALID_JSON": '{"a'}


@given(st.lists(st.text(max_size=5), max_size=8))
def test_a_text_is_the_same_in_the_message(pieces: list[str]) -> None:
    """The cuts make no difference."""
    found = read(events(*map(chunk, pieces), chunk(finish="stop")), "openai")

    assert found.message["content"] == found.content == "".join(pieces)


def test_items_without_their_events_are_made_of_their_pieces() -> None:
    """Some gateways send the deltas alone."""
    found = read(
        events(
            {"type": "response.output_text.delta", "item_id": "m1", "delta": "Hel"},
            {"type": "response.output_text.delta", "item_id": "m1", "delta": "lo"},
            {
                "type": "response.output_item.added",
                "item": {
                    "type": "function_call",
                    "id": "fc1",
                    "call_id": "c1",
                    "name": "f",
                    "arguments": "",
                    "status": "in_progress",
                },
            },
            {"type": "response.function_call_arguments.delta", "item_id": "fc1", "delta": "{}"},
            {"type": "response.completed", "response": {"status": "completed", "output": []}},
        ),
        "openai-responses",
    )

    assert found.message == [
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello"}],
        },
        {
            "type": "function_call",
            "id": "fc1",
            "call_id": "c1",
            "name": "f",
            "arguments": "{}",
            "status": "completed",
        },
    ]


def test_a_document_has_a_message_too() -> None:
    """Some servers do not stream."""
    message = {
        "role": "assistant",
        "content": "a",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    found = read([json.dumps(body).encode()], "openai", "application/json")

    assert found.message == message
    assert found.tool_calls == (ToolCall(0, "c1", "f", "{}"),)


def test_a_message_that_is_nested_deeply_spoils_no_answer() -> None:
    """The combined message nests deeper than the events, and Python's versions differ in depth."""
    deep: list[Any] = []
    for _ in range(600):
        deep = [deep]
    block = {"type": "redacted_thinking", "data": deep}
    wire = events(
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "message_stop"},
        done=False,
    )
    found = read(wire, "anthropic")

    assert found.content == "a"
    assert found.message is None or found.message["content"][0] == block
