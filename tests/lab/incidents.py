"""The incidents: each is a fault at a moment of a call, with the promise of our adapter."""

from __future__ import annotations

import functools
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lab.contenders import Settings
from lab.namespaces import jump_boot_time
from lab.stage import OK, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.network import Strangers
    from lab.stage import Stage

LARGE, HUGE = 113_000, 8_000_000
HOUR = 3600
USUAL = Settings()
LONG = Settings(window=60.0)
PROBED = Settings(probes=(2, 1, 3))
BROKEN = frozenset(
    {"StreamBroken", "StreamBroken(ETIMEDOUT)", "StreamBroken(ECONNRESET)", "StreamIdle"}
)
Family = Literal[
    "idle",
    "long window",
    "dead pool",
    "closed",
    "stream",
    "frozen",
    "silence",
    "proxy",
    "outage",
    "large",
    "suspend",
]


@dataclass(frozen=True, kw_only=True)
class Promise:
    """The promised outcome of the calls with our adapter.

    The result is one of ``results``, ``within`` so many seconds. Each call is executed at most
    ``executed`` times, and at least once if it is ok. At most ``failed_attempts`` fail in all calls
    together.
    """

    within: float
    results: frozenset[str] = frozenset({OK})
    executed: int = 1
    failed_attempts: int = 0

    def broken_by(self, outcome: Outcome) -> list[str]:
        """Return a complaint for each part of the promise that the outcome breaks."""
        complaints = {
            f"{outcome.result} instead of {' or '.join(sorted(self.results))}": outcome.result
            in self.results,
            f"took {outcome.seconds} s, more than {self.within} s": outcome.seconds <= self.within,
            f"a call was executed {outcome.most_executed} times": outcome.most_executed
            <= self.executed,
            f"only {outcome.executed} of {outcome.calls} calls executed": outcome.result != OK
            or outcome.executed >= outcome.calls,
            f"{outcome.failed_attempts} attempts failed": outcome.failed_attempts
            <= self.failed_attempts,
        }
        return [complaint for complaint, is_kept in complaints.items() if not is_kept]


@dataclass(frozen=True, kw_only=True)
class Incident:
    """One row of the table.

    ``memory`` is the number of seconds after which the NAT forgets a flow. ``strangers`` is its
    treatment of packets that belong to no flow. ``needs`` is a program without which the incident
    cannot be played.
    """

    name: str
    family: Family
    title: str
    play: Callable[[Stage], None]
    promise: Promise
    settings: Settings = USUAL
    memory: float = 4.0
    strangers: Strangers = "drop"
    needs: str | None = None

    @property
    def package(self) -> str | None:
        """The Debian package of its program.

        The package named tinyproxy would also start the program at boot.
        """
        return "tinyproxy-bin" if self.needs == "tinyproxy" else self.needs

    @property
    def is_playable(self) -> bool:
        """True if its program is installed."""
        return self.needs is None or shutil.which(self.needs) is not None


# -- idle connections ------------------------------------------------------------------------------


def _after_memory(stage: Stage, *, connections: int = 1, **call: Any) -> None:
    """Idle for longer than the NAT remembers."""
    stage.warm(connections)
    stage.lab.wait_until_forgotten()
    if connections > 1:
        stage.ask_at_once(connections)
    else:
        stage.ask(**call)


def _after_reboot(stage: Stage, **call: Any) -> None:
    """Idle for a moment, in which the NAT loses its memory."""
    stage.warm()
    stage.lab.wait_until_acknowledged()
    stage.lab.forget()
    stage.ask(**call)


def _dead_pool(stage: Stage) -> None:
    stage.warm(5)
    stage.lab.forget()
    stage.spend()
    stage.ask_at_once(4)


def _closed_by_server(stage: Stage) -> None:
    stage.warm(close_after=0.3)
    time.sleep(0.6)
    stage.ask()


def _new_address(stage: Stage, *, destroy: bool) -> None:
    stage.warm()
    time.sleep(1.1)  # the window of `Settings`
    stage.lab.change_address(destroy=destroy)
    stage.ask()


