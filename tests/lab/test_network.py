from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab import network, workshop
from lab.network import (
    CLIENT,
    HTTP,
    INTERNET,
    OTHER_CLIENT,
    PROXY_PORT,
    SERVER,
    Lab,
    Manner,
    why_not,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

REASON = why_not()
TESTS = Path(__file__).resolve().parent.parent

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(REASON is not None, reason=f"no laboratory here: {REASON}"),
]


class Call:
    """A connection of the client's, for one request after the other."""

    def __init__(self, lab: Lab, address: tuple[str, int] = (SERVER, HTTP)) -> None:
        with lab.client.entered():
            self.sock = socket.create_connection(address, timeout=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, request_id: str, orders: str = "{}") -> None:
        """Send a request."""
        head = (
            f"GET http://{SERVER}/ HTTP/1.1\r\n"
            f"X-Request-Id: {request_id}\r\nX-Lab: {orders}\r\n\r\n"
        )
        self.sock.sendall(head.encode())

    def is_answered(self, within: float = 5.0) -> bool:
        """Return True if an answer comes in time."""
        self.sock.settimeout(within)
        try:
            return self.sock.recv(65536).startswith(b"HTTP/1.1 200")
        except TimeoutError:
            return False

    def ask(self, request_id: str) -> bool:
        """Send a request, and wait for its answer."""
        self.send(request_id)
        return self.is_answered()


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A laboratory whose NAT drops strangers."""
    with Lab(memory=60) as lab:
        yield lab


def until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Return True if a condition comes true in time."""
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return met


def test_the_server_counts_each_request_id(lab: Lab) -> None:
    """The number of executions of a request is the figure that matters most."""
    with Call(lab) as call:
        assert [call.ask("a"), call.ask("b"), call.ask("a")] == [True] * 3

    assert lab.counts("seen") == lab.counts("executed") == {"a": 2, "b": 1}


def test_the_nat_stands_between(lab: Lab) -> None:
    """The server must see the router's address.

    Any other address means that conntrack has no part.
    """
    with Call(lab) as call:
        call.ask("a")
        peers = lab.server.run("ss", "-Htn", "state", "established")

    assert "198.51.100.2" in peers
    assert CLIENT not in peers


@pytest.mark.slow
def test_the_nat_forgets_what_is_idle_for_longer_than_its_memory(lab: Lab) -> None:
    """Timeouts of conntrack are seconds here, and days in an untouched kernel."""
    lab.remember_for(1)
    with Call(lab) as call:
        call.ask("a")

        assert lab.flows() == 1
        lab.wait_until_forgotten(3)
        call.send("b")
        assert not call.is_answered(0.3)
    assert lab.counts("seen") == {"a": 1}


def test_a_nat_that_resets_answers_a_stranger(lab: Lab) -> None:
    """The other kind of NAT: the client learns at once, but only when it sends."""
    lab.treat_strangers("reset")
    with Call(lab) as call:
        call.ask("a")
        lab.forget()
        call.send("b")

        with pytest.raises(ConnectionResetError):
            call.is_answered()
    assert lab.counts("seen") == {"a": 1}


def test_what_the_nat_forgot_does_not_come_back_by_itself(lab: Lab) -> None:
    """With loose tracking one packet out of the middle would revive the flow."""
    with Call(lab) as call:
        call.ask("a")
        lab.forget()
        call.send("b")

        assert not call.is_answered(0.2)
        assert lab.flows() == 0


def test_in_a_half_open_path_requests_arrive_and_answers_do_not(lab: Lab) -> None:
    """The worst case: executed, and nobody knows."""
    with Call(lab) as call:
        call.ask("a")
        lab.half_open()
        call.send("b")

        assert until(lambda: lab.counts("executed")["b"] == 1)
        assert not call.is_answered(0.2)
        lab.mend()
        assert call.is_answered()


def test_a_black_hole_swallows_requests_until_it_is_mended(lab: Lab) -> None:
    """TCP recovers once the path is back."""
    with Call(lab) as call:
        call.ask("a")
        lab.black_hole()
        call.send("b")

        assert not call.is_answered(0.2)
        assert lab.counts("seen")["b"] == 0
        lab.mend()
        assert call.is_answered()


