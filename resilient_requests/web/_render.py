"""The bytes that a browser gets for an item of a stream, and for the end: server-sent events."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

from resilient_requests.chat import ChatDelta, ChatStream
from resilient_requests.exceptions import ChatAPIError, StreamError
from resilient_requests.stream import ServerSentEvent

__all__ = ["COMMENT", "DefaultRender", "done", "failed"]

COMMENT = b": keep-alive\n\n"


class DefaultRender:
    """Renders the items of one stream if the caller gives no ``render``."""

    def __init__(self) -> None:
        self._id = ""

    def __call__(self, item: object) -> bytes | None:
        if isinstance(item, ChatDelta):
            said = _said(item)
            return _event("message", said) if said.keys() - {"index"} else None
        if isinstance(item, ServerSentEvent):
            return self._again(item)
        if isinstance(item, bytes):
            return b"data: %b\n\n" % base64.b64encode(item)
        raise TypeError(f"render is needed for items of the type {type(item).__name__}")

    def _again(self, event: ServerSentEvent) -> bytes:
        lines = [f"event: {event.event}"] if event.event != "message" else []
        # The id is the last one so far. An upstream may have set it back to "", and so must this.
        lines += [f"id: {event.id}"] if event.id != self._id else []
        lines += [f"retry: {event.retry}"] if event.retry is not None else []
        lines += [f"data: {line}" for line in event.data.split("\n")]
        self._id = event.id
        return "\n".join([*lines, "", ""]).encode()


def done(stream: object) -> bytes:
    """Return the last event of a stream that ended without an error."""
    if not isinstance(stream, ChatStream):
        return _event("done", {})
    completion = stream.completion
    truncated = {"truncated": True} if completion.truncated else {}
    return _event("done", {"finish_reason": completion.finish_reason, **truncated})


def failed(error: Exception) -> bytes:
    """Return the last event of a stream that failed."""
    told = {"type": type(error).__name__}
    # Texts of other errors hold URLs, with queries that may be secret.
    if isinstance(error, (StreamError, ChatAPIError)):
        told["reason"] = str(error)
    return _event("error", told)


def _said(delta: ChatDelta) -> dict[str, Any]:
    usage = {} if delta.usage is None else dataclasses.asdict(delta.usage)
    said = {
        "content": delta.content,
        "reasoning": delta.reasoning,
        "tool_calls": [_known(dataclasses.asdict(call)) for call in delta.tool_calls],
        "finish_reason": delta.finish_reason,
        "usage": _known({name: usage[name] for name in usage if name != "raw"}),
        "index": delta.index,
    }
    return {name: value for name, value in said.items() if value}


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def _event(name: str, data: dict[str, Any]) -> bytes:
    head = "" if name == "message" else f"event: {name}\n"
    # JSON in ASCII: some providers send half of a surrogate pair, which has an escape but no UTF-8.
    return f"{head}data: {json.dumps(data)}\n\n".encode()
