"""Calls of tools: each fragment joins its own call, for all indices and ids that gateways send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_wires import ASK, Canned, call, chunk, deltas_of, events, read

from resilient_requests import ChatCompletion, StreamProtocolError, ToolCall, stream_chat


def answer(*chunks: dict[str, Any], dialect: str = "openai", done: bool = True) -> ChatCompletion:
    """The completion of an answer whose fragments add up to its calls."""
    kind = "application/x-ndjson" if dialect == "ollama" else "text/event-stream"
    wire = (
        [json.dumps(each).encode() + b"\n" for each in chunks]
        if dialect == "ollama"
        else events(*chunks, done=done)
    )
    with stream_chat(Canned(wire, kind), "http://x/", dialect=dialect, **ASK) as stream:
        fragments = [each for delta in deltas_of(stream) for each in delta.tool_calls]
    calls = stream.completion.tool_calls
    for made in calls:
        pieces = [each for each in fragments if each.index == made.index]
        assert "".join(each.arguments for each in pieces) == made.arguments
    assert {each.index for each in fragments} == {made.index for made in calls}
    return stream.completion


def made(completion: ChatCompletion) -> list[tuple[str | None, str | None, str]]:
    """Id, name and arguments of each call."""
    return [(each.id, each.name, each.arguments) for each in completion.tool_calls]


# -- chat completions ------------------------------------------------------------------------------


def test_the_arguments_of_heads_at_one_index_find_their_call() -> None:
    """Some gateways say index 0 in the head of each parallel call, and count only after."""
    heads = [call(0, call_id=f"c{n}", name=f"f{n}") for n in range(3)]
    pieces = [call(n, piece) for piece in ('{"n":', "1}") for n in range(3)]
    found = answer(
        *(chunk(tool_calls=[each]) for each in (*heads, *pieces)), chunk(finish="tool_calls")
    )

    assert made(found) == [(f"c{n}", f"f{n}", '{"n":1}') for n in range(3)]


def test_a_known_id_wins_over_an_index() -> None:
    """The index is wrong in it, or that of another call."""
    found = answer(
        chunk(tool_calls=[call(0, '{"a"', call_id="a", name="f")]),
        chunk(tool_calls=[call(1, '{"b"', call_id="b", name="g")]),
        chunk(tool_calls=[call(1, ":1}", call_id="a")]),
        chunk(tool_calls=[call(0, ":2}", call_id="b")]),
        chunk(finish="tool_calls"),
    )

    assert made(found) == [("a", "f", '{"a":1}'), ("b", "g", '{"b":2}')]


def test_an_id_that_comes_late_is_that_of_its_call() -> None:
    """The head had none."""
    found = answer(
        chunk(tool_calls=[call(0, "{", name="f")]),
        chunk(tool_calls=[call(0, "}", call_id="a")]),
        chunk(finish="tool_calls"),
    )

    assert made(found) == [("a", "f", "{}")]


def test_a_new_name_at_a_used_index_is_another_call() -> None:
    """Without ids, the arguments of two calls in one would be those of neither."""
    found = answer(
        chunk(tool_calls=[call(0, '{"a":1}', name="f")]),
        chunk(tool_calls=[call(0, '{"b":2}', name="g")]),
        chunk(finish="tool_calls"),
    )

    assert made(found) == [(None, "f", '{"a":1}'), (None, "g", '{"b":2}')]


def test_a_name_that_is_repeated_makes_no_new_call() -> None:
    """Some servers send the whole head with each fragment."""
    found = answer(
        chunk(tool_calls=[call(0, '{"a"', call_id="a", name="f")]),
        chunk(tool_calls=[call(0, ":1}", call_id="a", name="f")]),
        chunk(tool_calls=[call(1, '{"b"', name="g")]),
        chunk(tool_calls=[call(1, ":2}", name="g")]),
        chunk(finish="tool_calls"),
    )

    assert made(found) == [("a", "f", '{"a":1}'), (None, "g", '{"b":2}')]


@pytest.mark.parametrize("index", ["0", 0.0, 0])
def test_an_index_may_be_written_otherwise(index: Any) -> None:
    """Some write it as text, or as a number with a fraction."""
    found = chunk("a", tool_calls=[call(index, '{"a":', call_id="a", name="f")])
    found["choices"][0]["index"] = index
    completion = answer(found, chunk(tool_calls=[call(0, "1}")]), chunk(finish="tool_calls"))

    assert made(completion) == [("a", "f", '{"a":1}')]
    assert completion.alternatives == ()


def test_a_custom_tool_has_a_text_for_its_input() -> None:
    """The text is no JSON, and goes on in later chunks."""
    head = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "code", "input": "print("}}
    found = answer(
        chunk(tool_calls=[head]),
        chunk(tool_calls=[{"index": 0, "custom": {"input": "1)"}}]),
        chunk(finish="tool_calls"),
    )

    assert found.tool_calls == (ToolCall(0, "a", "code", "print(1)", "custom"),)
    assert not found.truncated
    assert found.message["tool_calls"] == [
        {"id": "a", "type": "custom", "custom": {"name": "code", "input": "print(1)"}}
    ]


def test_the_old_form_of_a_call_is_one() -> None:
    """The form comes from the time before parallel calls."""
    found = answer(
        chunk(function_call={"name": "f", "arguments": '{"a":'}),
        chunk(function_call={"arguments": "1}"}),
        chunk(finish="function_call"),
    )

    assert made(found) == [(None, "f", '{"a":1}')]
    assert found.message["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert "tool_calls" not in found.message


def test_a_call_that_is_told_in_both_forms_is_one_call() -> None:
    """Some proxies send both."""
    old = {"name": "f", "arguments": "{}"}
    found = answer(
        chunk(function_call=old, tool_calls=[call(0, "{}", call_id="a", name="f")]),
        chunk(finish="tool_calls"),
    )

    assert made(found) == [("a", "f", "{}")]


def test_a_call_without_a_list_around_it_is_one() -> None:
    """It is the only call, after all."""
    found = answer(
        chunk(tool_calls=call(0, "{}", call_id="a", name="f")), chunk(finish="tool_calls")
    )

    assert made(found) == [("a", "f", "{}")]


def test_what_else_comes_with_a_call_is_sent_back() -> None:
    """Gemini's compatible API wants the signature of the thought before a call back."""
    extra = {"google": {"thought_signature": "abc"}}
    head = {**call(0, "{}", call_id="a", name="f"), "extra_content": extra, "type": "function"}
    found = answer(chunk(tool_calls=[head]), chunk(finish="tool_calls"))

    assert found.message["tool_calls"] == [
        {
            "id": "a",
            "type": "function",
            "function": {"name": "f", "arguments": "{}"},
            "extra_content": extra,
        }
    ]


