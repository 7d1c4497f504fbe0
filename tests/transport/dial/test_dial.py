"""Dials: the first address that connects wins, within one limit, and nothing is left behind."""

from __future__ import annotations

import contextlib
import errno
import random
import select
import signal
import socket
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from clients import Running, in_time, until
from listeners import answering, info, refusing, swallowing

from resilient_requests.call import CancelScope, CancelToken
from resilient_requests.exceptions import Cancelled, DeadlineExceeded
from resilient_requests.transport.dial import _dial
from resilient_requests.transport.dial._addresses import Remembered, in_order
from resilient_requests.transport.dial._dial import Dial
from resilient_requests.transport.dial._limits import explained
from resilient_requests.transport.dial._options import callers, own
from resilient_requests.transport.dial._tries import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resilient_requests.transport.dial._addresses import AddressInfo

FOREIGN = (socket.AF_AX25, socket.SOCK_STREAM, 0, "", ("odd",))
"""An address of a family that this kernel does not have."""

MOST = 0.35
"""Seconds within which a dial passes a dead address."""


def dial(*addresses: AddressInfo, call: CancelToken | None = None, **options: Any) -> Dial:
    """A dial of these addresses, in this order."""
    defaults: dict[str, Any] = {"options": None, "source_address": None, "limit": 5.0}
    return Dial(addresses, token=call or CancelToken(), **{**defaults, **options})


def outcomes(made: Dial) -> dict[str, Outcome]:
    """Return the outcome of each address."""
    return {each.host: each.outcome for each in made.tries}


