"""OpenAI responses: an item is known by its id, and each of its texts is read once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_wires import ASK, Canned, deltas_of, events, read

from resilient_requests import ChatCompletion, StreamProtocolError, ToolCall, stream_chat

DIALECT = "openai-responses"


def told(kind: str, **members: Any) -> dict[str, Any]:
    """An event of a response."""
    return {"type": f"response.{kind}", **members}


def completed(*output: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The last event of a response."""
    return told("completed", response={"status": "completed", "output": [*output], **more})


def message(*texts: str, item: str | None = None) -> dict[str, Any]:
    """An item that is a message."""
    content = [{"type": "output_text", "text": text} for text in texts]
    return {"type": "message", "role": "assistant", "content": content} | (
        {} if item is None else {"id": item}
    )


def call(
    arguments: str = "", *, call_id: str = "c1", name: str = "f", item: str | None = None
) -> dict[str, Any]:
    """An item that is a call of a function."""
    found = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
    return found | ({} if item is None else {"id": item})


def text(piece: str, **place: Any) -> dict[str, Any]:
    """A piece of a text."""
    return told("output_text.delta", delta=piece, **place)


def arguments(piece: str, **place: Any) -> dict[str, Any]:
    """A piece of the arguments of a call."""
    return told("function_call_arguments.delta", delta=piece, **place)


def answer(*chunks: dict[str, Any]) -> ChatCompletion:
    """The completion of a response, of which the deltas add up to the same."""
    session = Canned(events(*chunks))
    with stream_chat(session, "http://chat.invalid/", dialect=DIALECT, **ASK) as stream:
        deltas = deltas_of(stream)
    completion = stream.completion
    assert "".join(each.content for each in deltas) == completion.content
    assert "".join(each.reasoning for each in deltas) == completion.reasoning
    for made in completion.tool_calls:
        pieces = [each for delta in deltas for each in delta.tool_calls if each.index == made.index]
        assert "".join(each.arguments for each in pieces) == made.arguments
        assert [each.id for each in pieces if each.id] == ([made.id] if made.id else [])
        assert [each.name for each in pieces if each.name] == ([made.name] if made.name else [])
    return completion


def test_a_part_index_that_grows_per_delta_doubles_no_text() -> None:
    """VLLM counts ``content_index`` up with each delta, and ends with one that is none."""
    found = answer(
        text("Hello ", item_id="m1", output_index=0, content_index=0),
        text("world", item_id="m1", output_index=0, content_index=1),
        told(
            "output_text.done",
            item_id="m1",
            output_index=0,
            content_index=-1,
            text="Hello world",
        ),
        told(
            "content_part.done",
            item_id="m1",
            output_index=0,
            content_index=2,
            part={"type": "output_text", "text": "Hello world"},
        ),
        told("output_item.done", output_index=0, item=message("Hello world", item="m1")),
        completed(message("Hello world", item="m1")),
    )

    assert (found.content, found.truncated) == ("Hello world", False)


def test_an_output_index_that_is_one_on_makes_no_phantom_call() -> None:
    """The id of the item says that it is the same call."""
    found = answer(
        told("output_item.added", output_index=1, item=call(item="fc1")),
        arguments('{"c":', item_id="fc1", output_index=1),
        arguments("1}", item_id="fc1", output_index=1),
        told("function_call_arguments.done", item_id="fc1", output_index=2, arguments='{"c":1}'),
        told("output_item.done", output_index=2, item=call('{"c":1}', item="fc1")),
        completed(),
    )

    assert found.tool_calls == (ToolCall(0, "c1", "f", '{"c":1}'),)


@pytest.mark.parametrize("place", [{"output_index": 0}, {"item_id": "fc1"}, {}])
@pytest.mark.parametrize("last", ["item", "output"])
def test_a_head_that_comes_late_gives_a_call_its_name(place: dict[str, Any], last: str) -> None:
    """Its arguments may come before, or without, the beginning of its item."""
    head = call('{"a":1}', item="fc1")
    done = [told("output_item.done", **place, item=head), completed()]
    found = answer(
        arguments('{"a":', **place),
        arguments("1}", **place),
        *(done if last == "item" else [completed(head)]),
    )

    assert found.tool_calls == (ToolCall(0, "c1", "f", '{"a":1}'),)