# -- Anthropic -------------------------------------------------------------------------------------


def block(index: int, kind: str, **members: Any) -> dict[str, Any]:
    """The start of a block."""
    return {
        "type": "content_block_start",
        "index": index,
        "content_block": {"type": kind, **members},
    }


def delta(index: int, kind: str, **members: Any) -> dict[str, Any]:
    """A delta of a block."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **members}}


ENDING = ({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, {"type": "message_stop"})


@pytest.mark.parametrize(
    ("pieces", "arguments"),
    [([], '{"a": 1}'), ([""], '{"a": 1}'), (['{"b"', ":2}"], '{"b":2}')],
    ids=["none", "an empty one", "two"],
)
@pytest.mark.parametrize("stop", [[{"type": "content_block_stop", "index": 0}], []])
def test_pieces_of_an_input_replace_the_one_at_the_start(
    pieces: list[str], arguments: str, stop: list[Any]
) -> None:
    """Joined, the two would be no JSON."""
    found = answer(
        block(0, "tool_use", id="a", name="f", input={"a": 1}),
        *(delta(0, "input_json_delta", partial_json=piece) for piece in pieces),
        *stop,
        *ENDING,
        dialect="anthropic",
    )

    assert made(found) == [("a", "f", arguments)]
    assert found.message["content"][0]["input"] == json.loads(arguments)


def test_a_block_index_that_comes_again_is_another_block() -> None:
    """Some gateways count from 0 for each kind."""
    found = answer(
        block(0, "text", text=""),
        delta(0, "text_delta", text="Hi"),
        block(0, "tool_use", id="a", name="f", input={}),
        delta(0, "input_json_delta", partial_json="{}"),
        block(0, "tool_use", id="b", name="g", input={}),
        delta(0, "input_json_delta", partial_json='{"b":2}'),
        *ENDING,
        dialect="anthropic",
    )

    assert made(found) == [("a", "f", "{}"), ("b", "g", '{"b":2}')]
    assert [each["type"] for each in found.message["content"]] == ["text", "tool_use", "tool_use"]


def test_a_block_that_is_told_twice_is_one_call() -> None:
    """Its id says so."""
    head = block(0, "tool_use", id="a", name="f", input={})
    found = answer(
        head, head, delta(0, "input_json_delta", partial_json="{}"), *ENDING, dialect="anthropic"
    )

    assert made(found) == [("a", "f", "{}")]


def test_arguments_of_a_call_that_never_began_are_told() -> None:
    """A call is missing, and the rest must not look whole."""
    found = answer(delta(1, "input_json_delta", partial_json="{}"), *ENDING, dialect="anthropic")

    assert found.tool_calls == ()
    assert found.truncated


# -- Gemini ----------------------------------------------------------------------------------------


def parts(*given: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """A chunk with these parts."""
    candidate: dict[str, Any] = {"content": {"parts": [*given], "role": "model"}, "index": 0}
    return {"candidates": [candidate | ({} if finish is None else {"finishReason": finish})]}


def piece(path: str, **value: Any) -> dict[str, Any]:
    """A part with a piece of the arguments of a call that goes on."""
    return {"functionCall": {"partialArgs": [{"jsonPath": path, **value}], "willContinue": True}}


def test_a_call_over_several_chunks_is_one() -> None:
    """Each brings a value, or a piece of one, at its place."""
    found = answer(
        parts({"functionCall": {"name": "f", "id": "a", "willContinue": True}}),
        parts(piece("$.city", stringValue="Par", willContinue=True)),
        parts(piece("$.city", stringValue="is"), piece("$.days", numberValue=3)),
        parts(piece("$.rooms[1]['size']", boolValue=True), piece("$.x", nullValue="NULL_VALUE")),
        parts({"functionCall": {}}),
        parts({"functionCall": {"name": "g", "args": {"b": 2}}}),
        parts(finish="STOP"),
        dialect="gemini",
        done=False,
    )
    args = {"city": "Paris", "days": 3, "rooms": [None, {"size": True}], "x": None}

    assert made(found) == [("a", "f", json.dumps(args)), (None, "g", '{"b": 2}')]
    assert found.message["parts"] == [
        {"functionCall": {"id": "a", "name": "f", "args": args}},
        {"functionCall": {"name": "g", "args": {"b": 2}}},
    ]


def test_a_call_that_was_to_go_on_is_truncated() -> None:
    """A piece of its arguments may be missing."""
    found = answer(
        parts({"functionCall": {"name": "f", "willContinue": True}}),
        parts(piece("$.a", numberValue=1)),
        parts(finish="STOP"),
        dialect="gemini",
        done=False,
    )

    assert found.truncated


@pytest.mark.parametrize("path", ["$.a[99999]", "$.a.b", "$.a[0]"])
def test_a_path_that_leads_nowhere_is_a_protocol_error(path: str) -> None:
    """A path to a place that would cost memory is one, too."""
    wire = events(
        parts({"functionCall": {"name": "f", "willContinue": True}}),
        parts(piece("$.a", numberValue=1)),
        parts(piece(path, numberValue=1)),
    )
    with pytest.raises(StreamProtocolError, match="argument"):
        read(wire, "gemini")


# -- Ollama ----------------------------------------------------------------------------------------


def test_ollama_gives_its_calls_ids() -> None:
    """The caller may get several calls at once, and must tell them apart."""
    calls = [
        {"id": f"call_{n}", "function": {"index": n, "name": "f", "arguments": {"n": n}}}
        for n in range(2)
    ]
    found = answer(
        *({"message": {"content": "", "tool_calls": [each]}, "done": False} for each in calls),
        {"message": {"content": ""}, "done": True, "done_reason": "stop"},
        dialect="ollama",
    )

    assert made(found) == [("call_0", "f", '{"n": 0}'), ("call_1", "f", '{"n": 1}')]
    assert found.message["tool_calls"] == calls


def test_a_call_of_ollama_that_is_told_twice_is_one() -> None:
    """Each comes whole."""
    one = {"id": "a", "function": {"name": "f", "arguments": {}}}
    told = {"message": {"tool_calls": [one]}, "done": False}
    found = answer(told, told, {"message": {}, "done": True}, dialect="ollama")

    assert made(found) == [("a", "f", "{}")]
