"""Fixtures around every test: an environment of its own, and a check for leaks."""

from __future__ import annotations

import gc
import os
import threading
import time
import warnings
from typing import TYPE_CHECKING

import pytest
from clients import Client
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilient_requests.testing import FaultServer

pytest_plugins = ["resilient_requests.testing.plugin"]

GRACE = 3.0
"""Seconds that threads and sockets have to finish after a test that has already ended."""

_FD_DIR = "/proc/self/fd"
_FOREIGN = frozenset({"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"})


def _open_fds() -> frozenset[tuple[str, str]]:
    """Number and target of each open file descriptor; nothing where there is no /proc."""
    try:
        # A Path per descriptor and test would be too slow.
        numbers = os.listdir(_FD_DIR)  # noqa: PTH208
    except OSError:
        return frozenset()
    found = []
    for number in numbers:
        try:
            found.append((number, os.readlink(f"{_FD_DIR}/{number}")))  # noqa: PTH115 - as above
        except OSError:  # the descriptor with which the directory was read
            continue
    return frozenset(found)


class Leaks:
    """The threads and descriptors that have come since this object was made."""

    def __init__(self) -> None:
        self._threads = frozenset(threading.enumerate())
        self._fds = _open_fds()

    def found(self) -> list[str]:
        """Describe each thread and file descriptor that is new."""
        threads = [t for t in threading.enumerate() if t not in self._threads]
        fds = sorted(_open_fds() - self._fds)
        return [f"thread {t.name}" for t in threads] + [
            f"fd {number}: {target}" for number, target in fds
        ]

    def remaining(self, grace: float) -> list[str]:
        """Describe all that remains after at most ``grace`` seconds and one garbage collection."""
        if not self.found():
            return []
        gc.collect()
        until = time.monotonic() + grace
        while (left := self.found()) and time.monotonic() < until:
            time.sleep(0.005)
        return left


@pytest.fixture(autouse=True)
def nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or a file descriptor behind.

    A test that is marked ``leaks`` passes.
    """
    marker = request.node.get_closest_marker("leaks")
    if marker is not None:
        if not marker.args and "reason" not in marker.kwargs:
            pytest.fail("the marker `leaks` needs a reason")
        yield
        with warnings.catch_warnings():
            # Else the collector would warn of its sockets in the middle of another test.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        return
    leaks = Leaks()
    yield
    left = leaks.remaining(GRACE)
    if left:
        pytest.fail("left behind: " + "; ".join(left))


class _Scheduler(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types for it
    """Hands out test by test, but for the incidents of the laboratory.

    One process plays them all, and begins first.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file.endswith(("lab/test_incidents.py", "lab/test_diagnosis.py")) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _Scheduler:
    """Have ``-n`` schedule so."""
    return _Scheduler(config, log)


def _is_foreign(name: str) -> bool:
    """True if this environment variable would change requests or us."""
    name = name.upper()
    return name in _FOREIGN or name.endswith("_PROXY") or name.startswith("RESILIENT_REQUESTS_")


@pytest.fixture(autouse=True)
def own_environment(nothing_leaks: None) -> Iterator[None]:
    """Hide the machine's proxies, certificate bundles and our own variables from a test."""
    # The fixture `monkeypatch` will not do: a test that calls its undo() must not bring the
    # machine's variables back.
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if _is_foreign(name)]:
            patch.delenv(name)
        yield


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the collector, only objects that nobody refers to are freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(params=["plain", "tls"])
def server(
    request: pytest.FixtureRequest, fault_server_factory: Callable[..., FaultServer]
) -> FaultServer:
    """A server with and without TLS; a module may have one of its own."""
    return fault_server_factory(tls=request.param == "tls")


@pytest.fixture
def client(server: FaultServer) -> Iterator[Client]:
    """Ours, on that server."""
    with Client(server) as client:
        yield client
