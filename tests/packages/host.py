"""Plays the cells of one client, each in a forked process.

``python -m packages.host CLIENT [CELL ...]`` prints one line of JSON per cell. The client's
modules are imported once, before the forks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from packages import cell as cells
from packages.clients import CLIENTS, Client
from packages.clients._client import load
from packages.faults import HUNG, Call, Cell, Fault, Outcome, Way
from packages.server import Server, listen
from resilient_requests.testing._certificates import loopback_tls

if TYPE_CHECKING:
    from collections.abc import Iterator

MAKING = 20.0
"""Seconds in which a client must be made and warm."""
ALL = [Cell(*parts) for parts in product(Fault, Way, Call)]


def play(client: Client, cell: Cell, directory: Path) -> Outcome:
    """Fork a process for the client's side, and serve it until it is over or its time is up."""
    path = directory / f"{time.monotonic_ns()}.sock" if client.unix else None
    listener = listen(path)
    url = str(path) if path else f"http{'s' * client.tls}://127.0.0.1:{listener.getsockname()[1]}"
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        listener.close()
        ours.close()
        _be_child(client, cell, url, theirs)
    theirs.close()
    tls = loopback_tls()[0] if client.tls else None
    with Server(client, listener, tls) as server, ours, ours.makefile("r") as lines:
        try:
            return _watch(client, cell, server, ours, lines)
        finally:
            _end(pid)


def _be_child(client: Client, cell: Cell, url: str, host: socket.socket) -> None:
    os.setpgid(0, 0)
    code = 1
    try:
        cells.play(client, cell, url, host)
        code = 0
    except BaseException:  # noqa: BLE001  # nothing may run the host's code in here
        traceback.print_exc()
    finally:
        os._exit(code)


def _watch(
    client: Client, cell: Cell, server: Server, control: socket.socket, lines: TextIO
) -> Outcome:
    if _line(control, lines, MAKING) != cells.ARM:
        raise RuntimeError(f"{client.package}: {cell.name} could not be prepared")
    server.arm(cell.fault)
    control.sendall(cells.DONE.encode())
    since = time.monotonic()
    line = _line(control, lines, client.bound)
    told = Outcome(**json.loads(line)) if line else Outcome(result=HUNG, seconds=client.bound)
    if not line and time.monotonic() - since < client.bound:
        raise RuntimeError(f"{client.package}: {cell.name} died")
    return replace(told, requests=server.requests, applied=server.applied)


def _line(control: socket.socket, lines: TextIO, seconds: float) -> str:
    """Return the next line; empty where none comes in time, or the process is gone."""
    return lines.readline() if select.select([control], [], [], seconds)[0] else ""


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def is_foreign(variable: str) -> bool:
    """Return whether a variable of the machine's would change what requests or we do."""
    name = variable.upper()
    return name.endswith(("_PROXY", "_CA_BUNDLE")) or name.startswith("RESILIENT_REQUESTS_")


def prepare(client: Client, directory: Path) -> None:
    """Import what each cell would have to import, and have our certificates trusted."""
    for name in list(filter(is_foreign, os.environ)):
        del os.environ[name]
    bundle = directory / "ca.pem"
    bundle.write_bytes(loopback_tls()[1])
    os.environ["REQUESTS_CA_BUNDLE"] = str(bundle)
    for module in client.modules:
        load(module)


def play_all(client: Client, wanted: list[Cell]) -> Iterator[tuple[Cell, Outcome]]:
    """Yield each cell and what became of it."""
    with tempfile.TemporaryDirectory() as directory:
        prepare(client, Path(directory))
        for cell in wanted:
            yield cell, play(client, cell, Path(directory))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Play the cells of one client.")
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("cells", nargs="*", type=Cell.of, help="such as 'reset ours read'")
    given = parser.parse_args()
    for cell, outcome in play_all(CLIENTS[given.client](), given.cells or ALL):
        sys.stdout.write(json.dumps({"cell": cell.name, **asdict(outcome)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
