"""A provider of chat answers that fails as it is told: the model names the fault.

``upstream()`` starts it inside the process that asks, so that the page needs no network and no key.
``UPSTREAM`` is the URL of another one.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from resilient_requests.testing import FaultServer, reset, respond, sse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resilient_requests.testing import ReceivedRequest, Reply

PAGE = Path(__file__).with_name("index.html")
HEARTBEAT = float(os.environ.get("HEARTBEAT", "2"))  # in earnest: 15
IDLE = float(os.environ.get("IDLE", "8"))  # in earnest: 60 and more
PACE = 0.06  # seconds per word

ANSWER = (
    "Each word of this answer is an event of its own. It came from a provider to a web view, which "
    "passed it on to you as it arrived. The last event says that this was all. Where it does not "
    "come, or says that something went wrong, you see how far the answer got, and that it is not "
    "whole."
)


@functools.cache
def upstream() -> str:
    """Return the URL of the provider; start one where ``UPSTREAM`` names none."""
    return os.environ.get("UPSTREAM") or FaultServer(default=answer).url


def answer(request: ReceivedRequest) -> Reply:
    """Answer as the model says that was asked for."""
    model = json.loads(request.body)["model"]
    key = request.header("Idempotency-Key")
    if model == "broken-once" and key not in seen:
        seen.add(key)
        return reset()
    return FAULTS.get(model) or sse(*words(ANSWER), chunk(finish="stop"))


def words(text: str, most: int | None = None) -> Iterator[dict[str, object] | float]:
    """Yield a chunk for each word, with pauses."""
    for number, word in enumerate(text.split()[:most]):
        yield chunk(f" {word}" if number else word)
        yield PACE


def chunk(text: str = "", finish: str | None = None) -> dict[str, object]:
    """A chunk, as providers send it."""
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


SOME = tuple(words(ANSWER, most=24))
FAULTS = {
    "cut": sse(*SOME, done=False),
    "reset": sse(*SOME, done=False, ending="reset"),
    "stall": sse(*SOME, done=False, ending="silence"),
    "overloaded": sse(*SOME, {"error": {"type": "overloaded_error", "message": "Overloaded"}}),
    "refusal": respond('{"error": {"message": "This key is not known"}}', status=401),
}
seen: set[str | None] = set()
