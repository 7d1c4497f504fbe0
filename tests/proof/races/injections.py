"""The happenings at a line: an exception of the caller's, or the act of another thread."""

from __future__ import annotations

import os
import threading
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from races.tracing import Tracer
from resilient_requests import Cancelled, StreamBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from races.scenarios import Call

MOMENT = (
    0.05  # seconds for another thread, which may have to wait for a lock that is held at the line
)


class Foreign(Exception):
    """An exception that no library knows, such as Celery's SoftTimeLimitExceeded."""


class Kill(BaseException):
    """One that is no Exception, such as GreenletExit."""


EXCEPTIONS: dict[str, Callable[[], BaseException]] = {
    "an exception": lambda: Foreign("of a signal handler"),
    "a TimeoutError": lambda: TimeoutError("of a signal handler"),
    "an OSError": lambda: OSError("of a signal handler"),
    "KeyboardInterrupt": KeyboardInterrupt,
    "a BaseException": lambda: Kill("of a signal handler"),
}


@dataclass(frozen=True)
class Event:
    """Something that happens; ``may_end`` are the errors that the call may then raise.

    The call may always succeed, too.
    """

    act: Callable[[Call, Any], object]
    may_end: tuple[type[BaseException], ...] = ()
    in_thread: bool = False  # in another thread, and not in a signal handler
    is_last: bool = False  # no call is possible afterwards


def _cancel_stream(call: Call, scope: Any) -> None:
    if call.stream is not None:
        call.stream.cancel()


def _fail(call: Call, scope: Any) -> None:
    try:
        call.follow("/fails")
    except requests.ConnectionError:
        return
    raise AssertionError("no failure")


def _fork(call: Call, scope: Any) -> None:
    call.network.accept()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if call.follow("/child") == b"/child" else 2
        except BaseException:  # noqa: BLE001  # nothing may run the parent's code in here
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code == 0, f"the child ended with {code}"


_SHUT_DOWN = (requests.ConnectionError, StreamBroken)
EVENTS: dict[str, Event] = {
    "scope.cancel()": Event(lambda call, scope: scope.cancel(), (Cancelled,)),
    "stream.cancel()": Event(_cancel_stream, (Cancelled,)),
    "shutdown()": Event(lambda call, scope: call.adapter.shutdown(), _SHUT_DOWN, is_last=True),
    "scope.cancel() in a thread": Event(
        lambda call, scope: scope.cancel(), (Cancelled,), in_thread=True
    ),
    "rotate() in a thread": Event(lambda call, scope: call.adapter.rotate(), in_thread=True),
    "close() in a thread": Event(lambda call, scope: call.adapter.close(), in_thread=True),
    "shutdown() in a thread": Event(
        lambda call, scope: call.adapter.shutdown(),
        _SHUT_DOWN,
        in_thread=True,
        is_last=True,
    ),
    "another call fails": Event(_fail, in_thread=True),
    "fork": Event(_fork),
}


class Happening:
    """An event that happens once, in this thread or in another one.

    Another one stops before the line of number ``pause`` of its own (0: nowhere), until `resume`.
    """

    def __init__(self, event: Event, call: Call, scope: Any, pause: int = 0) -> None:
        self._event = event
        self._call = call
        self._scope = scope
        self._pause = pause
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._has_stopped, self._may_go_on = threading.Event(), threading.Event()

    def begin(self) -> None:
        """Let it happen, as far as its pause."""
        if not self._event.in_thread:
            self._act()
            return
        self._thread = threading.Thread(target=self._act_and_stop, name="race", daemon=True)
        self._thread.start()
        self._has_stopped.wait(MOMENT)

    def resume(self) -> None:
        """Let it happen to its end, unless it has to wait for a lock that is held here."""
        self._may_go_on.set()
        if self._thread is not None:
            self._thread.join(MOMENT)

    def _act_and_stop(self) -> None:
        try:
            if self._pause:
                Tracer({self._pause: self._stop}).run(self._act)
            else:
                self._act()
        finally:
            self._has_stopped.set()

    def _stop(self) -> None:
        self._has_stopped.set()
        # At most so long: the call may wait for a lock that is held here.
        self._may_go_on.wait(MOMENT)

    def _act(self) -> None:
        try:
            self._event.act(self._call, self._scope)
        except BaseException as error:  # noqa: BLE001  # told by `join`
            self._error = error

    def join(self, seconds: float) -> str | None:
        """Wait for its end; return its complaint, or None."""
        self._may_go_on.set()
        if self._thread is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                return "it hangs"
        return None if self._error is None else f"it raised {self._error!r}"
