"""The growth of a function's time with its input, measured in a child of limited CPU time."""

from __future__ import annotations

import gc
import os
import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LARGE = int(os.environ.get("FOREIGN_BYTES", str(1 << 17)))
"""Bytes of the larger text."""

TIMES = 8
TOLERATED = 3.0
"""Times as long per byte as in an eighth of the text; quadratic time takes 8 times as long."""

_LEAST = 0.0005  # seconds below which a measurement says nothing
MOST_SECONDS = 40 * max(LARGE >> 17, 1)
"""Of CPU time for all texts of one reader."""


class Text(NamedTuple):
    """A text that can be made of any size."""

    begin: bytes
    unit: bytes
    end: bytes = b""

    def of(self, size: int) -> bytes:
        """The text with about so many bytes."""
        return self.begin + self.unit * (size // len(self.unit)) + self.end


@dataclass(frozen=True)
class Reader:
    """A function that reads bytes of a stranger.

    ``begins`` lead a text to the code behind them; ``texts`` are for this function alone.
    """

    read: Callable[[bytes], object]
    begins: tuple[bytes, ...] = (b"",)
    texts: tuple[Text, ...] = ()
    most: int = LARGE

    def all_texts(self, units: Iterable[bytes]) -> Iterator[Text]:
        """Every unit behind every beginning, alone and with something else at the end."""
        yield from self.texts
        for unit in units:
            for begin in self.begins:
                yield Text(begin, unit)
                yield Text(begin, unit, b"x\n\n")

    def growth(self, text: Text) -> float:
        """Times as long per byte in the large text as in the small one, or as is measurable."""
        small, large = text.of(self.most // TIMES), text.of(self.most)
        grown = _seconds(self.read, large, 1) / TIMES / _LEAST
        for times in (1, 3, 5):  # the more, the less does other work disturb it
            if grown <= TOLERATED:
                break
            least = max(_seconds(self.read, small, times), _LEAST)
            grown = _seconds(self.read, large, times) / TIMES / least
        return grown


def _seconds(read: Callable[[bytes], object], data: bytes, times: int) -> float:
    """The CPU time that this thread needs, at best."""
    best = float("inf")
    for _ in range(times):
        began = time.thread_time()
        read(data)
        best = min(best, time.thread_time() - began)
    return best


def fault(reader: Reader, units: Iterable[bytes], most_seconds: int = MOST_SECONDS) -> str:
    """The first text that takes more than linear time or ends in an error, and how; else "".

    The reader runs in a forked child that dies after so many seconds of CPU time: a regular
    expression holds the GIL, and nothing else could end it.
    """
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (most_seconds, most_seconds))
            gc.disable()  # its rounds grow with the number of living objects
            with os.fdopen(theirs, "w", buffering=1) as told:
                _tell(reader, units, told)
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as told:
        last = told.read().rpartition("\n")[2]
    _, status = os.waitpid(pid, 0)
    return f"{last}more than {most_seconds} s" if status else last


def _tell(reader: Reader, units: Iterable[bytes], told: TextIO) -> None:
    """Write each text before it is read, and then the complaint, or only a new line."""
    for text in reader.all_texts(units):
        print(text, end=": ", file=told, flush=True)
        try:
            grown = reader.growth(text)
        except Exception as error:  # noqa: BLE001  # told to the test
            print(repr(error)[:200], end="", file=told)
            return
        if grown > TOLERATED:
            print(f"{grown:.1f} times as long per byte", end="", file=told)
            return
        print(file=told)
