"""A session over one ResilientAdapter, all that the adapter tells, and calls in threads."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import requests

from resilient_requests import AttemptRecord, ResilientAdapter, RetryBudget, RetryPolicy, Timeouts
from resilient_requests.call import Origin, now
from resilient_requests.testing import FaultServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import tenacity
    from typing_extensions import Self

    from resilient_requests import CancelScope

E = TypeVar("E")

# No limit of a test is meant to be reached unless the test sets it.
PATIENT = Timeouts(connect=5.0, write=5.0, response=5.0, idle=5.0)
BIG = b"x" * (6 << 20)  # more than the kernel takes while the peer reads nothing


class TooSlow(AssertionError):
    """Something took longer than it may.

    A machine that is busy elsewhere explains it once: pytest repeats the test.
    """


def in_time(seconds: float, most: float) -> float:
    """Check that something took less than ``most`` seconds; returns how many."""
    if seconds >= most:
        raise TooSlow(f"{seconds:.3f} s, not less than {most} s")
    return seconds


class Client:
    """A session with all calls through one ResilientAdapter.

    Each POST has an Idempotency-Key, unless told otherwise. Retries do not wait:
    ``waited_after`` lists the attempts after which the waiting strategy was asked.
    """

    def __init__(
        self, server: FaultServer | str, *, policy: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.url = server if isinstance(server, str) else server.url
        self.waited_after: list[int] = []
        self.events: list[Any] = []
        options.setdefault("max_retries", RetryPolicy(**{"wait": self._wait, **(policy or {})}))
        options.setdefault("timeouts", PATIENT)
        options.setdefault("idempotency_keys", True)
        observers = (self.events.append, *options.pop("observers", ()))
        self.adapter = ResilientAdapter(observers=observers, **options)
        self.session = requests.Session()
        self.session.mount("http://", self.adapter)
        self.session.mount("https://", self.adapter)
        if isinstance(server, FaultServer):
            self.session.verify = server.ca_path or True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.session.close()

    def _wait(self, state: tenacity.RetryCallState) -> float:
        self.waited_after.append(state.attempt_number)
        return 0.0

    def get(self, **options: Any) -> requests.Response:
        """GET."""
        return self.session.get(self.url, **options)

    def post(self, data: Any = b"question", **options: Any) -> requests.Response:
        """POST."""
        return self.session.post(self.url, data=data, **options)

    def warm(self) -> Self:
        """Make a call that leaves a connection in the pool, and forget its events."""
        assert self.get(timeout=5).status_code == 200
        self.events.clear()
        return self

    def tokens(self) -> float:
        """The tokens left in the retry budget of this server."""
        bucket = self.adapter._budgets.bucket(Origin.of(self.url), RetryBudget(), now().boot)
        assert bucket is not None
        return bucket.tokens(now().boot)

    def told(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def names(self, *kinds: type) -> list[str]:
        """The classes of the events so far, in order; only of those kinds where any is named."""
        return [
            type(event).__name__ for event in self.events if not kinds or isinstance(event, kinds)
        ]


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """The URL of a port on which nothing listens, and nothing will."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


def attempts_of(told: object) -> tuple[AttemptRecord, ...]:
    """The records of the attempts on an error of requests, or on a response."""
    found: tuple[AttemptRecord, ...] = vars(told)["attempts"]
    return found


def counts(server: FaultServer) -> tuple[int, int, int]:
    """Connections, requests and applied requests at the server."""
    return server.accepted, len(server.requests), server.applied


class Running:
    """A function that runs in a thread of its own."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self._function = function
        self._thread = threading.Thread(target=self._run, name="running")
        self._thread.start()

    def _run(self) -> None:
        try:
            self.value = self._function()
        except BaseException as error:  # noqa: BLE001  # handed to the test
            self.error = error

    def seconds_to_end(self, most: float = 10.0) -> float:
        """Wait for the end; return how long that took."""
        since = time.monotonic()
        self._thread.join(most)
        if self._thread.is_alive():
            raise TooSlow(f"not over after {most} s")
        return time.monotonic() - since


def inside(scope: CancelScope, function: Callable[[], Any]) -> Callable[[], Any]:
    """The function, called inside the scope."""

    def call() -> Any:
        with scope:
            return function()

    return call


def until(predicate: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a state that no event announces: mostly that of a socket."""
    end = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.002)
