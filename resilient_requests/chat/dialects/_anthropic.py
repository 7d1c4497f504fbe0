"""Anthropic messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from resilient_requests.chat._types import ChatDelta, ToolCall
from resilient_requests.chat.dialects._dialect import Dialect, Parser
from resilient_requests.chat.kinds import Tokens, grow, items, position, reason, table, text, whole

if TYPE_CHECKING:
    from resilient_requests.chat._types import ChatCompletion

__all__ = ["ANTHROPIC"]

_BLOCKS = ("text", "thinking", "redacted_thinking", "compaction", "container_upload")
_TEXTS = ("text_delta", "thinking_delta")
_DELTAS = ("citations_delta", "compaction_delta", "input_json_delta", "signature_delta", *_TEXTS)


class _Block:
    """A block of content; ``call`` is the number of a call that the caller has to answer."""

    def __init__(self, raw: dict[str, Any], call: int | None = None) -> None:
        self.raw = {**raw, "citations": [*(raw.get("citations") or ())]}
        self.call = call
        # A start may hold a whole input, and pieces may follow: the pieces then replace it.
        self.given = json.dumps(raw["input"]) if raw.get("input") and call is not None else ""

    def take(self, delta: dict[str, Any]) -> None:
        self.raw["citations"] += [delta["citation"]] if "citation" in delta else []
        grow(self.raw, delta, but=("type", "citation"))

    def rest(self) -> tuple[ToolCall, ...]:
        """Return the input of a call that no piece has replaced, once."""
        given, self.given = self.given, ""
        return (ToolCall(self.call or 0, arguments=given),) if given else ()

    def built(self) -> dict[str, Any]:
        raw = {name: each for name, each in whole(self.raw).items() if name != "citations" or each}
        if (written := text(raw.pop("partial_json", ""))).strip():
            try:
                raw["input"] = json.loads(written)
            except (ValueError, RecursionError):
                raw["input"] = {"INVALID_JSON": written}  # the API's documentation asks for it
        return raw


class _AnthropicParser(Parser):
    """Reads the events of a message by ``type`` in the data, since gateways rename events."""

    # Anthropic's input_tokens leave out the tokens of the cache, unlike OpenAI's.
    tokens = Tokens(
        ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
        ("output_tokens",),
    )

    def __init__(self) -> None:
        super().__init__()
        self._blocks, self._calls = list[_Block](), list[_Block]()
        self._by_index: dict[int, _Block] = {}

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta] | None:
        kind, found = text(data.get("type")) or event, ChatDelta(raw=data)
        if kind == "content_block_delta":
            found = self._delta(table(data.get("delta")), data)
        elif kind == "content_block_start":
            found = self._start(table(data.get("content_block")), data)
        elif kind == "message_start":
            self.begin(table(data.get("message")))
            self.usage(table(data.get("message")).get("usage"))
        elif kind == "message_delta":
            ending = table(data.get("delta")).get("stop_reason")
            return self._finish(ending, data.get("usage"), data)
        elif kind in ("content_block_stop", "message_stop"):
            self.is_done = kind == "message_stop"
            found = self._rest(data)
        elif kind != "ping":
            return None
        return [found]

    def whole(self, data: dict[str, Any]) -> list[ChatDelta] | None:
        if not isinstance(data.get("content"), list):
            return None
        self.begin(data)
        places = enumerate(items(data["content"]))
        found = [self._start(each, {"index": index})._replace(raw=data) for index, each in places]
        self.is_done = True
        return [*found, *self._finish(data.get("stop_reason"), data.get("usage"), data)]

    def message(self, index: int, completion: ChatCompletion) -> Any:  # noqa: ARG002
        content = [block.built() for block in self._blocks]
        # The API refuses empty texts, but each of its own texts begins empty.
        content = [each for each in content if each.get("type") != "text" or each.get("text")]
        return {"role": "assistant", "content": content} if content else None

    def _finish(self, ending: object, usage: object, raw: dict[str, Any]) -> list[ChatDelta]:
        if ending == "refusal":
            self.refused.add(0)
        self.usage(usage)  # these counts replace those of the start, and may omit some
        last = ChatDelta(finish_reason=reason(ending), usage=self.known_usage, raw=raw)
        return [self._rest(raw), last]

    def _rest(self, raw: dict[str, Any]) -> ChatDelta:
        calls = tuple(call for block in self._calls for call in block.rest())
        return ChatDelta(tool_calls=calls, raw=raw)

    def _start(self, block: dict[str, Any], raw: dict[str, Any]) -> ChatDelta:
        kind, call_id = text(block.get("type")), text(block.get("id")) or None
        if call_id and any(each.raw.get("id") == call_id for each in self._calls):
            return ChatDelta(raw=raw)  # a repetition
        call = position(len(self._calls), "tool call") if kind == "tool_use" else None
        begun = self._by_index[_index(raw)] = _Block(block, call)  # an index may come again
        self._blocks.append(begun)
        if call is not None:
            self._calls.append(begun)
            head = ToolCall(call, call_id, text(block.get("name")) or None)
            return ChatDelta(tool_calls=(head,), raw=raw)
        if kind not in _BLOCKS and not kind.endswith(("tool_use", "tool_result")):
            self.note_unknown(f"content_block.{kind}")
        self.other_output += kind not in ("text", "thinking")
        return ChatDelta(text(block.get("text")), text(block.get("thinking")), raw=raw)

    def _delta(self, delta: dict[str, Any], raw: dict[str, Any]) -> ChatDelta:
        kind, piece = text(delta.get("type")), text(delta.get("partial_json"))
        block = self._by_index.get(_index(raw))
        if block is None:
            self._start({"type": kind.removesuffix("_delta")}, raw)
            block = self._blocks[-1]
            if kind == "input_json_delta":
                self.contradiction = "a call has arguments, but no beginning"
        block.take(delta)
        if kind in _TEXTS:
            return ChatDelta(text(delta.get("text")), text(delta.get("thinking")), raw=raw)
        if kind not in _DELTAS:
            self.note_unknown(f"delta.{kind}")
        if block.call is None or not piece:
            self.other_output += kind != "input_json_delta" or bool(piece)
            return ChatDelta(raw=raw)
        block.given = ""
        return ChatDelta(tool_calls=(ToolCall(block.call, arguments=piece),), raw=raw)


def _index(raw: dict[str, Any]) -> int:
    return position(raw.get("index", 0), "content block")


ANTHROPIC = Dialect(
    name="anthropic", parser=_AnthropicParser, headers={"anthropic-version": "2023-06-01"}
)
