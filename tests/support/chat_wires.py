"""Helpers of the chat tests: sessions, chunks, and responses without a socket."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from resilient_requests import ChatDelta, ResilientAdapter, RetryPolicy, complete_chat
from resilient_requests.testing import sse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resilient_requests import ChatCompletion
    from resilient_requests.stream import Heartbeat
    from resilient_requests.testing import FaultServer, Reply

DATA = Path(__file__).resolve().parents[1] / "chat" / "data"
EXPECTED: dict[str, dict[str, Any]] = json.loads(
    (DATA / "expected.json").read_text(encoding="utf-8")
)
ASK: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "What is the answer, please?"}],
}


def no_wait(state: object) -> float:
    """A wait strategy that does not wait."""
    return 0.0


def mounted(server: FaultServer | None = None, **options: Any) -> requests.Session:
    """A session over our adapter that does not wait before retries."""
    options.setdefault("max_retries", RetryPolicy(wait=no_wait))
    session = requests.Session()
    adapter = ResilientAdapter(**options)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    if server is not None and server.url.startswith("https"):
        session.verify = server.ca_path or True
    return session


def chunk(content: Any = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """A chunk of the openai dialect."""
    if content is not None:
        delta["content"] = content
    return {
        "id": "c1",
        "model": "m-1",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def call(
    index: int | None = 0,
    arguments: str = "",
    *,
    call_id: str | None = None,
    name: str | None = None,
) -> Any:
    """A fragment of a tool call."""
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    fragment: dict[str, Any] = {"function": function}
    return (
        fragment
        | ({} if index is None else {"index": index})
        | ({} if call_id is None else {"id": call_id})
    )


ROLE = chunk(role="assistant")
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def good(text: str = "good", **options: Any) -> Reply:
    """A whole answer."""
    return sse(ROLE, chunk(text), chunk(finish="stop"), **options)


class Pieces:
    """The raw side of a mock's response; its body arrives in the given pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)

    def read(self, size: int = -1) -> bytes:
        return next(self._pieces, b"")

    def close(self) -> None:
        self._pieces = iter(())


class _File(io.RawIOBase):
    """A file of which each read returns the next piece."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:  # pieces have their own size
        return next(self._pieces, b"")

    read1 = read


def raw_of(pieces: Iterable[bytes]) -> urllib3.HTTPResponse:
    """A response of urllib3's own, with a body that arrives in the given pieces, none empty."""
    return urllib3.HTTPResponse(_File(pieces), preload_content=False)


def response_of(pieces: Iterable[bytes], content_type: str) -> requests.Response:
    """A response with a body that arrives in the given pieces."""
    response = requests.Response()
    response.status_code = 200
    response.headers = CaseInsensitiveDict({"Content-Type": content_type})
    response.raw = Pieces(pieces)
    response.request = requests.Request("POST", "http://chat.invalid/").prepare()
    return response


class Canned(requests.Session):
    """A session that answers with bodies given in pieces, without a network."""

    def __init__(self, pieces: Iterable[bytes], content_type: str = "text/event-stream") -> None:
        super().__init__()
        self._pieces = pieces
        self._content_type = content_type
        self.sent: dict[str, Any] = {}

    def request(  # type: ignore[override]
        self, method: Any, url: Any, **sent: Any
    ) -> requests.Response:
        self.sent = {"method": method, "url": url, **sent}
        return response_of(self._pieces, self._content_type)


def deltas_of(found: Iterable[ChatDelta | Heartbeat]) -> list[ChatDelta]:
    """The deltas, without heartbeats."""
    return [each for each in found if isinstance(each, ChatDelta)]


def refusal(error: requests.RequestException) -> requests.Response:
    """The response of an error that has one."""
    assert error.response is not None
    return error.response


def summary(completion: ChatCompletion) -> dict[str, Any]:
    """Return the fields of a completion that `expected.json` has."""
    usage = completion.usage
    return {
        "content": completion.content,
        "reasoning": completion.reasoning,
        "tool_calls": [
            [each.index, each.id, each.name, each.arguments] for each in completion.tool_calls
        ],
        "finish_reason": completion.finish_reason,
        "usage": None
        if usage is None
        else [usage.input_tokens, usage.output_tokens, usage.total_tokens],
        "model": completion.model,
        "id": completion.id,
    }


def cut(data: bytes, size: int) -> list[bytes]:
    """Data in pieces of a size."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def read(
    pieces: list[bytes], dialect: str, content_type: str = "text/event-stream", **options: Any
) -> ChatCompletion:
    """The completion of a body that arrives in pieces."""
    return complete_chat(
        Canned(pieces, content_type), "http://chat.invalid/", dialect=dialect, **ASK, **options
    )


def events(*chunks: object, name: str | None = None, done: bool = True) -> list[bytes]:
    """A stream of events, ended by its marker unless it is not ``done``."""
    head = "" if name is None else f"event: {name}\n"
    found = [f"{head}data: {json.dumps(each)}\n\n".encode() for each in chunks]
    return [*found, b"data: [DONE]\n\n"] if done else found


def stall() -> Reply:
    """One token, and then nothing until the peer goes."""
    return sse(chunk("Hi"), done=False, ending="silence")
