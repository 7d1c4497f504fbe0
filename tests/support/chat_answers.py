"""Answers, and how each dialect writes them, in the styles of providers and gateways."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "ANSWERS",
    "DIALECTS",
    "PLAIN",
    "Answer",
    "Style",
    "content_type",
    "forms",
    "pieces_of",
]

Chunk = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A call, whose arguments come in pieces."""

    id: str
    name: str
    pieces: tuple[str, ...]

    @property
    def arguments(self) -> str:
        """All of them."""
        return "".join(self.pieces)


@dataclass(frozen=True)
class Answer:
    """What a model says, as a provider would cut it."""

    name: str
    content: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    is_cut: bool = False
    """At the limit of tokens that the caller has set."""


LOOK = Call("call_1", "look", ('{"city"', ': "Par', 'is"}'))
ADD = Call("call_2", "add", ('{"a": 1,', ' "b": [2, {"c": null}]}'))
ANSWERS = (
    Answer("one piece", ("Hello",)),
    Answer("many pieces", ("He", "l", "lo", ", ", "world", "!")),
    Answer(
        "all of Unicode",
        ("né\n\n", "\u2028日本\t", "\U0001f600\U0001f469\u200d\U0001f680 \\\"'", "\x7f\ufeff"),
    ),
    Answer("reasoning", ("4",), ("Two and ", "two.")),
    Answer("a call", (), (), (LOOK,)),
    Answer("two calls", (), (), (LOOK, ADD)),
    Answer("words and a call", ("Let me ", "see."), (), (ADD,)),
    Answer("reasoning and calls", (), ("hmm",), (LOOK, ADD)),
    Answer("all of it", ("Well, ", "so."), ("hm", "m"), (ADD, LOOK)),
    Answer("cut", ("It was a dark and",), is_cut=True),
)


@dataclass(frozen=True)
class Style:
    """How a gateway writes what a provider says; ``chunks`` changes the chunks of one dialect."""

    name: str
    newline: str = "\n"
    between: str = ""
    head: str = ""
    space: str = " "
    is_named: bool = True
    is_marked: bool = True
    chunks: Callable[[list[Chunk]], list[Chunk]] = field(default=lambda chunks: chunks)


PLAIN = Style("plain")
EVERYWHERE = (
    PLAIN,
    Style("CRLF", newline="\r\n"),
    Style("comments", between=": keep-alive\n\n"),
    Style("ids and retries", head="id: 7\nretry: 100\n"),
    Style("no space", space=""),
)


# -- OpenAI chat completions -----------------------------------------------------------------------


def _chunk(delta: Chunk, finish: str | None = None, **more: Any) -> Chunk:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
    return {**base, "choices": [choice], **more}


def _openai(answer: Answer) -> list[Chunk]:
    finish = "length" if answer.is_cut else "tool_calls" if answer.calls else "stop"
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    heads = [
        {
            "index": n,
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }
        for n, call in enumerate(answer.calls)
    ]
    return [
        _chunk({"role": "assistant", "content": ""}),
        *(_chunk({"reasoning_content": piece}) for piece in answer.reasoning),
        *(_chunk({"content": piece}) for piece in answer.content),
        *(
            _chunk({"tool_calls": [each]})
            for n, call in enumerate(answer.calls)
            for each in (
                heads[n],
                *({"index": n, "function": {"arguments": piece}} for piece in call.pieces),
            )
        ),
        _chunk({}, finish),
        {**_chunk({}), "choices": [], "usage": usage},
    ]


def _with_delta(change: Callable[[Chunk], Chunk]) -> Callable[[list[Chunk]], list[Chunk]]:
    def changed(chunks: list[Chunk]) -> list[Chunk]:
        return [
            {
                **each,
                "choices": [
                    {**choice, "delta": change(choice["delta"])} for choice in each["choices"]
                ],
            }
            for each in chunks
        ]

    return changed


def _usage_with_finish(chunks: list[Chunk]) -> list[Chunk]:
    *others, finish, usage = chunks
    return [*others, {**finish, "usage": usage["usage"]}]


def _azure(chunks: list[Chunk]) -> list[Chunk]:
    first = {**chunks[0], "choices": [], "id": "", "model": "", "prompt_filter_results": []}
    filters = {"content_filter_results": {"hate": {"filtered": False}}}
    return [
        first,
        *({**each, "choices": [{**c, **filters} for c in each["choices"]]} for each in chunks),
    ]


def _nulls(delta: Chunk) -> Chunk:
    return {"content": None, "refusal": None, "tool_calls": None, "audio": None, **delta}


OPENAI_STYLES = (
    *EVERYWHERE,
    Style("no marker", is_marked=False),
    Style("usage with the end (z.ai)", chunks=_usage_with_finish),
    Style("filters (Azure)", chunks=_azure),
    Style("a role in each", chunks=_with_delta(lambda delta: {"role": "assistant", **delta})),
    Style("nulls", chunks=_with_delta(_nulls)),
)