def test_without_a_link_there_is_no_route_and_with_it_there_is(lab: Lab) -> None:
    """A pulled cable makes existing connections wait and new ones fail at once."""
    with Call(lab) as call:
        call.ask("a")
        lab.link_down()
        with pytest.raises(OSError, match="unreachable") as failure:
            Call(lab)
        lab.link_up()

        assert failure.value.errno == errno.ENETUNREACH
        assert call.ask("b")


def test_a_route_can_be_cut_and_restored(lab: Lab) -> None:
    """A laptop is in this state between two networks."""
    lab.cut_route()
    with pytest.raises(OSError, match="unreachable"):
        Call(lab)
    lab.restore_route()

    with Call(lab) as call:
        assert call.ask("a")


@pytest.mark.parametrize("destroy", [False, True])
def test_a_new_address_ends_old_connections_aloud_or_silently(lab: Lab, destroy: bool) -> None:
    """Some network managers destroy the sockets, and others do not."""
    with Call(lab) as old:
        old.ask("a")
        lab.change_address(destroy=destroy)

        if destroy:
            with pytest.raises(ConnectionAbortedError):
                old.is_answered()
        else:
            old.send("b")
            assert not old.is_answered(0.3)
        with Call(lab) as new:
            assert new.ask("c")
            assert new.sock.getsockname()[0] == OTHER_CLIENT


def test_a_frozen_server_acknowledges_and_answers_after_the_thaw(lab: Lab) -> None:
    """Its kernel lives: no socket option sees anything."""
    lab.freeze()
    with Call(lab) as call:
        call.send("a")

        assert not call.is_answered(0.2)
        assert not lab.counts("seen")
        assert until(lambda: " 0 " in lab.client.run("ss", "-Htn", "state", "established"))
        lab.thaw()
        assert call.is_answered()


@pytest.mark.slow
def test_a_rough_road_delays_and_loses(lab: Lab) -> None:
    """A small process in user space, for kernels without NETEM."""
    lab.roughen(delay=0.05)
    with Call(lab) as call:
        since = time.monotonic()
        assert call.ask("a")

        assert time.monotonic() - since >= 0.1  # there and back
    lab.close()
    with Lab() as lossy:
        lossy.roughen(loss=1.0)
        with pytest.raises(TimeoutError), lossy.client.entered():
            socket.create_connection((SERVER, HTTP), timeout=0.3)


@pytest.mark.parametrize("manner", ["silence", "fin", "reset"])
@pytest.mark.slow
def test_a_proxy_forgets_in_each_manner(lab: Lab, manner: Manner) -> None:
    """No keep-alive probe notices the silence, since the proxy's kernel answers the probes."""
    lab.proxy(0.3, manner)
    with Call(lab, (INTERNET, PROXY_PORT)) as call:
        assert call.ask("a")
        time.sleep(0.5)

        if manner == "reset":
            with pytest.raises(ConnectionResetError):
                call.is_answered()
        elif manner == "fin":
            assert call.sock.recv(1) == b""
        else:
            call.send("b")
            assert not call.is_answered(0.2)
    assert lab.counts("seen") == {"a": 1}


@pytest.mark.slow
def test_boot_time_can_jump_while_the_other_clocks_stay() -> None:
    """A suspend, for a process of one thread."""
    program = (
        "import time; from lab.namespaces import jump_boot_time\n"
        "def now(): return "
        "[time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic(), time.time()]\n"
        "before = now(); jump_boot_time(3600); "
        "print(*(round(b - a) for a, b in zip(before, now())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=TESTS, check=True
    )

    assert done.stdout.split() == ["3600", "0", "0"]


def test_only_the_calling_thread_is_moved(lab: Lab) -> None:
    """The rest of the process stays at home, so faults and servers can be handled from anywhere."""
    seen: dict[str, str] = {}
    entered, looked = threading.Event(), threading.Event()

    def look() -> None:
        entered.wait(5)
        seen["other"] = os.readlink("/proc/thread-self/ns/net")  # noqa: PTH115
        looked.set()

    other = threading.Thread(target=look)
    other.start()
    home = os.readlink("/proc/thread-self/ns/net")  # noqa: PTH115
    with lab.client.entered():
        entered.set()
        assert looked.wait(5)
        seen["own"] = os.readlink("/proc/thread-self/ns/net")  # noqa: PTH115
    other.join(5)

    assert seen["other"] == home == os.readlink("/proc/thread-self/ns/net")  # noqa: PTH115
    assert seen["own"] != home