@pytest.mark.parametrize(
    "last",
    [
        [told("content_part.done", part={"type": "output_text", "text": "Hi"}, item_id="m1")],
        [told("output_text.done", text="Hi", item_id="m1")],
        [told("output_item.done", item=message("Hi", item="m1"))],
        [],
    ],
    ids=["part", "text", "item", "output"],
)
@pytest.mark.parametrize("is_in_output", [False, True])
def test_a_text_that_is_told_only_when_it_is_done_is_read_once(
    last: list[Any], is_in_output: bool
) -> None:
    """It may come first in any event, and in any number of events."""
    if not last and not is_in_output:
        last = [text("Hi", item_id="m1")]
    found = answer(*last, completed(*([message("Hi", item="m1")] if is_in_output else [])))

    assert found.content == "Hi"


def test_items_that_come_only_with_the_end_are_read() -> None:
    """The others came before."""
    found = answer(
        text("Hi", item_id="m1", output_index=0),
        completed(message("Hi", item="m1"), message(" there", item="m2"), call("{}", item="fc1")),
    )

    assert found.content == "Hi there"
    assert found.tool_calls == (ToolCall(0, "c1", "f", "{}"),)


@pytest.mark.parametrize("index", [None, 0])
def test_items_are_told_apart_by_their_ids_alone(index: int | None) -> None:
    """The index may be missing, or 0 for all of them."""
    place: dict[str, Any] = {} if index is None else {"output_index": index}
    heads = [call(call_id=f"c{n}", name=f"f{n}", item=f"fc{n}") for n in (1, 2)]
    found = answer(
        text("Hel", item_id="m1", **place),
        *(told("output_item.added", item=each, **place) for each in heads),
        arguments('{"a"', item_id="fc1", **place),
        arguments('{"b"', item_id="fc2", **place),
        arguments(":1}", item_id="fc1", **place),
        arguments(":2}", item_id="fc2", **place),
        text("lo", item_id="m1", **place),
        completed(),
    )

    assert found.content == "Hello"
    assert found.tool_calls == (
        ToolCall(0, "c1", "f1", '{"a":1}'),
        ToolCall(1, "c2", "f2", '{"b":2}'),
    )


def test_ids_that_are_new_in_the_output_are_no_new_items() -> None:
    """Some servers make up the ids of the final output."""
    found = answer(
        told("output_item.added", output_index=0, item=call(item="fc1", call_id="c1")),
        told("output_item.added", output_index=1, item=call(item="fc2", call_id="c2")),
        arguments("{}", item_id="fc1"),
        arguments("{}", item_id="fc2"),
        text("a", item_id="m1", output_index=2),
        text("b", item_id="m2", output_index=3),
        completed(
            message("b", item="x1"),
            message("a", item="x2"),
            call("{}", call_id="c2", item="x3"),
            call("{}", call_id="c1", item="x4"),
        ),
    )

    assert found.content == "ab"
    assert [each.id for each in found.tool_calls] == ["c1", "c2"]
    assert not found.truncated


def test_ids_that_are_new_in_each_event_are_no_new_items() -> None:
    """Some gateways send such ids; as long as no id comes twice, the index decides."""
    found = answer(
        told("output_item.added", output_index=0, item=message(item="a")),
        text("Hel", item_id="b", output_index=0),
        text("lo", item_id="c", output_index=0),
        told("output_text.done", item_id="d", output_index=0, text="Hello"),
        told("output_item.done", output_index=0, item=message("Hello", item="e")),
        told("output_item.added", output_index=1, item=call(item="f", call_id="c1")),
        arguments('{"a":', item_id="g", output_index=1),
        arguments("1}", item_id="h", output_index=1),
        told("function_call_arguments.done", item_id="i", output_index=1, arguments='{"a":1}'),
        told("output_item.done", output_index=1, item=call('{"a":1}', item="j", call_id="c1")),
        completed(message("Hello", item="k"), call('{"a":1}', item="l", call_id="c1")),
    )

    assert found.content == "Hello"
    assert found.tool_calls == (ToolCall(0, "c1", "f", '{"a":1}'),)
    assert not found.truncated


@pytest.mark.parametrize("given", [[], [call("{}", item="fc1")]])
def test_a_call_and_a_text_may_share_an_index(given: list[Any]) -> None:
    """They are of different families."""
    found = answer(
        text("Hi", output_index=0),
        told("output_item.added", output_index=0, item=call()),
        arguments("{}", output_index=0),
        completed(message("Hi"), *given),
    )

    assert (found.content, found.tool_calls) == ("Hi", (ToolCall(0, "c1", "f", "{}"),))


