"""Cases of the fuzzer, and the file in which they are kept."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from known_faults import read as read_known_faults

if TYPE_CHECKING:
    from driven_network import Ending

CORPUS = Path(__file__).with_name("corpus.jsonl")
KNOWN_FAULTS = Path(__file__).with_name("known_faults.txt")


@dataclass(frozen=True)
class Case:
    """The answer to one request, and how it is read.

    ``pieces`` arrive one by one: each is sent when the reader waits for more. After the last one
    ``ending`` happens: the connection stays "open" and silent, or ends with a "fin", with a TLS
    close_notify alone ("notify"; a FIN without TLS), or with a "reset". ``way`` is a key of
    `readers.WAYS`. Over TLS each piece is a record of its own; ``is_halved``: a record comes in two
    segments.
    """

    pieces: tuple[bytes, ...]
    way: str = "content"
    method: str = "GET"
    ending: Ending = "open"
    tls: bool = False
    is_halved: bool = False

    @property
    def data(self) -> bytes:
        """All that the server sends."""
        return b"".join(self.pieces)

    def in_one_piece(self) -> Case:
        """Return the same answer, arriving at once."""
        return replace(self, pieces=(self.data,) if self.data else ())


def without(case: Case, begin: int, end: int) -> Case:
    """Return a case without the bytes from one place to another."""
    pieces, at = [], 0
    for piece in case.pieces:
        pieces.append(piece[: max(begin - at, 0)] + piece[max(end - at, 0) :])
        at += len(piece)
    return replace(case, pieces=tuple(filter(None, pieces)))


@dataclass(frozen=True)
class Entry:
    """A case of the corpus: ``name`` describes it, and must stay unique."""

    name: str
    case: Case

    def dumps(self) -> str:
        """Return its line in the corpus."""
        document: dict[str, Any] = {"name": self.name, **asdict(self.case)}
        document["pieces"] = [base64.b64encode(piece).decode() for piece in self.case.pieces]
        # The first bytes are shown for human readers only.
        document["preview"] = self.case.data[:100].decode("latin-1")
        return json.dumps(document)

    @classmethod
    def loads(cls, line: str) -> Entry:
        """Return the entry of a line."""
        document = json.loads(line)
        name = document.pop("name")
        document.pop("preview")
        document["pieces"] = tuple(map(base64.b64decode, document["pieces"]))
        return cls(name, Case(**document))


def corpus() -> list[Entry]:
    """Return the cases that were found once."""
    return [Entry.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]


def known_faults() -> frozenset[str]:
    """Return the names of the corpus entries that fail at present."""
    return read_known_faults(KNOWN_FAULTS)
