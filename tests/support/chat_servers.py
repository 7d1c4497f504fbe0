"""The chat page of examples/chat_page under the servers that people run it with."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from resilient_requests.testing import FaultServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilient_requests.testing import ReceivedRequest, Reply

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "chat_page"
HEARTBEAT, IDLE = 0.8, 5.0  # two beats and a slow machine's second are well below the limit
THREADS = 4
_GUNICORN = f"gunicorn --worker-class=gthread --threads={THREADS} --bind=fd://{{fd}}"
_UVICORN = "uvicorn --fd={fd}"
SERVERS = {
    "flask-gunicorn": f"{_GUNICORN} flask_app:app",
    "django-gunicorn": f"{_GUNICORN} django_app:wsgi",
    "drf-gunicorn": f"{_GUNICORN} drf_app:wsgi",
    "django-uvicorn": f"{_UVICORN} django_app:asgi",
    "fastapi-uvicorn": f"{_UVICORN} fastapi_app:app",
}


class Site(NamedTuple):
    """A server of the page, and the provider that it asks."""

    url: str
    provider: FaultServer


@contextlib.contextmanager
def running(name: str, answer: Callable[[ReceivedRequest], Reply], log: Path) -> Iterator[Site]:
    """Run one of SERVERS until the end of the block; a failure shows its output."""
    with FaultServer(default=answer) as provider, socket.create_server(("127.0.0.1", 0)) as sock:
        environment = {
            **os.environ,
            "UPSTREAM": provider.url,
            "HEARTBEAT": str(HEARTBEAT),
            "IDLE": str(IDLE),
        }
        fd = sock.fileno()
        command = [sys.executable, "-m", *SERVERS[name].format(fd=fd).split()]
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=FOLDER,
                env=environment,
                pass_fds=[fd],
                start_new_session=True,
            ) as process,
        ):
            try:
                yield Site(f"http://127.0.0.1:{sock.getsockname()[1]}", provider)
            except BaseException:
                sys.stderr.write(log.read_text(errors="replace"))
                raise
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
