"""A clock that tests set, and sessions that tell the time by it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import requests

from resilient_requests import ResilientAdapter
from resilient_requests.call import Instant
from resilient_requests.testing import reset, respond

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilient_requests.testing import FaultServer, ReceivedRequest, Reply


class FakeClock:
    """Three clocks that go only when told to; guarded by nothing, since one thread moves them."""

    def __init__(self) -> None:
        self._now = Instant(1_000.0, 5_000.0, 1_700_000_000.0)

    def __call__(self) -> Instant:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass as it does when nothing odd happens."""
        self.move(monotonic=seconds, boot=seconds, wall=seconds)

    def move(self, *, monotonic: float = 0.0, boot: float = 0.0, wall: float = 0.0) -> None:
        """Let each clock go so far, or be set back."""
        now = self._now
        self._now = Instant(now.monotonic + monotonic, now.boot + boot, now.wall + wall)


def mounted(clock: Callable[[], Instant] | None = None, **options: Any) -> requests.Session:
    """A session with one adapter for everything, on this clock, or on the machine's."""
    kind: type[ResilientAdapter] = ResilientAdapter
    if clock is not None:
        # A wait before a retry would never end on a clock that stands still.
        kind = type(
            "Timed",
            (ResilientAdapter,),
            {"_clock": staticmethod(clock), "_sleep": staticmethod(_no_sleep)},
        )
    options.setdefault("idempotency_keys", True)
    session = requests.Session()
    session.mount("http://", made := kind(**options))
    session.mount("https://", made)
    return session


def _no_sleep(token: object, seconds: float) -> None:
    pass


def adapter_of(session: requests.Session) -> ResilientAdapter:
    """The adapter of a session from `mounted`."""
    found = session.get_adapter("http://")
    assert isinstance(found, ResilientAdapter)
    return found


def pool_up(session: requests.Session, server: FaultServer, count: int) -> list[requests.Response]:
    """Leave so many idle connections in the pool; returns the responses that brought them there."""
    responses = [
        session.get(server.url, stream=True, verify=server.ca_path or True) for _ in range(count)
    ]
    for response in responses:
        assert response.content == b"ok"
    assert adapter_of(session).stats().idle == count
    return responses


def echoes(server: FaultServer) -> FaultServer:
    """Answer each request with its own target and body."""
    server.default = lambda request: respond(request.target.encode() + request.body)
    return server


def ask(
    session: requests.Session, url: str, who: str, count: int, verify: str | bool | None = None
) -> None:
    """Ask an echoing server so many questions, by GET and POST in turn, and check every answer."""
    for number in range(count):
        target, body = f"/{who}-{number}", b"" if number % 2 else f"?{who}".encode() * 50
        answer = session.request("POST" if body else "GET", url + target, data=body, verify=verify)
        assert answer.content == target.encode() + body, (target, answer.content[:100])


def forgets(server: FaultServer) -> FaultServer:
    """Reset, unread, every request on a used connection: a path that forgets at once."""

    def answer(request: ReceivedRequest) -> Reply:
        is_first = server.connections[request.connection - 1].requests == 1
        return respond(b"ok") if is_first else reset(applies=False)

    server.default = answer
    return server


@contextlib.contextmanager
def in_threads(
    count: int, work: Callable[[int], object], timeout: float = 40.0
) -> Iterator[list[BaseException]]:
    """Run ``work(number)`` in so many threads that start together; on leaving, all have ended.

    Yields their errors.
    """
    errors: list[BaseException] = []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            barrier.wait(timeout)
            work(number)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield errors
    finally:
        for thread in threads:
            thread.join(timeout)
        assert not any(thread.is_alive() for thread in threads)