# -- OpenAI responses ------------------------------------------------------------------------------


def _told(kind: str, **members: Any) -> Chunk:
    return {"type": f"response.{kind}", **members}


def _item_of_reasoning(answer: Answer, place: Chunk) -> Iterator[Chunk]:
    item = {"type": "reasoning", "id": "rs_1", "summary": []}
    text = "".join(answer.reasoning)
    part = {"type": "summary_text", "text": text}
    at = {**place, "item_id": "rs_1", "summary_index": 0}
    yield _told("output_item.added", **place, item=item)
    yield _told("reasoning_summary_part.added", **at, part={**part, "text": ""})
    for piece in answer.reasoning:
        yield _told("reasoning_summary_text.delta", **at, delta=piece)
    yield _told("reasoning_summary_text.done", **at, text=text)
    yield _told("reasoning_summary_part.done", **at, part=part)
    yield _told("output_item.done", **place, item={**item, "summary": [part]})


def _item_of_text(answer: Answer, place: Chunk) -> Iterator[Chunk]:
    item = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [],
    }
    text = "".join(answer.content)
    part = {"type": "output_text", "text": text, "annotations": []}
    at = {**place, "item_id": "msg_1", "content_index": 0}
    yield _told("output_item.added", **place, item={**item, "status": "in_progress"})
    yield _told("content_part.added", **at, part={**part, "text": ""})
    for piece in answer.content:
        yield _told("output_text.delta", **at, delta=piece, logprobs=[])
    yield _told("output_text.done", **at, text=text, logprobs=[])
    yield _told("content_part.done", **at, part=part)
    yield _told("output_item.done", **place, item={**item, "content": [part]})


def _item_of_call(call: Call, place: Chunk) -> Iterator[Chunk]:
    item = {
        "type": "function_call",
        "id": f"fc_{call.id}",
        "call_id": call.id,
        "name": call.name,
        "arguments": "",
        "status": "in_progress",
    }
    at = {**place, "item_id": item["id"]}
    yield _told("output_item.added", **place, item=item)
    for piece in call.pieces:
        yield _told("function_call_arguments.delta", **at, delta=piece)
    yield _told("function_call_arguments.done", **at, arguments=call.arguments, name=call.name)
    done = {**item, "arguments": call.arguments, "status": "completed"}
    yield _told("output_item.done", **place, item=done)


def _responses(answer: Answer) -> list[Chunk]:
    makers: list[Callable[[Chunk], Iterator[Chunk]]] = []
    if answer.reasoning:
        makers.append(lambda place: _item_of_reasoning(answer, place))
    if answer.content:
        makers.append(lambda place: _item_of_text(answer, place))
    makers += [
        lambda place, call=call: _item_of_call(call, place)  # type: ignore[misc]
        for call in answer.calls
    ]
    told = [each for n, make in enumerate(makers) for each in make({"output_index": n})]
    output = [each["item"] for each in told if each["type"] == "response.output_item.done"]
    status = "incomplete" if answer.is_cut else "completed"
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m-1",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    usage = {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 12,
    }
    last = {**response, "status": status, "output": output, "usage": usage}
    if answer.is_cut:
        last["incomplete_details"] = {"reason": "max_output_tokens"}
    events = [
        _told("created", response={**response, "status": "in_progress"}),
        *told,
        _told(status, response=last),
    ]
    return [{**each, "sequence_number": n} for n, each in enumerate(events)]


def _without(*names: str) -> Callable[[list[Chunk]], list[Chunk]]:
    return lambda chunks: [
        {name: value for name, value in each.items() if name not in names} for each in chunks
    ]


def _only(*kinds: str) -> Callable[[list[Chunk]], list[Chunk]]:
    return lambda chunks: [each for each in chunks if not each["type"].endswith(kinds)]


def _index_zero(chunks: list[Chunk]) -> list[Chunk]:
    return [{**each, "output_index": 0} if "output_index" in each else each for each in chunks]


def _vllm(chunks: list[Chunk]) -> list[Chunk]:
    """Count ``content_index`` per delta, and send ``.done`` one index on."""
    found: list[Chunk] = []
    counts: dict[str, int] = {}
    for each in chunks:
        if each["type"].endswith("_text.delta"):
            count = counts[each["item_id"]] = counts.get(each["item_id"], -1) + 1
            each = {**each, "content_index": count}  # noqa: PLW2901
        elif each["type"].endswith(("_text.done", "arguments.done")):
            each = {  # noqa: PLW2901
                **each,
                "output_index": each["output_index"] + 1,
                "content_index": -1,
            }
        found.append(each)
    return found


