"""Servers that fork their workers from a process that has used the session: every answer is its asker's own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clients import until
from timed import in_threads

from resilient_requests.testing import FaultServer, respond, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resilient_requests.testing import ReceivedRequest, Reply

TESTS = Path(__file__).parent
HEARTBEAT_SECONDS, GRACEFUL_TIMEOUT = 0.3, 3  # as in served.py and gunicorn_conf.py
PATIENCE = 20.0

pytestmark = pytest.mark.slow


def needs(module: str, how: str) -> pytest.MarkDecorator:
    """Skip where it is not installed, and say how to install it."""
    return pytest.mark.skipif(find_spec(module) is None, reason=f"{module} is not installed: {how}")


needs_gunicorn = needs("gunicorn", "pip install 'resilient_requests[test]', or gunicorn and gevent")
needs_celery = needs("celery", "pip install 'resilient_requests[test]', or celery")
needs_uwsgi = pytest.mark.skipif(
    shutil.which("uwsgi", path=str(Path(sys.executable).parent)) is None,
    reason="uWSGI is not installed: pip install uwsgi (builds from source, needs a C compiler)",
)

WORKERS = [
    pytest.param("gthread", marks=needs_gunicorn),
    pytest.param("gevent", marks=[needs_gunicorn, needs("gevent", "pip install gevent")]),
]


@pytest.fixture
def upstream() -> Iterator[FaultServer]:
    """Says what it is asked; a stream has two events, and then nothing for a long time."""

    def answer(request: ReceivedRequest) -> Reply:
        if request.target.startswith("/stream"):
            return stream([b"data: 1\n\n", b"data: 2\n\n", 60.0])
        return respond(request.target.encode())

    with FaultServer(default=answer) as server:
        yield server


@contextlib.contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own, of which nothing is left afterwards; its output is shown on failure."""
    env = {**os.environ, "PYTHONPATH": str(TESTS), **environment}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env=env,
            cwd=log.parent,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        except BaseException:
            sys.stderr.write(log.read_text(errors="replace"))
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


class Browser:
    """Asks a server that listens on a Unix socket: there is no port to guess, nor one to lose."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def open(self, target: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Begin a request on a connection of its own; whoever calls closes it."""
        connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(PATIENCE)
            connection.sock.connect(self._path)
            connection.request("GET", target)
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def ask(self, target: str) -> tuple[int, str]:
        """The worker that answered, and what it said."""
        connection, response = self.open(target)
        with contextlib.closing(connection):
            body = response.read().decode()
        assert response.status == 200, body
        worker, _, answer = body.partition(" ")
        return int(worker), answer

    def is_served(self) -> bool:
        """Whether somebody accepts."""
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(self._path) == 0


@contextlib.contextmanager
def gunicorn(worker: str, upstream: FaultServer, folder: Path) -> Iterator[tuple[Browser, subprocess.Popen[bytes]]]:
    """A master with two workers, once it listens."""
    path = folder / "gunicorn.sock"
    command = [sys.executable, "-m", "gunicorn", "--config", str(TESTS / "gunicorn_conf.py"), "--workers=2"]
    command += [f"--worker-class={worker}", "--threads=8", f"--bind=unix:{path}", "served:app"]
    with running(command, folder / "log", UPSTREAM=upstream.url) as process:
        browser = Browser(path)
        until(browser.is_served, PATIENCE)
        yield browser, process


def check_answers(browser: Browser, upstream: FaultServer, workers: int = 2) -> None:
    """Ask from eight threads until all workers have answered; each answer must be right, none from the parent."""
    askers: set[int] = set()

    def work(number: int) -> None:
        for turn in range(400):
            target = f"/ask/{number}-{turn}"
            worker, answer = browser.ask(target)
            assert answer == target
            askers.add(worker)
            if turn >= 25 and len(askers) == workers:
                return

    with in_threads(8, work, timeout=40) as errors:
        pass
    assert errors == []
    assert len(askers) == workers
    assert {request.connection for request in upstream.requests if request.target == "/"} == {1}
    assert [request.target for request in upstream.requests if request.connection == 1] == ["/"]


@pytest.mark.parametrize("worker", WORKERS)
def test_workers_of_gunicorn_get_their_own_answers(worker: str, upstream: FaultServer, tmp_path: Path) -> None:
    """With ``--preload`` all of them have inherited one warm connection."""
    with gunicorn(worker, upstream, tmp_path) as (browser, _):
        check_answers(browser, upstream)


