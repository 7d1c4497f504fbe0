"""A Celery application with a session that was used before the fork; run by test_workers.py.

``celery -A tasks worker`` is the worker. ``python tasks.py 10`` sends ten tasks and prints their
results as JSON. ``python tasks.py /stream /silent`` sends a task for each target and prints how it
ended. ``UPSTREAM`` is the URL of a FaultServer, ``BROKER`` that of a Redis or "filesystem://",
``FOLDER`` a directory for the rest.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import requests
import tenacity
from celery import Celery, signals

from resilient_requests import ResilientAdapter, RetryPolicy, iter_events

UPSTREAM = os.environ["UPSTREAM"]
BROKER = os.environ["BROKER"]
FOLDER = Path(os.environ["FOLDER"])

app = Celery("tasks", broker=BROKER, backend=(FOLDER / "results").as_uri())
if BROKER == "filesystem://":
    folders = {
        "data_folder_in": FOLDER,
        "data_folder_out": FOLDER,
        "control_folder": FOLDER / "control",
    }
    app.conf.broker_transport_options = {name: str(path) for name, path in folders.items()}

adapter = ResilientAdapter(max_retries=RetryPolicy(wait=tenacity.wait_fixed(60)))
session = requests.Session()
session.mount("http://", adapter)


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def warm(**_: Any) -> None:
    """Use the session in the process that is about to fork."""
    session.get(UPSTREAM, timeout=5)


# shown in docs/fork.md: begin
GRACE = 1.0
reading, writing = (
    socket.socketpair()
)  # all children inherit both; when one end is closed, the worker is ending


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def tell_the_children(**_: Any) -> None:
    """Celery waits for the tasks that run, and tells them nothing."""
    writing.close()  # a second time too: SIGTERM may come twice


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def listen(**_: Any) -> None:
    """Wait beside the tasks.

    A thread, because billiard sets the signal handlers of a worker itself.
    """
    writing.close()
    threading.Thread(target=_end_streams, daemon=True).start()


def _end_streams() -> None:
    reading.recv(1)
    adapter.shutdown(GRACE)


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def end(**_: Any) -> None:
    """The last task of this process is over: close the idle connections."""
    adapter.shutdown()


# shown in docs/fork.md: end


@app.task(name="ask")  # type: ignore[untyped-decorator]
def ask(target: str) -> tuple[int, str]:
    """Return the id of this process, and the answer of the upstream."""
    return os.getpid(), session.get(UPSTREAM + target, timeout=5).text


@app.task(name="cut")  # type: ignore[untyped-decorator]
def cut(target: str) -> tuple[str, float]:
    """Return the end of a long stream: the class of its error, and the monotonic time."""
    try:
        with iter_events(session.get(UPSTREAM + target, stream=True, timeout=30)) as events:
            for _ in events:
                pass
    except requests.RequestException as error:
        return type(error).__name__, time.monotonic()
    return "complete", time.monotonic()


def main(what: list[str]) -> None:
    """Send tasks and print their results."""
    if what[0].isdigit():
        sent = [ask.delay(f"/task-{number}") for number in range(int(what[0]))]
    else:
        sent = [cut.delay(target) for target in what]
    print(json.dumps([one.get(timeout=40, interval=0.05) for one in sent]))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
