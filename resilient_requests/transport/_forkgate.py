"""Keeps forks and dials apart: what a thread has locked in OpenSSL or the resolver, a child could never take."""

from __future__ import annotations

import os
import ssl
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from urllib3.util.wait import wait_for_socket

from resilient_requests.call._clock import boot

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GATE", "ForkGate", "gated"]

_STEP = 0.001
# What happens inside takes milliseconds of CPU, to load a CA bundle 33, and some times that on a busy machine; only a
# name server may take longer. Who has waited for half a second goes on, with the risk that there is without a gate.
_STEPS = 500
# A thread ends within a moment. Whatever else the process has that is no thread of Python's stays.
_STEPS_TO_END = 50

# Of the operating system, since greenlets of one thread are never inside anything while it forks.
_thread_id = getattr(threading, "get_native_id", threading.get_ident)


class ForkGate:
    """Keeps forks out while other threads are inside ``with``, and those out while one forks; neither for long.

    Mutable state: two lists of which single entries are put in and taken out, and a set that is replaced. It has no
    lock, and polls, because a signal handler, a callback of OpenSSL or a finalizer may fork on the thread that is in
    the middle of any of this.
    """

    def __init__(self) -> None:
        self._inside: list[int] = []
        self._forks: list[int] = []
        self._foreign: set[int] = (
            set()
        )  # threads of other libraries, as far as they are known not to end

    def __enter__(self) -> None:
        thread = _thread_id()
        try:
            for _ in range(_STEPS):
                self._inside.append(thread)
                if not self._forks:
                    return
                self._inside.remove(thread)
                time.sleep(_STEP)
            self._inside.append(thread)
        except BaseException:  # of a signal handler
            self.__exit__()
            raise

    def __exit__(self, *exc_info: object) -> None:
        with suppress(ValueError):  # in a child that was forked inside
            self._inside.remove(_thread_id())

    def before_fork(self) -> None:
        """Hold back who is about to enter, and wait for the threads inside, but for the one that forks."""
        self._forks.append(thread := _thread_id())
        for _ in range(_STEPS):
            if all(inside == thread for inside in self._inside.copy()):
                break
            time.sleep(_STEP)
        self._await_ends()

    def _await_ends(self) -> None:
        """Wait for threads that Python knows no more: OpenSSL locks what it keeps of all threads when one ends."""
        unknown = _unknown_threads()
        for _ in range(_STEPS_TO_END):
            if unknown <= self._foreign:
                return
            time.sleep(_STEP)
            unknown = _unknown_threads()
        self._foreign = unknown

    def after_in_parent(self) -> None:
        """Let in who was held back; a fork that failed comes here too."""
        del self._forks[-1:]

    def after_in_child(self) -> None:
        """Be as new: the other threads do not exist here."""
        self._inside.clear()
        self._forks.clear()
        self._foreign = set()


def _unknown_threads() -> set[int]:
    """Return the ids of the operating system's threads that are none of Python's; nothing where Linux is not."""
    known = {_thread_id(), *(thread.native_id for thread in threading.enumerate())}
    try:
        return {int(name) for name in os.listdir("/proc/self/task")} - known  # noqa: PTH208  # no Path per thread
    except OSError:
        return set()


GATE = ForkGate()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=GATE.before_fork,
        after_in_parent=GATE.after_in_parent,
        after_in_child=GATE.after_in_child,
    )


# At import, since gevent replaces it when it patches late: its sockets are no base, and no ordinary ones, of ours.
_Ordinary = ssl.SSLSocket


class _GatedSocket(_Ordinary):
    """A TLS socket that is inside the gate while OpenSSL works, and outside while it waits for the peer.

    Until the first data have come: TLS 1.3 sends its session tickets after the handshake, and to read one takes
    locks too. From then on it is an ordinary socket, at no cost.
    """

    @classmethod
    def _create(cls, *args: Any, do_handshake_on_connect: bool = True, **kwargs: Any) -> Any:
        with GATE:
            made = super()._create(*args, do_handshake_on_connect=False, **kwargs)  # type: ignore[misc]
        if do_handshake_on_connect:
            try:
                made.do_handshake()
            except BaseException:
                made.close()
                raise
        return made

    def do_handshake(self, block: bool = False) -> None:
        self._in_steps("handshake", super().do_handshake, block)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002  # as ssl.SSLSocket
        data = self._in_steps("read", super().read, len, buffer)
        self.__class__ = _Ordinary  # type: ignore[assignment]
        return data

    def _in_steps(self, name: str, operation: Callable[..., Any], *args: Any) -> Any:
        timeout = self.gettimeout()
        until = None if timeout is None else boot() + timeout
        self.settimeout(0)
        try:
            while True:
                try:
                    with GATE:
                        return operation(*args)
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                    if timeout == 0:
                        raise
                    reads = isinstance(error, ssl.SSLWantReadError)
                left = None if until is None else max(until - boot(), 0)
                if not wait_for_socket(self, read=reads, write=not reads, timeout=left):
                    raise TimeoutError(f"The {name} operation timed out")
        finally:
            self.settimeout(timeout)


def gated(context: ssl.SSLContext) -> ssl.SSLContext:
    """Have the sockets of this context keep forks out; gevent's and pyOpenSSL's stay as they are."""
    if getattr(context, "sslsocket_class", None) is _Ordinary and _Ordinary.__module__ == "ssl":
        context.sslsocket_class = _GatedSocket
    return context