def _suspended(stage: Stage) -> None:
    stage.warm()
    jump_boot_time(HOUR)
    stage.lab.forget()
    stage.ask()


# -- streams ---------------------------------------------------------------------------------------


def _stream(stage: Stage, *, fault: str, **orders: Any) -> None:
    stage.stream(getattr(stage.lab, fault), **orders)


def _stream_over_outage(stage: Stage, *, seconds: float) -> None:
    def outage() -> None:
        stage.lab.link_down()
        stage.later(seconds, stage.lab.link_up)

    stage.stream(outage)


def _rough_stream(stage: Stage) -> None:
    stage.lab.roughen(delay=0.02, jitter=0.01, loss=0.1, reorder=0.1)
    stage.stream(lambda: None, events=30, every=0.05)


# -- calls -----------------------------------------------------------------------------------------


def _frozen(stage: Stage) -> None:
    stage.warm()
    stage.lab.freeze()
    stage.ask()


def _thinking(stage: Stage, *, seconds: float) -> None:
    stage.ask(think=seconds)


def _thinking_into_black_hole(stage: Stage) -> None:
    stage.once_executed(stage.lab.black_hole)
    stage.ask(think=30)


def _through_proxy(stage: Stage, *, memory: float) -> None:
    stage.go_through(proxy=stage.lab.proxy(memory))
    stage.warm()
    time.sleep(memory + 0.3)
    stage.ask()


def _through_tinyproxy(stage: Stage, *, memory: int) -> None:
    stage.go_through(proxy=stage.lab.tinyproxy(memory))
    stage.warm()
    time.sleep(memory + 0.3)
    stage.ask()


def _through_balancer(stage: Stage, *, memory: float) -> None:
    stage.go_through(url=f"{stage.scheme}://{stage.lab.haproxy(memory, stage.scheme)}")
    stage.warm()
    time.sleep(memory + 0.3)
    stage.ask()


def _request_into_outage(stage: Stage, *, seconds: float) -> None:
    stage.warm()
    stage.lab.link_down()
    stage.later(seconds, stage.lab.link_up)
    stage.ask()


def _no_route(stage: Stage, *, seconds: float) -> None:
    stage.lab.cut_route()
    stage.later(seconds, stage.lab.restore_route)
    stage.ask()


def _rough_calls(stage: Stage) -> None:
    stage.lab.roughen(delay=0.02, jitter=0.01, loss=0.1, reorder=0.1)
    for _ in range(10):
        stage.ask(size=20_000)


def _busy(stage: Stage, *, seconds: float) -> None:
    stage.ask(size=HUGE, busy=seconds)


_TITLES = {"reset": "answers with a reset", "drop": "drops silently"}
_SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "post": ("POST", {}),
    "get": ("GET", {"method": "GET"}),
    "large": ("POST of 113 kB", {"size": LARGE}),
}


def _idle(how: Strangers, shape: str) -> Incident:
    title, call = _SHAPES[shape]
    return Incident(
        name=f"idle-{how}-{shape}",
        family="idle",
        title=f"NAT has forgotten an idle connection, {_TITLES[how]}: {title}",
        play=functools.partial(_after_memory, **call),
        promise=Promise(within=0.5),
        memory=2.0,
        strangers=how,
    )


def _long_window(shape: str) -> Incident:
    title, call = _SHAPES[shape]
    return Incident(
        name=f"long-reset-{shape}",
        family="long window",
        title=f"NAT reboots, answers with a reset, window longer than its memory: {title}",
        play=functools.partial(_after_reboot, **call),
        promise=Promise(within=0.5, failed_attempts=1),
        settings=LONG,
        strangers="reset",
    )


def _dying_stream(
    name: str, title: str, fault: str, strangers: Strangers = "drop", **orders: Any
) -> Incident:
    return Incident(
        name=name,
        family="stream",
        title=f"Mid-stream: {title}",
        play=functools.partial(_stream, fault=fault, **orders),
        promise=Promise(results=BROKEN, within=6.5),  # 2 + 1 x 3 of the probes
        settings=PROBED,
        strangers=strangers,
    )