def test_several_parts_of_an_item_are_all_read() -> None:
    """Each is told again when it is done; one of them only then."""
    parts = ["One. ", "Two. ", "Three."]
    found = answer(
        text("One. ", item_id="m1", content_index=0),
        told("output_text.done", item_id="m1", content_index=0, text="One. "),
        told("output_text.done", item_id="m1", content_index=1, text="Two. "),
        text("Three.", item_id="m1", content_index=2),
        told("output_text.done", item_id="m1", content_index=2, text="Three."),
        *(
            told(
                "content_part.done",
                item_id="m1",
                content_index=n,
                part={"type": "output_text", "text": part},
            )
            for n, part in enumerate(parts)
        ),
        told("output_item.done", item=message(*parts, item="m1")),
        completed(message(*parts, item="m1")),
    )

    assert (found.content, found.truncated) == ("One. Two. Three.", False)


def test_an_event_that_comes_twice_adds_nothing_the_second_time() -> None:
    """The second event repeats a whole that was read before."""
    done = told("output_text.done", item_id="m1", content_index=0, text="Hi")
    found = answer(done, done, completed())

    assert found.content == "Hi"


def test_summaries_are_paragraphs() -> None:
    """Glued together, the last word of one would run into the heading of the next."""
    found = answer(
        told("reasoning_summary_text.delta", item_id="r1", summary_index=0, delta="**One**"),
        told("reasoning_summary_text.done", item_id="r1", summary_index=0, text="**One**"),
        told("reasoning_summary_text.delta", item_id="r1", summary_index=1, delta="**Tw"),
        told("reasoning_summary_text.delta", item_id="r1", summary_index=1, delta="o**"),
        told("reasoning_summary_text.done", item_id="r1", summary_index=1, text="**Two**"),
        told("reasoning_summary_text.done", item_id="r1", summary_index=2, text="**Three**"),
        told("reasoning_summary_text.delta", item_id="r2", summary_index=0, delta="**Four**"),
        told(
            "output_item.done",
            item={
                "type": "reasoning",
                "id": "r1",
                "summary": [
                    {"type": "summary_text", "text": each}
                    for each in ("**One**", "**Two**", "**Three**")
                ],
            },
        ),
        completed(),
    )

    assert found.reasoning == "**One**\n\n**Two**\n\n**Three**\n\n**Four**"
    assert not found.truncated


@pytest.mark.parametrize(
    ("kind", "member", "given", "arguments"),
    [
        ("custom_tool_call", "input", "print(1)", "print(1)"),
        ("local_shell_call", "action", {"command": ["ls"]}, '{"command": ["ls"]}'),
        ("shell_call", "action", {"commands": ["ls"]}, '{"commands": ["ls"]}'),
        ("apply_patch_call", "operation", {"type": "delete_file"}, '{"type": "delete_file"}'),
        ("computer_call", "action", {"type": "click"}, '{"type": "click"}'),
        ("computer_call", "actions", [{"type": "click"}], '[{"type": "click"}]'),
        ("mcp_approval_request", "arguments", '{"a":1}', '{"a":1}'),
        ("tool_search_call", "arguments", {"q": "x"}, '{"q": "x"}'),
    ],
)
@pytest.mark.parametrize("where", ["item", "output"])
def test_each_item_that_the_caller_must_answer_is_a_call(
    kind: str, member: str, given: Any, arguments: str, where: str
) -> None:
    """The call has its kind, and the provider's input."""
    item = {"type": kind, "id": "i1", "call_id": "c1", member: given, "execution": "client"}
    if kind == "custom_tool_call":
        item["name"] = "code"
    if kind == "mcp_approval_request":
        del item["call_id"]
    begun = told("output_item.added", output_index=0, item={"type": kind, "id": "i1"})
    done = [begun, told("output_item.done", output_index=0, item=item), completed()]
    found = answer(*(done if where == "item" else [completed(item)]))

    (made,) = found.tool_calls
    assert made.kind == kind.removesuffix("_call").removesuffix("_tool").removesuffix("_request")
    assert made.arguments == arguments
    assert made.id == ("i1" if kind == "mcp_approval_request" else "c1")
    assert not found.truncated


