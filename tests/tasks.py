"""A Celery application whose session was used before the workers were forked; run by test_workers.py.

``celery -A tasks worker`` is the worker; ``python tasks.py 10`` sends so many tasks and prints their results as JSON,
``python tasks.py stream`` sends one that reads a stream to its end. ``UPSTREAM`` is the URL of a FaultServer,
``BROKER`` a directory.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import requests
from celery import Celery, signals

from resilient_requests import ResilientAdapter, StreamError, iter_events

UPSTREAM = os.environ["UPSTREAM"]
BROKER = Path(os.environ["BROKER"])

app = Celery("tasks", broker="filesystem://", backend=(BROKER / "results").as_uri())
folders = {"data_folder_in": BROKER, "data_folder_out": BROKER, "control_folder": BROKER / "control"}
app.conf.broker_transport_options = {name: str(path) for name, path in folders.items()}

adapter = ResilientAdapter()
session = requests.Session()
session.mount("http://", adapter)


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def warm(**_: Any) -> None:
    """Use the session in the process that is about to fork."""
    session.get(UPSTREAM, timeout=5)


# shown in docs/fork.md: begin
GRACE = 1.0
reading, writing = os.pipe()  # all children inherit it; when its other end closes, the worker is ending


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def tell_the_children(**_: Any) -> None:
    """Celery waits for the tasks that run, and tells them nothing."""
    os.close(writing)


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def listen(**_: Any) -> None:
    """Wait beside the tasks. By a thread and not by a signal, whose handlers billiard sets itself."""
    os.close(writing)
    threading.Thread(target=_end_streams, daemon=True).start()


def _end_streams() -> None:
    os.read(reading, 1)
    adapter.shutdown(GRACE)


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def end(**_: Any) -> None:
    """The last task of this process is over: close what is idle."""
    adapter.shutdown()


# shown in docs/fork.md: end


@app.task(name="ask")  # type: ignore[untyped-decorator]
def ask(target: str) -> tuple[int, str]:
    """What the upstream says to this, and which process asked it."""
    return os.getpid(), session.get(UPSTREAM + target, timeout=5).text


@app.task(name="stream")  # type: ignore[untyped-decorator]
def stream() -> str:
    """How a stream ended."""
    try:
        with iter_events(session.get(f"{UPSTREAM}/stream", stream=True, timeout=30)) as events:
            for _ in events:
                pass
    except StreamError as error:
        return type(error).__name__
    return "complete"


def main(what: str) -> None:
    """Send tasks, print what came of them."""
    targets = [] if what == "stream" else [f"/task-{number}" for number in range(int(what))]
    sent = [ask.delay(target) for target in targets] or [stream.delay()]
    print(json.dumps([one.get(timeout=40, interval=0.05) for one in sent]))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
