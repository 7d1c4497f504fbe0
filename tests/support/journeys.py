"""Six calls, and the functions of ours that each of them passes, in their order."""

from __future__ import annotations

import ast
import contextlib
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from children import child

import resilient_requests
from resilient_requests import (
    Cancelled,
    CancelScope,
    ResilientAdapter,
    StreamIdle,
    StreamTruncated,
    Timeouts,
    stream_chat,
)
from resilient_requests.testing import FaultServer, reset, respond, sse, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from typing_extensions import Self

__all__ = ["JOURNEYS", "functions"]


PACKAGE = Path(resilient_requests.__file__).parent


def functions() -> dict[tuple[str, int], str]:
    """Return the name of each function of the package, by file and line.

    The names are those of the documentation.
    """
    found = {}

    def look(path: Path, node: ast.AST, above: str) -> None:
        for each in ast.iter_child_nodes(node):
            if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{above}{each.name}"
                lines = [each.lineno, *(decorator.lineno for decorator in each.decorator_list)]
                found[str(path), min(lines)] = f"{path.relative_to(PACKAGE).as_posix()}:{name}"
                look(path, each, f"{name}.")
            else:
                look(path, each, above)

    for path in PACKAGE.rglob("*.py"):
        look(path, ast.parse(path.read_text("utf-8")), "")
    return found


_FUNCTIONS = functions()


class _Way:
    """The functions that this thread and its new threads pass through in the ``with`` block."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            place = frame.f_code.co_filename, frame.f_code.co_firstlineno
            if (name := _FUNCTIONS.get(place)) is not None:
                self.names.append(name)

    def __enter__(self) -> Self:
        self._before = sys.getprofile()
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)
        threading.setprofile(None)


@contextlib.contextmanager
def _session(**options: Any) -> Iterator[requests.Session]:
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, ResilientAdapter(**options))
        yield session


def warm_post(_: Path) -> list[str]:
    """A POST over a connection that was used before."""
    with FaultServer() as server, _session() as session:
        session.post(server.url, json={})
        with _Way() as way:
            session.post(server.url, json={})
    return way.names


def reset_on_reuse(_: Path) -> list[str]:
    """A POST whose connection turns out to be dead, and that is sent again."""
    with FaultServer(respond(b"ok"), reset(applies=False)) as server, _session() as session:
        session.post(server.url, json={})
        with _Way() as way:
            response: Any = session.post(server.url, json={})
        assert [attempt.reused for attempt in response.attempts] == [True, False]
    return way.names


def stalled_lines(_: Path) -> list[str]:
    """A loop over lines, of which the second never ends."""
    limits = Timeouts(idle=0.5)
    with (
        FaultServer(stream([b"one\ntw"], ending="silence")) as server,
        _session(timeouts=limits) as session,
        session.get(server.url, stream=True) as response,
        _Way() as way,
        pytest.raises(StreamIdle),
    ):
        list(response.iter_lines())
    return way.names


def _after_each(items: Iterable[object], act: Callable[[], object]) -> Iterator[object]:
    for item in items:
        act()
        yield item


def truncated_chat(_: Path) -> list[str]:
    """A chat answer that ends, framing and all, before it says that it is complete."""
    delta = {"index": 0, "delta": {"content": "Hel"}, "finish_reason": None}
    shown = threading.Event()
    ask: Any = {"model": "any", "messages": [{"role": "user", "content": "Say hello"}]}
    with (
        FaultServer(sse({"choices": [delta]}, shown, done=False)) as server,
        _session() as session,
        _Way() as way,
        stream_chat(session, server.url, **ask) as deltas,
        pytest.raises(StreamTruncated),
    ):
        list(_after_each(deltas, shown.set))
    return way.names


def cancelled_handshake(_: Path) -> list[str]:
    """A call that another thread cancels while the server says nothing to its handshake."""
    scope = CancelScope()
    with socket.create_server(("127.0.0.1", 0)) as listener, _session() as session:
        listener.settimeout(10)

        def cancel() -> None:
            wire, _ = listener.accept()
            with wire:
                wire.recv(1)  # the handshake has begun
                scope.cancel()

        with _Way() as way:
            other = threading.Thread(target=cancel)
            other.start()
            with scope, pytest.raises(Cancelled):
                session.get(f"https://127.0.0.1:{listener.getsockname()[1]}/")
            other.join()
    return way.names


def forked(told: Path) -> list[str]:
    """A call in a forked child, whose parent has a connection in the pool."""
    with FaultServer() as server, _session() as session:
        session.get(server.url)

        def call() -> None:
            session.get(server.url)
            told.write_text("\n".join(way.names), "utf-8")

        with _Way() as way, child(call):
            pass
        response: Any = session.get(server.url)
        assert response.attempts[0].reused
    return told.read_text("utf-8").splitlines()


JOURNEYS: dict[str, Callable[[Path], list[str]]] = {
    "A warm POST": warm_post,
    "A reset on reuse": reset_on_reuse,
    "`iter_lines` that stalls": stalled_lines,
    "`stream_chat` that is cut": truncated_chat,
    "A cancel in the handshake": cancelled_handshake,
    "A fork": forked,
}
"""By the heading under which the page on architecture tells it; each takes a file to write to."""