@pytest.fixture(params=["poll", "select"])
def any_wait(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With poll() and without it: Windows has none, and eventlet takes it away."""
    if request.param == "select":
        monkeypatch.delattr(select, "poll")


# -- which address wins -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("any_wait")
@pytest.mark.parametrize(("dead", "live"), [("::1", "127.0.0.1"), ("127.0.0.2", "127.0.0.1")])
def test_a_dead_first_address_costs_a_quarter_of_a_second(dead: str, live: str) -> None:
    """In plain requests it costs the connect limit: 5 s here, 10 s by default."""
    with swallowing(dead) as first, answering(live) as second:
        made = dial(first.info, second)
        since = time.monotonic()
        sock, reached = made.connect()
        seconds = time.monotonic() - since
        sock.close()

    assert in_time(seconds, MOST) >= 0.25
    assert reached == (second, 2)
    assert outcomes(made) == {dead: Outcome.OVERTAKEN, live: Outcome.CONNECTED}


@pytest.mark.usefixtures("any_wait")
@pytest.mark.parametrize(("dead", "live"), [("::1", "127.0.0.1"), ("127.0.0.2", "127.0.0.1")])
def test_a_refused_first_address_costs_no_wait(dead: str, live: str) -> None:
    """The next is begun as soon as one has failed."""
    with refusing(dead) as first, answering(live) as second:
        made = dial(first, second)
        since = time.monotonic()
        sock, reached = made.connect()
        seconds = time.monotonic() - since
        sock.close()

    in_time(seconds, 0.1)
    assert reached == (second, 2)
    assert [each.error for each in made.tries] == ["Connection refused", None]


def test_the_first_address_wins_where_it_answers() -> None:
    """The others are not even begun."""
    with answering("127.0.0.1") as first, answering("127.0.0.2") as second:
        made = dial(first, second)
        sock, reached = made.connect()
        sock.close()

    assert reached == (first, 1)
    assert outcomes(made) == {"127.0.0.1": Outcome.CONNECTED, "127.0.0.2": Outcome.UNTRIED}


@pytest.mark.slow
def test_a_slow_first_address_still_wins_over_a_dead_second() -> None:
    """A try goes on while later ones are made; a cancel reaches the winner then, not the last."""
    call = CancelToken()
    with swallowing("127.0.0.1") as slow, swallowing("127.0.0.2") as dead:
        made = dial(slow.info, dead.info, call=call)
        running = Running(made.connect)
        until(lambda: made.begun == 2)
        slow.drain()
        running.seconds_to_end()
        sock, reached = running.value
        with sock:
            call.cancel()
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""

    assert reached == (slow.info, 2)


@pytest.mark.slow
def test_a_later_address_that_fails_costs_no_wait_either() -> None:
    """The next is begun then, though the first is silent and the delay of the second not over."""
    with (
        swallowing("127.0.0.2") as silent,
        refusing("127.0.0.3") as refused,
        answering("127.0.0.1") as live,
    ):
        since = time.monotonic()
        sock, reached = dial(silent.info, refused, live).connect()
        seconds = time.monotonic() - since
        sock.close()

    assert in_time(seconds, MOST) >= 0.25
    assert reached == (live, 3)


@pytest.mark.slow
def test_all_addresses_are_begun_within_a_short_limit() -> None:
    """With 250 ms for each, the last one would never begin."""
    with contextlib.ExitStack() as stack:
        dead = [stack.enter_context(swallowing(f"127.0.3.{n}")).info for n in range(1, 4)]
        live = stack.enter_context(answering())
        sock, reached = dial(*dead, live, limit=0.6).connect()
        sock.close()

    assert reached == (live, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("any_wait")
def test_dead_addresses_cost_the_limit_once() -> None:
    """urllib3 waits for each of them as long."""
    with (
        swallowing("127.0.0.2") as one,
        swallowing("127.0.0.3") as two,
        swallowing("::1") as three,
    ):
        made = dial(one.info, two.info, three.info, limit=0.7)
        since = time.monotonic()
        with pytest.raises(TimeoutError, match=r"timed out \(127.0.0.2: timed out; .*::1: "):
            made.connect()
        seconds = time.monotonic() - since

    assert in_time(seconds, 1.0) >= 0.69
    assert set(outcomes(made).values()) == {Outcome.FAILED}


def test_refused_addresses_are_told_one_by_one() -> None:
    """The class and the errno are those of the last; plain requests tells of none but that."""
    with (
        refusing("127.0.0.2") as one,
        refusing("127.0.0.3") as two,
        pytest.raises(ConnectionRefusedError) as caught,
    ):
        dial(one, two).connect()

    assert caught.value.errno == errno.ECONNREFUSED
    assert "127.0.0.2: Connection refused; 127.0.0.3: Connection refused" in str(caught.value)


def test_the_error_of_a_single_address_is_the_system_s_own() -> None:
    """urllib3 raises the same error."""
    with refusing() as one, pytest.raises(ConnectionRefusedError) as caught:
        dial(one).connect()

    assert str(caught.value) == "[Errno 111] Connection refused"


def test_a_family_that_the_kernel_refuses_does_not_end_the_list() -> None:
    """Names have AAAA records on machines whose kernel has no IPv6."""
    with answering() as live:
        made = dial(FOREIGN, live)
        sock, reached = made.connect()
        sock.close()

    assert reached == (live, 2)


@pytest.mark.slow
def test_random_addresses_leave_nothing_and_the_first_that_connects_wins() -> None:
    """200 lists of up to five addresses; the fixture for leaks counts descriptors."""
    chance = random.Random(14)
    with contextlib.ExitStack() as stack:
        good = [stack.enter_context(answering(f"127.0.1.{n}")) for n in range(1, 3)]
        bad = [stack.enter_context(refusing(f"127.0.2.{n}")) for n in range(1, 3)]
        hung = stack.enter_context(swallowing("127.0.3.1")).info
        for _ in range(200):
            addresses = chance.sample([*good, *bad], chance.randint(1, 4))
            if chance.random() < 0.1:
                addresses.insert(chance.randrange(len(addresses) + 1), hung)
            expected = next((each for each in addresses if each in good), None)
            made = dial(*addresses, limit=0.4)
            if expected is None:
                with pytest.raises(OSError, match=r"refused|timed out"):
                    made.connect()
                continue
            sock, reached = made.connect()
            with sock:
                assert reached[0] == expected
                assert sock.getpeername() == expected[4]


@pytest.mark.parametrize(
    ("given", "first", "expected"),
    [
        ("6a 6b 4a 4b", None, "6a 4a 6b 4b"),
        ("4a 4b 6a", None, "4a 6a 4b"),
        ("6a 6b 4a 4b", "4b", "4b 6a 4a 6b"),
        ("6a 4a", "6c", "6a 4a"),  # its record is gone
        ("4a 4b 4c", "4c", "4c 4a 4b"),
        ("4a", "4b", "4a"),
    ],
)
def test_families_take_turns(given: str, first: str | None, expected: str) -> None:
    """RFC 8305, section 4; the one that worked begins, and the rest keep the resolver's order."""
    infos = {
        f"{family}{letter}": info(("::" if family == 6 else "127.0.0.") + f"{number}", 1)
        for family in (4, 6)
        for number, letter in enumerate("abc", 1)
    }
    names = {found: name for name, found in infos.items()}
    ordered = in_order([infos[name] for name in given.split()], infos.get(first or ""))

    assert [names[each] for each in ordered] == expected.split()


@pytest.mark.parametrize(("floor", "is_current"), [(2, True), (3, True), (4, False)])
def test_a_memory_lives_as_long_as_its_generation(floor: int, is_current: bool) -> None:
    """An address from a retired generation says nothing about the next dial."""
    assert Remembered(info("127.0.0.1", 1), generation=3).is_current(floor) is is_current


# -- the end of a dial ---------------------------------------------------------------------------


@pytest.fixture
def hanging() -> Iterator[list[AddressInfo]]:
    """Addresses none of which answers."""
    with swallowing("127.0.0.2") as one, swallowing("127.0.0.3") as two, swallowing("::1") as six:
        yield [one.info, two.info, six.info]


@pytest.mark.slow
@pytest.mark.parametrize("many", [1, 3])
def test_a_cancel_from_another_thread_ends_a_dial_at_once(
    hanging: list[AddressInfo], many: int
) -> None:
    """Any number of sockets may be connecting: the last one is shut down, and wakes the wait."""
    call = CancelToken()
    made = dial(*hanging[:many], call=call, limit=60)
    running = Running(made.connect)
    until(lambda: made.begun == many if many > 1 else call.sock is not None)
    time.sleep(0.3)  # within the next wait
    since = time.monotonic()
    call.cancel()
    running.seconds_to_end()
    seconds = time.monotonic() - since

    assert isinstance(running.error, Cancelled)
    in_time(seconds, 0.05)
    assert made._pending == []


@pytest.mark.slow
def test_a_cancel_reaches_the_sockets_that_are_left(hanging: list[AddressInfo]) -> None:
    """The last to be begun has failed: another must be there to be shut down."""
    call = CancelToken()
    with refusing("127.0.0.4") as refused:
        made = dial(hanging[0], refused, call=call, limit=60)
        running = Running(made.connect)
        until(lambda: made.begun == 2 and len(made._pending) == 1)
        time.sleep(0.02)
        since = time.monotonic()
        call.cancel()
        running.seconds_to_end()

    assert isinstance(running.error, Cancelled)
    in_time(time.monotonic() - since, 0.05)


@pytest.mark.slow
def test_a_cancel_by_a_signal_handler_ends_a_dial(hanging: list[AddressInfo]) -> None:
    """It runs on the thread that waits; a quiet handler has the wait resumed (PEP 475)."""
    call = CancelToken()
    previous = signal.signal(signal.SIGALRM, lambda *_: call.cancel())
    signal.setitimer(signal.ITIMER_REAL, 0.6)
    since = time.monotonic()
    try:
        with pytest.raises(Cancelled):
            dial(*hanging, call=call, limit=60).connect()
    finally:
        signal.signal(signal.SIGALRM, previous)

    in_time(time.monotonic() - since, 0.7)


def test_an_error_of_a_signal_handler_leaves_a_race_as_it_is(hanging: list[AddressInfo]) -> None:
    """An alarm's TimeoutError is the caller's own, and no failure of an address."""

    def ring(*_: object) -> None:
        raise TimeoutError("the alarm")

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(TimeoutError, match=r"^the alarm$"):
            dial(*hanging, limit=60).connect()
    finally:
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.slow
class Interrupted(list[Any]):
    """Options in the middle of which a signal handler raises."""

    def __iter__(self) -> Any:
        raise OSError("of a signal handler")


@pytest.mark.parametrize("are_plain", [True, False])
def test_an_error_of_a_signal_handler_is_no_failure_of_an_address(
    monkeypatch: pytest.MonkeyPatch, are_plain: bool
) -> None:
    """Otherwise the next address would hide the error, in a race and in a sequence."""
    monkeypatch.setattr(_dial, "can_wait_on_several", lambda _: are_plain)
    with answering("127.0.0.1") as first, answering("127.0.0.2") as second:
        made = dial(first, second, options=Interrupted([1]))
        with pytest.raises(OSError, match="of a signal handler"):
            made.connect()

        assert made.begun == 0


def test_a_deadline_ends_a_dial(hanging: list[AddressInfo]) -> None:
    """It comes before the limit, and is no failure to connect."""
    with CancelScope(timeout=0.4):
        call = CancelToken()
    since = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        dial(*hanging, call=call, limit=60).connect()

    assert in_time(time.monotonic() - since, 0.6) >= 0.39


def test_a_call_that_has_ended_dials_nothing(hanging: list[AddressInfo]) -> None:
    """It does not even dial the first address."""
    call = CancelToken()
    call.cancel()
    made = dial(*hanging, call=call)
    with pytest.raises(Cancelled):
        made.connect()

    assert set(outcomes(made).values()) == {Outcome.UNTRIED}


@pytest.mark.parametrize("fate", ["r", "rr", "ra", "xa"])
def test_a_dial_is_freed_without_the_collector(no_collector: None, fate: str) -> None:
    """The errors of refused addresses hold its frames, which hold it: they must not be kept."""
    with refusing("127.0.0.2") as refused, answering() as live:
        fates = {"r": refused, "a": live, "x": FOREIGN}
        made = dial(*[fates[each] for each in fate])
        with contextlib.suppress(ConnectionRefusedError):
            made.connect()[0].close()
    freed = weakref.ref(made._token)
    del made

    assert freed() is None


# -- options, source, sockets of others ---------------------------------------------------------

UNKNOWN = (socket.IPPROTO_TCP, 9999, 1)


@pytest.mark.parametrize("many", [1, 2])
def test_an_option_of_ours_that_the_kernel_refuses_is_skipped(many: int) -> None:
    """WSL 1 and gVisor have no TCP_USER_TIMEOUT; those after it are set."""
    options = own([UNKNOWN, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)], others=[])
    with answering() as live:
        sock, _ = dial(*[live] * many, options=options).connect()
        with sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


