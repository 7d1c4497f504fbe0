"""Runs a function, and does something at one of its lines, as a signal handler does."""

from __future__ import annotations

import functools
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import requests
import urllib3

import resilient_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

T = TypeVar("T")

_PACKAGES = tuple(
    str(Path(module.__file__ or "").parent) + "/"
    for module in (resilient_requests, requests, urllib3)
)
_NAMES = {"resilient_requests", "requests", "urllib3"}
_MODULES = ("/http/client.py",)


class Place(NamedTuple):
    """A line of a file."""

    file: str
    function: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.function})"


class Tracer:
    """Counts the lines of ours, urllib3, requests and http.client that a function passes.

    ``acts`` maps the number of a line to a function that is called before it. An exception of the
    function is raised at that line. ``places`` are the lines of the acts. ``passed`` are all lines,
    in order, until no act is left. A line in a finalizer is not counted, since no exception can
    leave it.
    """

    def __init__(self, acts: Mapping[int, Callable[[], object]] | None = None) -> None:
        self.passed: list[Place] = []
        self.places: list[Place] = []
        self._acts = dict(acts or {})
        self._is_endless = not self._acts
        self._watched: dict[str, bool] = {}

    def run(self, function: Callable[[], T]) -> T:
        """Call the function in this thread and return its result, or raise its exception."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            return function()
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if name not in self._watched:
            self._watched[name] = name.startswith(_PACKAGES) or name.endswith(_MODULES)
        return self._step if self._watched[name] else None

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        is_due = self._acts or self._is_endless
        if event == "line" and is_due and not _in_finalizer(frame):
            place = Place(_short(frame.f_code.co_filename), frame.f_code.co_name, frame.f_lineno)
            self.passed.append(place)
            act = self._acts.pop(len(self.passed), None)
            if act is not None:
                self.places.append(place)
                act()
        return self._step


def _in_finalizer(frame: FrameType | None) -> bool:
    while frame is not None:
        name, caller = frame.f_code.co_name, frame.f_back
        if name == "__del__" or frame.f_code.co_filename == weakref.__file__:
            return True
        # The finalizer of the io module calls these; its caller does not name them.
        if name in {"close", "closed"} and caller and name not in caller.f_code.co_names:
            return True
        frame = caller
    return False


@functools.cache
def _short(path: str) -> str:
    """Return the path below the directory of all packages."""
    parts = Path(path).parts
    return "/".join(parts[-3:] if parts[-3] in _NAMES else parts[-2:])
