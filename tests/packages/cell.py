"""Plays one cell from the side of the client, in a forked process that its host may end."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from requests.adapters import HTTPAdapter

from packages.faults import OK, WRONG, Call, Cell, Fault, Outcome, Way
from resilient_requests import ResilientAdapter

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from packages.clients import Client

ADAPTERS: dict[Way, type[HTTPAdapter]] = {Way.PLAIN: HTTPAdapter, Way.OURS: ResilientAdapter}
WINDOW = 0.3
"""Seconds that our adapter keeps an idle connection, where a cell is about longer idleness."""
STREAM_IDLE = 1.0
"""Seconds of silence that our adapter allows where the client has no limit of its own."""
ARM, DONE = "arm\n", "armed\n"


def play(client: Client, cell: Cell, url: str, host: socket.socket) -> None:
    """Warm the client, have the fault armed, call, and tell the host what became of it."""
    _quieten()
    os.environ["RESILIENT_REQUESTS_STREAM_IDLE"] = str(STREAM_IDLE)
    if cell.fault is Fault.SILENT:
        os.environ["RESILIENT_REQUESTS_KEEPALIVE"] = str(WINDOW)
    with host.makefile("rw") as lines:
        client.api = client.make(url, ADAPTERS[cell.way])
        # Pools of UNIX sockets are kept by URL, and caches by name.
        warm = _called(client, cell, 1 if client.unix else 0)
        if warm.result != OK:
            raise RuntimeError(f"{client.package} cannot be warmed: {warm.result}: {warm.text}")
        lines.write(ARM)
        lines.flush()
        lines.readline()
        if cell.fault is Fault.SILENT:
            time.sleep(1.4 * WINDOW)
        outcome = _forked(client, cell) if cell.fault is Fault.FORK else _called(client, cell, 1)
        lines.write(json.dumps(asdict(outcome)) + "\n")


def outcome_of(call: Callable[[], object], name: str) -> Outcome:
    """Make a call, which is right where what it returns contains the name."""
    since = time.monotonic()
    try:
        value = call()
    except Exception as error:  # noqa: BLE001  # whatever a client raises is its outcome
        parents = tuple(each.__qualname__ for each in type(error).__mro__[:-3])
        failed = Outcome(result=type(error).__qualname__, seconds=0, parents=parents)
        outcome = replace(failed, text=str(error)[:300])
    else:
        text = "" if name in str(value) else str(value)[:300]
        outcome = Outcome(result=WRONG if text else OK, seconds=0, text=text)
    return replace(outcome, seconds=time.monotonic() - since)


def _called(client: Client, cell: Cell, number: int) -> Outcome:
    name = f"item{number:08x}"
    method = client.read if cell.call is Call.READ else client.write
    return outcome_of(lambda: method(name), name)


def _forked(client: Client, cell: Cell) -> Outcome:
    """Call in a child and in here; the worse of the two outcomes counts."""
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.write(theirs, json.dumps(asdict(_called(client, cell, 2))).encode())
        os._exit(0)
    os.close(theirs)
    here = _called(client, cell, 1)
    with open(ours, "rb") as pipe:  # noqa: PTH123  # a descriptor
        there = Outcome(**json.loads(pipe.read()))
    return max(here, there, key=lambda each: (each.result == WRONG, each.result != OK))


def _quieten() -> None:
    """Keep what clients say of retries and deprecations out of the way of errors."""
    warnings.simplefilter("ignore")
    logging.disable()
    sys.stdout = sys.stderr