@pytest.mark.parametrize(
    "item",
    [
        {"type": "tool_search_call", "execution": "server", "arguments": {}},
        {"type": "shell_call", "environment": {"type": "container_reference"}, "action": {}},
        {"type": "web_search_call", "action": {"query": "x"}},
        {"type": "mcp_call", "name": "x", "arguments": "{}"},
    ],
)
def test_what_the_provider_runs_itself_is_no_call(item: dict[str, Any]) -> None:
    """Nobody has to answer it; but it is sent back with the message."""
    found = answer(told("output_item.done", item=item), completed(item))

    assert found.tool_calls == ()
    assert found.message == [item]


def test_the_input_of_a_custom_tool_comes_in_pieces() -> None:
    """It is text of any kind, and no JSON."""
    item = {"type": "custom_tool_call", "id": "i1", "call_id": "c1", "name": "code", "input": ""}
    found = answer(
        told("output_item.added", output_index=0, item=item),
        told("custom_tool_call_input.delta", item_id="i1", delta="print("),
        told("custom_tool_call_input.delta", item_id="i1", delta="1)"),
        told("custom_tool_call_input.done", item_id="i1", input="print(1)"),
        completed({**item, "input": "print(1)"}),
    )

    assert found.tool_calls == (ToolCall(0, "c1", "code", "print(1)", "custom"),)
    assert not found.truncated


@pytest.mark.parametrize(
    ("shown", "whole", "arguments", "truncated"),
    [
        ('{"a"', '{"a":1}', '{"a":1}', False),
        ('{"a":1}', '{"a": 1}', '{"a":1}', False),
        ("QUJD", '{"a":1}', "QUJD", True),
        ('{"b":2}', '{"a":1}', '{"b":2}', True),
    ],
    ids=["suffix", "spelled anew", "no JSON", "another"],
)
@pytest.mark.parametrize("where", ["done", "item", "output"])
def test_what_contradicts_the_deltas_is_told(
    shown: str, whole: str, arguments: str, truncated: bool, where: str
) -> None:
    """A missing suffix is added; a contradiction is no success."""
    last = {
        "done": [told("function_call_arguments.done", item_id="fc1", arguments=whole)],
        "item": [told("output_item.done", item=call(whole, item="fc1"))],
        "output": [],
    }[where]
    found = answer(
        told("output_item.added", output_index=0, item=call(item="fc1")),
        told("function_call_arguments.delta", item_id="fc1", delta=shown),
        *last,
        completed(*([call(whole, item="fc1")] if where == "output" else [])),
    )

    assert (found.tool_calls[0].arguments, found.truncated) == (arguments, truncated)


def test_a_text_that_contradicts_its_deltas_is_truncated() -> None:
    """Some of it may be missing in the middle."""
    found = answer(text("Hel world", item_id="m1"), completed(message("Hello world", item="m1")))

    assert (found.content, found.truncated) == ("Hel world", True)


def test_arguments_that_came_with_the_beginning_are_kept() -> None:
    """Neither the pieces nor the end bring them."""
    found = answer(told("output_item.added", item=call('{"a":1}', item="fc1")), completed())

    assert found.tool_calls == (ToolCall(0, "c1", "f", '{"a":1}'),)


def test_an_output_index_is_bounded() -> None:
    """It is a place in a table."""
    with pytest.raises(StreamProtocolError, match="output index"):
        read(events(text("a", output_index=10**9)), DIALECT)


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_an_output_that_is_empty_is_no_end(status: str) -> None:
    """A server that works in the background answers at once."""
    body = json.dumps({"status": status, "output": [], "id": "r1"}).encode()
    with pytest.raises(Exception, match="without the sign") as caught:
        read([body], DIALECT, "application/json")

    assert caught.value.partial.id == "r1"  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", [1024, 1025])
def test_an_output_has_at_most_1024_items(number: int) -> None:
    """More are no answer, and all are compared at the end."""
    items = [message("a", item=f"m{each}") for each in range(number)]
    wire = events(completed(*items), done=False)
    if number == 1024:
        assert read(wire, DIALECT).content == "a" * number
    else:
        with pytest.raises(StreamProtocolError, match="output item index 1024 is not one of"):
            read(wire, DIALECT)


@pytest.mark.parametrize("number", [1024, 1025])
def test_a_text_has_at_most_1024_parts(number: int) -> None:
    """Each is looked for in all that came before."""
    parts = [
        told("output_text.done", item_id="m", output_index=0, content_index=each, text="a")
        for each in range(number)
    ]
    wire = events(*parts, completed(), done=False)
    if number == 1024:
        assert read(wire, DIALECT).content == "a" * number
    else:
        with pytest.raises(StreamProtocolError, match="part index 1024 is not one of"):
            read(wire, DIALECT)
