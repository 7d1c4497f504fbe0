"""The cases of server-sent events that come with the tests, and the ways to feed them."""

from __future__ import annotations

import base64
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from resilient_requests.stream._sse import SSEDecoder

DATA = Path(__file__).resolve().parents[1] / "stream" / "data" / "sse_vectors.json"


class Vector(NamedTuple):
    """A case of the file: the pieces as they arrive, and their events."""

    name: str
    pieces: tuple[bytes, ...]
    events: list[tuple[str, str, str]]
    end: dict[str, Any]

    @property
    def data(self) -> bytes:
        """All pieces as one."""
        return b"".join(self.pieces)


@functools.cache
def vectors() -> list[Vector]:
    """The cases of the file."""
    document = json.loads(DATA.read_text(encoding="utf-8"))
    assert document["format"] == 1
    return [
        Vector(
            each["name"],
            tuple(map(base64.b64decode, each["chunks_b64"])),
            [(event["event"], event["data"], event["id"]) for event in each["expect"]],
            each["end"],
        )
        for each in document["vectors"]
    ]


def decoded(decoder: SSEDecoder, pieces: Any) -> list[tuple[str, str, str]]:
    """Return the events of feeding alone, without a flush."""
    return [
        (event.event, event.data, event.id) for piece in pieces for event in decoder.feed(piece)
    ]


def cut(data: bytes, size: int) -> list[bytes]:
    """Pieces of so many bytes."""
    return [data[at : at + size] for at in range(0, len(data), size)]