def _empty_output(chunks: list[Chunk]) -> list[Chunk]:
    *others, last = chunks
    return [*others, {**last, "response": {**last["response"], "output": []}}]


def _ids_anew(chunks: list[Chunk]) -> list[Chunk]:
    *others, last = chunks
    output = [{**each, "id": f"new_{n}"} for n, each in enumerate(last["response"]["output"])]
    return [*others, {**last, "response": {**last["response"], "output": output}}]


RESPONSES_STYLES = (
    *EVERYWHERE,
    Style("no names", is_named=False),
    Style("vLLM", chunks=_vllm),
    Style("index 0", chunks=_index_zero),
    Style("no index", chunks=_without("output_index", "content_index", "summary_index")),
    Style("no deltas", chunks=_only(".delta")),
    Style("no .done of texts", chunks=_only("_text.done", "arguments.done", "part.done")),
    Style("the output alone", chunks=lambda chunks: [chunks[0], chunks[-1]]),
    Style("an empty output", chunks=_empty_output),
    Style("ids anew in the output", chunks=_ids_anew),
)


# -- Anthropic -------------------------------------------------------------------------------------


def _anthropic(answer: Answer) -> list[Chunk]:
    blocks: list[tuple[Chunk, list[Chunk]]] = []
    if answer.reasoning:
        pieces: list[Chunk] = [
            {"type": "thinking_delta", "thinking": piece} for piece in answer.reasoning
        ]
        signature = {"type": "signature_delta", "signature": "c2ln"}
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, [*pieces, signature]))
    if answer.content:
        texts: list[Chunk] = [{"type": "text_delta", "text": piece} for piece in answer.content]
        blocks.append(({"type": "text", "text": ""}, texts))
    for call in answer.calls:
        head = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        inputs = [
            {"type": "input_json_delta", "partial_json": piece} for piece in ("", *call.pieces)
        ]
        blocks.append((head, inputs))
    ending = "max_tokens" if answer.is_cut else "tool_use" if answer.calls else "end_turn"
    message: Chunk = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 1},
    }
    return [
        {"type": "message_start", "message": message},
        {"type": "ping"},
        *(
            each
            for index, (block, deltas) in enumerate(blocks)
            for each in (
                {"type": "content_block_start", "index": index, "content_block": block},
                *({"type": "content_block_delta", "index": index, "delta": d} for d in deltas),
                {"type": "content_block_stop", "index": index},
            )
        ),
        {
            "type": "message_delta",
            "delta": {"stop_reason": ending, "stop_sequence": None},
            "usage": {"output_tokens": 7},
        },
        {"type": "message_stop"},
    ]


def _null_usage(chunks: list[Chunk]) -> list[Chunk]:
    nulls = {"input_tokens": None, "cache_read_input_tokens": None, "output_tokens": 7}
    return [{**each, "usage": nulls} if "usage" in each else each for each in chunks]


def _gaps(chunks: list[Chunk]) -> list[Chunk]:
    return [{**each, "index": each["index"] * 3} if "index" in each else each for each in chunks]


ANTHROPIC_STYLES = (
    *EVERYWHERE,
    Style("no names", is_named=False),
    Style("null usage", chunks=_null_usage),
    Style("gaps between indices", chunks=_gaps),
)


# -- Gemini ----------------------------------------------------------------------------------------