@pytest.mark.parametrize("worker", WORKERS)
def test_gunicorn_ends_in_time_with_a_live_stream(worker: str, upstream: FaultServer, tmp_path: Path) -> None:
    """The browser learns that its stream was cut; without the recipe gunicorn would kill the worker in mid-stream."""
    with gunicorn(worker, upstream, tmp_path) as (browser, process):
        connection, response = browser.open("/stream")
        with contextlib.closing(connection):
            assert response.readline() == b"data: 1\n"
            process.terminate()
            since = time.monotonic()
            rest = response.read()
        process.wait(PATIENCE)
        seconds = time.monotonic() - since

    assert rest.endswith(b"event: error\ndata: StreamBroken\n\n")
    assert seconds < GRACEFUL_TIMEOUT + 1
    assert process.returncode == 0


@pytest.mark.parametrize("worker", WORKERS)
def test_a_browser_that_leaves_ends_the_upstream_within_two_heartbeats(
    worker: str, upstream: FaultServer, tmp_path: Path
) -> None:
    """The upstream is silent: only the heartbeat makes the view write, and only writing shows that nobody reads."""
    with gunicorn(worker, upstream, tmp_path) as (browser, _):
        connection, response = browser.open("/stream")
        with contextlib.closing(connection):
            assert response.readline() == b"data: 1\n"
            assert upstream.open_connections == 2
        left = time.monotonic()
        until(lambda: upstream.open_connections == 1, PATIENCE)
        seconds = time.monotonic() - left

    assert seconds < 2 * HEARTBEAT_SECONDS + 0.2


@needs_uwsgi
def test_workers_of_uwsgi_get_their_own_answers(upstream: FaultServer, tmp_path: Path) -> None:
    """It runs no at-fork hooks, and both threads of a worker may be the first to notice."""
    path = tmp_path / "uwsgi.sock"
    command = [str(Path(sys.executable).parent / "uwsgi"), f"--http-socket={path}", "--master", "--processes=2"]
    command += ["--enable-threads", "--threads=4", "--module=served:app", "--need-app", "--die-on-term"]
    command += [f"--virtualenv={sys.prefix}", f"--pythonpath={TESTS}"]
    with running(command, tmp_path / "log", UPSTREAM=upstream.url):
        browser = Browser(path)
        until(browser.is_served, PATIENCE)
        check_answers(browser, upstream)


@contextlib.contextmanager
def celery(upstream: FaultServer, folder: Path) -> Iterator[tuple[dict[str, str], subprocess.Popen[bytes]]]:
    """A prefork worker with two children, and the environment of who sends it tasks."""
    (folder / "results").mkdir()
    environment = {"UPSTREAM": upstream.url, "BROKER": str(folder)}
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool=prefork", "--concurrency=2"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with running(command, folder / "log", **environment) as process:
        yield {**os.environ, "PYTHONPATH": str(TESTS), **environment}, process


def results(what: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Send tasks; the process prints what came of them."""
    command = [sys.executable, str(TESTS / "tasks.py"), what]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@needs_celery
def test_children_of_celery_get_their_own_answers(upstream: FaultServer, tmp_path: Path) -> None:
    """They are forked when ``worker_init`` has used the session."""
    with celery(upstream, tmp_path) as (environment, _), results("40", environment) as sender:
        printed, _ = sender.communicate(timeout=45)

    answers = json.loads(printed)
    assert [answer for _, answer in answers] == [f"/task-{number}" for number in range(40)]
    # Which child takes a task is Celery's matter; the parent takes none.
    assert len({child for child, _ in answers}) in {1, 2}
    assert [request.target for request in upstream.requests if request.connection == 1] == ["/"]


@needs_celery
def test_celery_ends_in_time_with_a_live_stream(upstream: FaultServer, tmp_path: Path) -> None:
    """Its warm shutdown waits for tasks as long as they take: the task must be told."""
    with celery(upstream, tmp_path) as (environment, process), results("stream", environment) as sender:
        assert upstream.wait_for(lambda one: any(r.target == "/stream" for r in one.requests), PATIENCE)
        since = time.monotonic()
        process.terminate()
        printed, _ = sender.communicate(timeout=PATIENCE)
        process.wait(PATIENCE)
        seconds = time.monotonic() - since

    assert json.loads(printed) == ["StreamBroken"]
    assert seconds < 15
