"""The interface between a contender and the measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BODY", "DONE", "HEADERS", "Contender", "Upstream"]

DONE = "[DONE]"
HEADERS = {"Authorization": "Bearer sk-0123456789"}
BODY: dict[str, Any] = {
    "model": "some-model-2025",
    "messages": [{"role": "user", "content": "Say hello."}],
    "stream_options": {"include_usage": True},
    "stream": True,
}


@dataclass(frozen=True)
class Upstream:
    """The address of the upstream; ``https`` is 0 if TLS is not wanted or not available."""

    http: int
    https: int
    bundle: str

    @property
    def verify(self) -> str | bool:
        """The value of ``verify`` for requests.

        A path also costs each plain request a look at the file system.
        """
        return self.bundle if self.https else True

    def url(self, path: str) -> str:
        """Return the URL for a path; a path that starts with "tls:" goes over TLS."""
        if path.startswith("tls:"):
            return f"https://127.0.0.1:{self.https}{path.removeprefix('tls:')}"
        return f"http://127.0.0.1:{self.http}{path}"


class Contender:
    """A client that is made once and then kept.

    It overrides the methods that it supports. Measures skip the others.
    """

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    @classmethod
    def can(cls, ability: str) -> bool:
        """True if this contender overrides the named method."""
        return getattr(cls, ability) is not getattr(Contender, ability)

    def post(self, path: str) -> None:
        """Post `BODY` and read the whole answer."""
        raise NotImplementedError(path)

    def function(self, path: str) -> None:
        """Do the same as `post`, by a function that makes a session for this one call."""
        raise NotImplementedError(path)

    def events(self, path: str) -> Iterator[Any]:
        """Yield the parsed JSON of each event of a stream, but for its end mark."""
        raise NotImplementedError(path)

    def created(self, chunk: Any) -> int:
        """Return the time stamp of an item that `events` yields."""
        stamp: int = chunk["created"]
        return stamp

    def data(self, path: str) -> Iterator[Any]:
        """Yield the data of each event as it is."""
        raise NotImplementedError(path)

    def lines(self, path: str) -> Iterator[bytes]:
        """Yield the lines of a stream."""
        raise NotImplementedError(path)

    def chat(self, path: str) -> Iterator[Any]:
        """Yield the pieces of a chat stream up to its end mark, read the way its users read it."""
        raise NotImplementedError(path)