@pytest.mark.parametrize("many", [1, 2])
def test_an_option_of_the_caller_that_the_kernel_refuses_is_an_error(many: int) -> None:
    """urllib3 raises it, too."""
    with answering() as live, pytest.raises(OSError, match="not available") as caught:
        dial(*[live] * many, options=[UNKNOWN]).connect()

    assert caught.value.errno == errno.ENOPROTOOPT


def test_options_of_ours_are_told_from_the_caller_s() -> None:
    """Equal as they are, so that pools are found by them."""
    stock = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    options = own([stock, UNKNOWN], others=[stock])

    assert options == [stock, UNKNOWN]
    assert callers(options) == [stock]
    assert callers(None) is None


def test_a_source_address_passes_over_the_other_family() -> None:
    """It cannot be bound there."""
    with answering("::1") as six, answering("127.0.0.1") as four:
        sock, reached = dial(six, four, source_address=("127.0.0.9", 0)).connect()
        with sock:
            assert sock.getsockname()[0] == "127.0.0.9"

    assert reached == (four, 2)


def test_sockets_that_others_have_made_connect_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PySocks talks to a proxy in connect(): without a timeout it would wait for ever."""
    seen: list[float | None] = []

    class Theirs(socket.socket):
        def connect(self, address: Any) -> None:
            seen.append(self.gettimeout())
            super().connect(address)

    monkeypatch.setattr(socket, "socket", Theirs)
    with refusing("127.0.0.2") as one, answering("127.0.0.1") as two:
        seen.clear()
        sock, reached = dial(one, two, limit=5.0).connect()
        with sock:
            assert sock.gettimeout() == 5.0

    assert reached == (two, 2)
    assert len(seen) == 2
    assert all(each for each in seen)


@pytest.mark.slow
def test_sockets_of_others_share_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the list within it, not each."""

    class Theirs(socket.socket):
        def connect(self, address: Any) -> None:
            super().connect(address)

    with swallowing("127.0.0.2") as one, swallowing("127.0.0.3") as two:
        monkeypatch.setattr(socket, "socket", Theirs)
        since = time.monotonic()
        with pytest.raises(TimeoutError):
            dial(one.info, two.info, limit=0.3).connect()

    in_time(time.monotonic() - since, 0.5)


# -- limits of the machine ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "source", "text"),
    [
        (errno.EMFILE, None, "ulimit -n"),
        (errno.ENFILE, None, "fs.file-max"),
        (errno.EADDRNOTAVAIL, None, "ip_local_port_range"),
        (errno.EADDRNOTAVAIL, ("192.0.2.1", 0), "source_address 192.0.2.1"),
    ],
)
def test_a_limit_of_the_machine_is_named(number: int, source: Any, text: str) -> None:
    """The class and the errno stay: others look at those."""
    error = explained(OSError(number, "odd"), source)

    assert text in str(error)
    assert (type(error), error.errno) == (type(OSError(number, "odd")), number)


def test_other_errors_stay_as_they_are() -> None:
    """The very object."""
    error = ConnectionRefusedError(errno.ECONNREFUSED, "odd")

    assert explained(error) is error


def test_a_wrong_source_address_is_named() -> None:
    """The kernel says no more than that an address is not available."""
    with (
        answering() as live,
        pytest.raises(OSError, match=r"source_address 192\.0\.2\.1 is not one"),
    ):
        dial(live, source_address=("192.0.2.1", 0)).connect()