def _gemini(answer: Answer) -> list[Chunk]:
    parts: list[Chunk] = [
        *({"text": piece, "thought": True} for piece in answer.reasoning),
        *({"text": piece} for piece in answer.content),
        *(
            {
                "functionCall": {
                    "id": call.id,
                    "name": call.name,
                    "args": json.loads(call.arguments),
                },
                "thoughtSignature": "c2ln",
            }
            for call in answer.calls
        ),
    ]
    base = {"responseId": "resp_1", "modelVersion": "m-1"}
    counts = {
        "promptTokenCount": 5,
        "candidatesTokenCount": 4,
        "thoughtsTokenCount": 3,
        "totalTokenCount": 12,
    }
    found = [
        {**base, "candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]}
        for part in parts
    ]
    finish = "MAX_TOKENS" if answer.is_cut else "STOP"
    last = {
        "content": {"role": "model", "parts": [{"text": ""}]},
        "finishReason": finish,
        "index": 0,
    }
    return [*found, {**base, "candidates": [last], "usageMetadata": counts}]


def _finish_with_each(chunks: list[Chunk]) -> list[Chunk]:
    finish = chunks[-1]["candidates"][0]["finishReason"]
    return [
        {**each, "candidates": [{**each["candidates"][0], "finishReason": finish}]}
        for each in chunks
    ]


def _no_index(chunks: list[Chunk]) -> list[Chunk]:
    return [
        {**each, "candidates": [{k: v for k, v in each["candidates"][0].items() if k != "index"}]}
        for each in chunks
    ]


GEMINI_STYLES = (
    *(
        Style(each.name, each.newline, each.between, each.head, each.space, is_marked=False)
        for each in EVERYWHERE
    ),
    Style("a finish with each", is_marked=False, chunks=_finish_with_each),
    Style("no index", is_marked=False, chunks=_no_index),
)


# -- Ollama ----------------------------------------------------------------------------------------


def _ollama(answer: Answer) -> list[Chunk]:
    base = {"model": "m-1", "created_at": "2026-01-01T00:00:00Z"}
    messages: list[Chunk] = [
        *({"content": "", "thinking": piece} for piece in answer.reasoning),
        *({"content": piece} for piece in answer.content),
        *(
            {
                "content": "",
                "tool_calls": [
                    {
                        "id": call.id,
                        "function": {"name": call.name, "arguments": json.loads(call.arguments)},
                    }
                ],
            }
            for call in answer.calls
        ),
    ]
    reason = "length" if answer.is_cut else "stop"
    last = {"content": ""}
    counts = {"total_duration": 1, "prompt_eval_count": 5, "eval_count": 7}
    return [
        *({**base, "message": {"role": "assistant", **m}, "done": False} for m in messages),
        {
            **base,
            "message": {"role": "assistant", **last},
            "done": True,
            "done_reason": reason,
            **counts,
        },
    ]


OLLAMA_STYLES = (
    PLAIN,
    Style("CRLF", newline="\r\n"),
    Style("blank lines", between="\n"),
    Style("no last newline", head="cut"),
)


# -- Cohere ----------------------------------------------------------------------------------------


def _cohere(answer: Answer) -> list[Chunk]:
    found: list[Chunk] = [
        {"type": "message-start", "id": "msg_1", "delta": {"message": {"role": "assistant"}}}
    ]

    def told(kind: str, index: int, **message: Any) -> None:
        found.append({"type": kind, "index": index, "delta": {"message": message}})

    index = 0
    for kind, member, pieces in (
        ("thinking", "thinking", answer.reasoning),
        ("text", "text", answer.content),
    ):
        if pieces:
            told("content-start", index, content={"type": kind, member: ""})
            for piece in pieces:
                told("content-delta", index, content={member: piece})
            found.append({"type": "content-end", "index": index})
            index += 1
    for n, call in enumerate(answer.calls):
        head = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        told("tool-call-start", n, tool_calls=head)
        for piece in call.pieces:
            told("tool-call-delta", n, tool_calls={"function": {"arguments": piece}})
        found.append({"type": "tool-call-end", "index": n})
    finish = "MAX_TOKENS" if answer.is_cut else "TOOL_CALL" if answer.calls else "COMPLETE"
    usage = {"tokens": {"input_tokens": 5.0, "output_tokens": 7.0}}
    end = {"type": "message-end", "id": "msg_1", "delta": {"finish_reason": finish, "usage": usage}}
    return [*found, end]


COHERE_STYLES = (*EVERYWHERE, Style("no names", is_named=False))

DIALECTS: dict[str, tuple[Callable[[Answer], list[Chunk]], tuple[Style, ...]]] = {
    "anthropic": (_anthropic, ANTHROPIC_STYLES),
    "cohere": (_cohere, COHERE_STYLES),
    "gemini": (_gemini, GEMINI_STYLES),
    "ollama": (_ollama, OLLAMA_STYLES),
    "openai": (_openai, OPENAI_STYLES),
    "openai-responses": (_responses, RESPONSES_STYLES),
}


def content_type(dialect: str) -> str:
    """What a provider calls its answers."""
    return "application/x-ndjson" if dialect == "ollama" else "text/event-stream"


def pieces_of(dialect: str, answer: Answer, style: Style) -> list[bytes]:
    """The answer on the wire, a piece per event."""
    write, _ = DIALECTS[dialect]
    chunks = style.chunks(write(answer))
    if dialect == "ollama":
        lines = [f"{json.dumps(each)}{style.newline}{style.between}" for each in chunks]
        if style.head:
            lines[-1] = lines[-1].rstrip("\n")
        return [each.encode() for each in lines]
    found = []
    for each in chunks:
        named = style.is_named and "type" in each
        name = f"event:{style.space}{each['type']}\n" if named else ""
        data = json.dumps(each, ensure_ascii=style is PLAIN)
        block = f"{style.head}{name}data:{style.space}{data}\n\n{style.between}"
        found.append(block.replace("\n", style.newline).encode())
    if style.is_marked and dialect == "openai":
        found.append(f"data:{style.space}[DONE]\n\n".replace("\n", style.newline).encode())
    return found


def forms(dialect: str) -> list[tuple[Answer, Style]]:
    """Each answer in each style."""
    _, styles = DIALECTS[dialect]
    return [(answer, style) for answer in ANSWERS for style in styles]
