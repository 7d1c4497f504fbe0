"""Plays one incident, and looks at the call meanwhile: ``looks.py INCIDENT SCHEME``.

It prints the looks as one line of JSON. It is a process of its own, as `cell` is.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lab.contenders import Settings
from lab.incidents import BY_NAME, HUGE, PROBED, Incident, Promise
from lab.network import Lab
from lab.stage import Stage
from resilient_requests.call import CallsInFlight
from resilient_requests.diagnosis import records

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient_requests import InFlight

LIMIT = 45.0
EVERY = 0.1
"""Seconds between two looks."""
FAULTS = ("half_open", "black_hole", "forget", "link_down", "freeze", "change_address")
MENDING = ("link_up",)

Claim = Literal["dead", "alive", "none"]


@dataclass(frozen=True, kw_only=True)
class Look:
    """The claims of a record at one moment.

    ``at`` is seconds since the measured time began. ``known`` is the moment that the claim is
    about, by its own words.
    """

    at: float
    call: str
    phase: str
    claim: Claim
    known: float
    limit: str | None
    ends_in: float | None
    judgement: str

    @classmethod
    def of(cls, record: InFlight, at: float) -> Look:
        """Read a record as people do: by its line."""
        line = record.judgement
        is_stuck = "nothing left this machine" in line
        is_dead = is_stuck or ": the path is dead" in line or "does not answer" in line
        is_alive = "the path answers" in line or "answers window probes" in line
        age = 0.0
        if record.tcp is not None:
            age = record.tcp.heard if is_alive else (record.tcp.last_sent or 0.0) * is_stuck
        return cls(
            at=at,
            call=f"{record.call_id}/{record.attempt}",
            phase=record.phase,
            claim="dead" if is_dead else "alive" if is_alive else "none",
            known=at - age,
            limit=record.limit,
            ends_in=record.ends_in,
            judgement=line,
        )


@dataclass(frozen=True, kw_only=True)
class Watched:
    """An incident as it was seen. ``faults``: when the path died, and when it was mended."""

    result: str
    seconds: float
    faults: list[tuple[float, str]]
    looks: list[Look]


def _into_black_hole(stage: Stage, *, idle: float = 0.0, size: int = 100) -> None:
    """Send a request on a connection from the pool."""
    stage.warm()
    time.sleep(idle)  # a part of the window
    stage.lab.black_hole()
    stage.ask(size=size)


def _dial(stage: Stage, fault: str) -> None:
    stage.make_client()
    getattr(stage.lab, fault)()
    stage.ask()


def _row(name: str, play: Callable[[Stage], None], settings: Settings) -> Incident:
    promise = Promise(within=LIMIT)
    return Incident(
        name=name,
        family="silence",
        title=name,
        play=play,
        promise=promise,
        settings=settings,
        memory=60.0,
    )


_POOLED = Settings(window=10.0, probes=(2, 1, 3))
HANGING = {
    row.name: row
    for row in (
        _row("request-into-black-hole", _into_black_hole, _POOLED),
        _row(
            "idle-request-into-black-hole", functools.partial(_into_black_hole, idle=1.8), _POOLED
        ),
        _row("upload-into-black-hole", functools.partial(_into_black_hole, size=HUGE), _POOLED),
        _row(
            "dial-into-black-hole",
            functools.partial(_dial, fault="black_hole"),
            Settings(connect=6.0),
        ),
        _row("dial-to-frozen-server", functools.partial(_dial, fault="freeze"), PROBED),
        # On a busy machine the link is down only after the usual window.
        replace(BY_NAME["outage-call"], name="pooled-outage-call", settings=Settings(window=10.0)),
    )
}
"""Calls that hang where no incident of the table has them hang."""


def watch(name: str, scheme: str, certificates: Path | None = None) -> Watched:
    """Play an incident of the table, or of `HANGING`."""
    row = BY_NAME.get(name) or HANGING[name]
    times: list[tuple[float, str]] = []
    looks: list[tuple[float, InFlight]] = []
    is_over = threading.Event()

    def noted(fault: str, action: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(action)
        def apply(*args: Any, **options: Any) -> None:
            action(*args, **options)
            times.append((time.monotonic(), fault))

        return apply

    def look() -> None:
        while not is_over.wait(EVERY):
            found = records(CallsInFlight.of_process())
            looks.extend((time.monotonic(), each) for each in found)

    with (
        Lab(memory=row.memory, strangers=row.strangers, certificate_directory=certificates) as lab,
        lab.client.entered(),
    ):
        for fault in (*FAULTS, *MENDING):
            setattr(lab, fault, noted(fault, getattr(lab, fault)))
        stage = Stage(lab, "ours", scheme, row.settings, LIMIT)
        looker = threading.Thread(target=look, daemon=True)
        looker.start()
        row.play(stage)
        is_over.set()
        looker.join(5)
        outcome = stage.outcome()
        began = stage.began
    return Watched(
        result=outcome.result,
        seconds=outcome.seconds,
        faults=[(at - began, fault) for at, fault in times],
        looks=[Look.of(record, at - began) for at, record in looks],
    )


def main() -> None:
    """Run from the command line."""
    name, scheme, *certificates = sys.argv[1:]
    seen = watch(name, scheme, *map(Path, certificates))
    sys.stdout.write(json.dumps(dataclasses.asdict(seen)) + "\n")
    sys.stdout.flush()
    os._exit(0)  # threads of hung calls are still about


if __name__ == "__main__":
    main()