INCIDENTS: tuple[Incident, ...] = (
    *(_idle(how, shape) for how in ("reset", "drop") for shape in _SHAPES),
    Incident(
        name="idle-reset-pool",
        family="idle",
        title="NAT has forgotten a pool of 4, answers with a reset: 4 at once",
        play=functools.partial(_after_memory, connections=4),
        promise=Promise(within=0.5),
        memory=2.0,
        strangers="reset",
    ),
    *(_long_window(shape) for shape in _SHAPES),
    Incident(
        name="dead-pool-reset",
        family="dead pool",
        title="Pool of 5, NAT reboots, answers with a reset, long window: after 1 call, 4 at once",
        play=_dead_pool,
        promise=Promise(within=1.0),
        settings=LONG,
        strangers="reset",
    ),
    Incident(
        name="dead-pool-drop",
        family="dead pool",
        title="Pool of 5, NAT reboots, drops silently, long window: after 1 call, 4 at once",
        play=_dead_pool,
        promise=Promise(within=1.0),
        settings=LONG,
    ),
    Incident(
        name="closed-by-server",
        family="closed",
        title="The server has closed an idle connection",
        play=_closed_by_server,
        promise=Promise(within=0.5),
        settings=LONG,
    ),
    Incident(
        name="new-address",
        family="closed",
        title="The client has a new address, idle connection",
        play=functools.partial(_new_address, destroy=False),
        promise=Promise(within=0.5),
    ),
    Incident(
        name="new-address-destroyed",
        family="closed",
        title="The client has a new address, its sockets were destroyed",
        play=functools.partial(_new_address, destroy=True),
        promise=Promise(within=0.5),
        settings=LONG,
    ),
    _dying_stream("stream-half-open", "answers no longer arrive", "half_open"),
    _dying_stream("stream-black-hole", "nothing passes any more", "black_hole"),
    _dying_stream("stream-reboot-drop", "the NAT reboots, drops silently", "forget"),
    _dying_stream(
        "stream-reboot-reset", "the NAT reboots, answers with a reset", "forget", "reset"
    ),
    _dying_stream("stream-new-address", "the client's address changes", "change_address"),
    _dying_stream(
        "stream-close-delimited",
        "answers no longer arrive, body without a length",
        "half_open",
        framing="close",
    ),
    Incident(
        name="stream-idle",
        family="stream",
        title="Mid-stream: nothing passes any more, without probes",
        play=functools.partial(_stream, fault="black_hole"),
        promise=Promise(results=frozenset({"StreamIdle"}), within=8.7),
    ),
    Incident(
        name="frozen-stream",
        family="frozen",
        title="Mid-stream: the server freezes",
        play=functools.partial(_stream, fault="freeze"),
        promise=Promise(results=frozenset({"StreamIdle"}), within=8.7),
        settings=PROBED,
    ),
    Incident(
        name="frozen",
        family="frozen",
        title="The server freezes before it answers",
        play=_frozen,
        promise=Promise(results=frozenset({"ReadTimeout"}), within=8.7, failed_attempts=1),
        settings=PROBED,
    ),
    Incident(
        name="thought",
        family="silence",
        title="The answer takes 9 s of silence, the NAT forgets after 4 s",
        play=functools.partial(_thinking, seconds=9),
        promise=Promise(within=10.0),
        settings=Settings(probes=(2, 1, 3), read=15.0),
    ),
    Incident(
        name="long-thought",
        family="silence",
        title="The answer takes 40 s of silence, the NAT forgets after 4 s",
        play=functools.partial(_thinking, seconds=40),
        promise=Promise(within=42.0),
        settings=Settings(probes=(2, 1, 3), read=50.0),
    ),
    Incident(
        name="thought-black-hole",
        family="silence",
        title="Waiting for the answer, nothing passes any more, for good",
        play=_thinking_into_black_hole,
        # The probes find the dead path. The POST is not sent again: the server may be at work. TLS
        # tells no errno before Python 3.12.2, and urllib3 calls the kernel's ETIMEDOUT a timeout.
        promise=Promise(
            results=frozenset(
                {"ConnectionError", "ConnectionError(ETIMEDOUT)", "ReadTimeout(ETIMEDOUT)"}
            ),
            within=7.0,
            failed_attempts=1,
        ),
        settings=Settings(probes=(2, 1, 3), read=30.0),
    ),
    Incident(
        name="proxy-forgets",
        family="proxy",
        title="A proxy has silently forgotten an idle connection",
        play=functools.partial(_through_proxy, memory=1.5),
        promise=Promise(within=0.5),
        memory=60.0,
    ),
    Incident(
        name="tinyproxy-closes",
        family="proxy",
        title="tinyproxy has closed an idle connection",
        play=functools.partial(_through_tinyproxy, memory=2),
        promise=Promise(within=0.5),
        settings=LONG,
        memory=60.0,
        needs="tinyproxy",
    ),
    Incident(
        name="haproxy-closes",
        family="proxy",
        title="HAProxy, as a balancer, has closed an idle connection",
        play=functools.partial(_through_balancer, memory=1.5),
        promise=Promise(within=0.5),
        settings=LONG,
        memory=60.0,
        needs="haproxy",
    ),
    Incident(
        name="outage-stream-3",
        family="outage",
        title="Mid-stream: no link for 3 s",
        play=functools.partial(_stream_over_outage, seconds=3),
        promise=Promise(within=12.0),
        settings=Settings(read=30.0),
        memory=60.0,
    ),
    Incident(
        name="outage-stream-9",
        family="outage",
        title="Mid-stream: no link for 9 s",
        play=functools.partial(_stream_over_outage, seconds=9),
        promise=Promise(within=20.0),
        settings=Settings(read=30.0),
        memory=60.0,
    ),
    Incident(
        name="outage-call",
        family="outage",
        title="No link for 3 s when the request is sent",
        play=functools.partial(_request_into_outage, seconds=3),
        promise=Promise(within=8.0),
        memory=60.0,
    ),
    Incident(
        name="no-route",
        family="outage",
        title="No route for 1 s",
        play=functools.partial(_no_route, seconds=1),
        promise=Promise(
            results=frozenset({OK, "ConnectionError(ENETUNREACH)"}), within=2.0, failed_attempts=3
        ),
    ),
    Incident(
        name="no-route-patient",
        family="outage",
        title="No route for 1 s, retries that wait 0.6 s",
        play=functools.partial(_no_route, seconds=1),
        promise=Promise(within=2.0, failed_attempts=2),
        settings=Settings(wait=0.6),
    ),
    Incident(
        name="rough-calls",
        family="outage",
        title="10 calls over a path with 20 ms of delay that loses and reorders a tenth",
        play=_rough_calls,
        promise=Promise(within=20.0, failed_attempts=10),
        settings=Settings(read=20.0, window=60.0),
        memory=60.0,
    ),
    Incident(
        name="rough-stream",
        family="outage",
        title="A stream over the same path",
        play=_rough_stream,
        promise=Promise(within=20.0, failed_attempts=2),
        settings=Settings(read=20.0),
        memory=60.0,
    ),
    Incident(
        name="busy-server",
        family="large",
        title="POST of 8 MB to a server that does not read for 12 s",
        play=functools.partial(_busy, seconds=12),
        promise=Promise(within=16.0),
        settings=Settings(read=30.0),
        memory=60.0,
    ),
    Incident(
        name="suspend",
        family="suspend",
        title="Suspend of an hour, the NAT has forgotten",
        play=_suspended,
        promise=Promise(within=0.5),
        settings=Settings(window=10.0),
    ),
)
"""All rows, in the order of the table."""

BY_NAME = {incident.name: incident for incident in INCIDENTS}
