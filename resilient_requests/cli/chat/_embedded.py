"""A server for the command that forgets an idle connection, and reports the outcome."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from resilient_requests.testing import FaultServer, ReceivedRequest, Reply, respond, sse

if TYPE_CHECKING:
    import requests
    from typing_extensions import Self

__all__ = ["Embedded"]

_IDLE_LIMIT = 0.1
_IDLE_FOR = 0.2
_PACE = 0.015  # seconds per word
_WARM_UP = "/warm-up"

_GREETING = (
    "Hello! I am a small server inside this program and no language model, so I will not pretend "
    "to understand"
)
_RESET = (
    "But I can tell how your prompt got here. The connection for it had been idle for a moment, "
    "and what you sent on it was answered with a reset, as by a router that has forgotten the "
    "connection. ResilientAdapter knew that for a stale one, dialled anew without a wait, and sent "
    "the prompt again. I have read it exactly once."
)
_SMOOTH = "Your prompt came on a connection that was good, so there is nothing to tell of it."
_FAREWELL = "With --url URL --model M you reach a real model, and --trace shows each attempt."


class Embedded:
    """Runs until it is closed; a context manager."""

    def __init__(self) -> None:
        self._server = FaultServer(default=self._reply, idle_limit=_IDLE_LIMIT)
        self._server.route(_WARM_UP, respond(b"ok", applies=False))
        self.url = f"{self._server.url}/v1/chat/completions"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.close()

    def warm(self, session: requests.Session) -> None:
        """Leave a connection in the session's pool that has been idle past the server's memory."""
        session.trust_env = False  # the machine's proxies must not take part
        session.get(f"{self._server.url}{_WARM_UP}").close()
        time.sleep(_IDLE_FOR)

    def _reply(self, request: ReceivedRequest) -> Reply:
        count = len(str(json.loads(request.body)["messages"][0]["content"]).split())
        understood = f"your {count} words." if count > 1 else "your word."
        story = _RESET if self._server.swallowed else _SMOOTH
        words = f"{_GREETING} {understood} {story} {_FAREWELL}\n".split(" ")
        items: list[dict[str, object] | float] = []
        for number, word in enumerate(words):
            items += [_chunk(word if number == 0 else f" {word}"), _PACE]
        usage = {
            "prompt_tokens": count,
            "completion_tokens": len(words),
            "total_tokens": count + len(words),
        }
        return sse(*items, _chunk(None, "stop"), {"choices": [], "usage": usage})


def _chunk(text: str | None, finish: str | None = None) -> dict[str, object]:
    delta = {} if text is None else {"content": text}
    return {"model": "embedded", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