@pytest.mark.slow
def test_laboratories_do_not_see_each_other(lab: Lab) -> None:
    """They have the same addresses, and nothing else in common."""
    with Lab(memory=60) as other, Call(lab) as call, Call(other) as neighbour:
        assert call.ask("a")
        assert neighbour.ask("b")
        other.black_hole()

        assert call.ask("c")
        assert lab.counts("seen") == {"a": 1, "c": 1}
        assert other.counts("seen") == {"b": 1}


def test_the_host_is_left_as_it_is() -> None:
    """Links, routes, rules and settings are made inside, where the machine does not see them."""

    def state() -> list[str]:
        commands = (["ip", "-o", "link"], ["ip", "route", "show", "table", "all"], ["ip", "rule"])
        told = [
            subprocess.run(each, capture_output=True, text=True, check=True).stdout
            for each in commands
        ]
        return [*told, Path("/proc/sys/net/ipv4/ip_forward").read_text(encoding="ascii")]

    before = state()
    with Lab() as lab:
        lab.roughen()

        assert state() == before


_FOREVER = """
import time
from lab.network import Lab
from lab.test_network import Call
lab = Lab()
with Call(lab) as call:
    call.ask("a")  # its process is well under way now
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_killed_run_leaves_nothing(is_stopped: bool) -> None:
    """Namespaces go with the process, its children too, and the next laboratory sweeps the rest."""
    with subprocess.Popen(
        [sys.executable, "-c", _FOREVER], stdout=subprocess.PIPE, cwd=TESTS
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        (path,) = Path(tempfile.gettempdir()).glob(f"{workshop.PREFIX}{run.pid}-*")
        pid, since = map(int, (path / "children").read_text(encoding="ascii").split())
        if is_stopped:
            os.kill(pid, signal.SIGSTOP)
        assert workshop.is_alive(pid, since)
        run.kill()
        run.wait(5)

    assert until(lambda: not workshop.is_alive(pid, since))
    workshop.sweep()
    assert not path.exists()


def test_the_sweeper_spares_the_living_and_the_strangers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The sweeper may not touch a laboratory in use.

    It may not touch a process either that merely got the pid of a dead one.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own, since = os.getpid(), workshop.started(os.getpid())
    assert since is not None
    used = tmp_path / f"{workshop.PREFIX}{own}-{since}-aaaa"
    left = tmp_path / f"{workshop.PREFIX}{own}-{since - 1}-bbbb"
    others = [tmp_path / "something-else", tmp_path / f"{workshop.PREFIX}notes"]
    for path in (used, left, *others):
        path.mkdir()
    with subprocess.Popen(["sleep", "30"]) as stranger:
        started = workshop.started(stranger.pid)
        assert started is not None
        (left / "children").write_text(
            f"{stranger.pid} {started - 1}\nNone None\n", encoding="ascii"
        )

        assert workshop.sweep() == 1
        assert stranger.poll() is None
        stranger.kill()
    assert used.exists()
    assert not left.exists()
    assert all(path.exists() for path in others)


def test_a_process_that_outlived_its_laboratory_is_swept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kernel kills children with their parent; this is for those that it could not."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"{workshop.PREFIX}{os.getpid()}-1-cccc"
    left.mkdir()
    with subprocess.Popen(["sleep", "30"]) as survivor:
        (left / "children").write_text(
            f"{survivor.pid} {workshop.started(survivor.pid)}\n", encoding="ascii"
        )

        assert workshop.sweep() == 1
        assert survivor.wait(5) == -signal.SIGKILL


def test_without_the_means_there_is_a_reason_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A skip that nobody understands stays a skip for ever."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1000)
        assert "run as root" in str(why_not())
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda tool: None)
        assert "apt-get install conntrack iproute2 nftables" in str(why_not())
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        assert "Linux" in str(why_not())

    def refused() -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(network, "Namespace", refused)
    assert "--privileged" in str(why_not())
