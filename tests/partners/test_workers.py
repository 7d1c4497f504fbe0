"""Servers that fork after the session was used: every answer is its asker's own."""

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
from clients import Running, in_time, until
from fake_clock import in_threads

from resilient_requests.testing import FaultServer, reset, respond, silence, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilient_requests.testing import ReceivedRequest, Reply

SUPPORT = Path(__file__).resolve().parents[1] / "support"
HEARTBEAT_SECONDS, GRACE = 0.3, 1.0  # equal to the scripts' own values
PATIENCE = 20.0

pytestmark = pytest.mark.slow


def needs(what: str, is_here: bool, how: str, *, is_due: bool = False) -> pytest.MarkDecorator:
    """Skip where it is not installed, and say how to install it; but where it is due, fail."""
    return pytest.mark.skipif(not is_here and not is_due, reason=f"{what} is not installed: {how}")


EXTRA = "pip install --group partners"
IN_CI = "EVERYTHING_IS_DUE" in os.environ  # set by nox, which has installed it
UWSGI = Path(sys.executable).with_name("uwsgi")
needs_gunicorn = needs("gunicorn", find_spec("gunicorn") is not None, EXTRA, is_due=IN_CI)
needs_gevent = needs("gevent", find_spec("gevent") is not None, EXTRA, is_due=IN_CI)
needs_celery = needs("Celery", find_spec("celery") is not None, EXTRA, is_due=IN_CI)
needs_uwsgi = needs(
    "uWSGI",
    UWSGI.exists(),
    f"{EXTRA} on Linux, or pyuwsgi",
    is_due=IN_CI and sys.platform == "linux",
)
needs_redis = needs(
    "Redis",
    shutil.which("redis-server") is not None and find_spec("redis") is not None,
    f"the system's package redis-server, and {EXTRA}",
)

WORKERS = [
    pytest.param("gthread", marks=needs_gunicorn),
    pytest.param("gevent", marks=[needs_gunicorn, needs_gevent]),
]
BROKERS = ["filesystem", pytest.param("redis", marks=needs_redis)]


@pytest.fixture
def upstream() -> Iterator[FaultServer]:
    """Answers with the path; a stream has two events, and then nothing for a long time."""

    def answer(request: ReceivedRequest) -> Reply:
        return respond(request.target.encode())

    with FaultServer(default=answer) as server:
        server.route("/stream", stream([b"data: 1\n\n", b"data: 2\n\n", 60.0]))
        server.route("/silent", silence())
        server.route("/reset", reset())
        yield server


@contextlib.contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a process group of its own; its output is shown on failure."""
    env = {**os.environ, "PYTHONPATH": str(SUPPORT), **environment}
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


def end(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Send SIGTERM; when that was, and the seconds until the end."""
    since = time.monotonic()
    process.terminate()
    process.wait(
        3 * PATIENCE
    )  # once in a while a child of Celery waits 30 s for its last result to be counted
    return since, time.monotonic() - since


def ended(*ends: Running) -> None:
    """Wait for these, and raise the error of any of them."""
    for each in ends:
        each.seconds_to_end(4 * PATIENCE)
        if each.error is not None:
            raise each.error


def check_ends(measure: Callable[[Path], tuple[float, float]], folder: Path) -> None:
    """A server takes at most GRACE + 1 seconds more to end than one that has nothing to do.

    Some of those seconds are work for the processor: on a busy machine a second try is fair.
    """
    measured = []
    for turn in range(3):
        idle, busy = measure(folder / str(turn))
        if busy < idle + GRACE + 1:
            return
        measured.append((idle, busy))
    pytest.fail(f"seconds to end, idle and busy: {measured}")


class Browser:
    """Asks a server that listens on a Unix socket: there is no port to guess, nor one to lose."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def open(self, target: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Begin a request on a connection of its own; the caller closes it."""
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
        """Return the worker that answered, and its answer."""
        connection, response = self.open(target)
        with contextlib.closing(connection):
            body = response.read().decode()
        assert response.status == 200, body
        worker, _, answer = body.partition(" ")
        return int(worker), answer

    def is_served(self) -> bool:
        """True if a process accepts."""
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(self._path) == 0


@contextlib.contextmanager
def gunicorn(
    worker: str, upstream: FaultServer, folder: Path
) -> Iterator[tuple[Browser, subprocess.Popen[bytes]]]:
    """A master with two workers, once both answer: one that still boots would miss a signal."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "gunicorn.sock"
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--config",
        str(SUPPORT / "gunicorn_conf.py"),
        "--workers=2",
    ]
    command += [f"--worker-class={worker}", "--threads=8", f"--bind=unix:{path}", "wsgi_app:app"]
    with running(command, folder / "log", UPSTREAM=upstream.url) as process:
        browser = Browser(path)
        until(browser.is_served, PATIENCE)
        workers: set[int] = set()

        def are_up() -> bool:
            workers.add(browser.ask("/hooks")[0])
            return len(workers) == 2

        until(are_up, PATIENCE)
        yield browser, process


def check_answers(browser: Browser, upstream: FaultServer, workers: int = 2) -> None:
    """Ask from eight threads until all workers have answered, each rightly; none is the parent."""
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
    assert upstream.connections[0].ended is None  # the parent's, of which the workers had copies
    assert [request.target for request in upstream.requests if request.connection == 1] == ["/"]


@pytest.mark.parametrize("worker", WORKERS)
def test_workers_of_gunicorn_get_their_own_answers(
    worker: str, upstream: FaultServer, tmp_path: Path
) -> None:
    """With ``--preload`` all of them have inherited one warm connection."""
    with gunicorn(worker, upstream, tmp_path) as (browser, _):
        check_answers(browser, upstream)


@pytest.mark.parametrize("worker", WORKERS)
def test_gunicorn_ends_in_time_with_a_live_stream(
    worker: str, upstream: FaultServer, tmp_path: Path
) -> None:
    """The browser learns that its stream was cut; gunicorn alone would kill the worker."""
    with gunicorn(worker, upstream, tmp_path) as (browser, process):
        connection, response = browser.open("/stream")
        with contextlib.closing(connection):
            assert response.readline() == b"data: 1\n"
            whole = Running(lambda: end(process))
            rest = response.read()
        ended(whole)

    assert b'event: error\ndata: {"type": "StreamBroken", "reason": "' in rest
    assert process.returncode == 0
    in_time(whole.value[1], GRACE + 1)


@pytest.mark.parametrize("worker", WORKERS)
def test_gunicorn_waits_for_a_view_that_is_at_work(
    worker: str, upstream: FaultServer, tmp_path: Path
) -> None:
    """The other requests do not end with the streams: they have until ``graceful_timeout``."""
    with gunicorn(worker, upstream, tmp_path) as (browser, process):
        connection, response = browser.open("/work")
        with contextlib.closing(connection):
            assert response.readline() == b"begun\n"
            whole = Running(lambda: end(process))
            assert response.read() == b"done\n"
        ended(whole)

    assert process.returncode == 0


@pytest.mark.parametrize("worker", WORKERS)
def test_a_browser_that_leaves_ends_the_upstream_within_two_heartbeats(
    worker: str, upstream: FaultServer, tmp_path: Path
) -> None:
    """Only the heartbeat makes the view write, and only writing shows that nobody reads."""
    with gunicorn(worker, upstream, tmp_path) as (browser, _):
        connection, response = browser.open("/stream")
        with contextlib.closing(connection):
            assert response.readline() == b"data: 1\n"
            assert upstream.open_connections == 2
        left = time.monotonic()
        until(lambda: upstream.open_connections == 1, PATIENCE)
        seconds = time.monotonic() - left

    in_time(seconds, 2 * HEARTBEAT_SECONDS + 0.2)


@needs_uwsgi
@pytest.mark.parametrize(
    ("options", "hooks"), [([], "0"), (["--py-call-uwsgi-fork-hooks"], "1")], ids=["bare", "hooks"]
)
def test_workers_of_uwsgi_get_their_own_answers(
    options: list[str], hooks: str, upstream: FaultServer, tmp_path: Path
) -> None:
    """It runs at-fork hooks only if it is told to; any thread may be the first to notice."""
    path = tmp_path / "uwsgi.sock"
    command = [
        str(UWSGI),
        f"--http-socket={path}",
        "--master",
        "--processes=2",
        "--enable-threads",
        "--threads=4",
    ]
    command += [
        "--module=wsgi_app:app",
        "--need-app",
        "--die-on-term",
        f"--virtualenv={sys.prefix}",
        *options,
    ]
    with running(command, tmp_path / "log", UPSTREAM=upstream.url):
        browser = Browser(path)
        until(browser.is_served, PATIENCE)
        check_answers(browser, upstream)
        assert browser.ask("/hooks")[1] == hooks


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """The URL of a Redis of its own."""
    path = folder / "redis.sock"
    with running(
        ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", ""],
        folder / "redis.log",
    ):
        until(path.exists, PATIENCE)
        yield f"redis+socket://{path}"


@contextlib.contextmanager
def celery(
    upstream: FaultServer, folder: Path, broker: str, children: int
) -> Iterator[tuple[dict[str, str], subprocess.Popen[bytes]]]:
    """A prefork worker, and the environment of a process that sends it tasks."""
    (folder / "results").mkdir(parents=True)
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "celery_app",
        "worker",
        "--pool=prefork",
        f"--concurrency={children}",
    ]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with redis(folder) if broker == "redis" else contextlib.nullcontext("filesystem://") as url:
        environment = {"UPSTREAM": upstream.url, "BROKER": url, "FOLDER": str(folder)}
        with running(command, folder / "log", **environment) as process:
            yield {**os.environ, "PYTHONPATH": str(SUPPORT), **environment}, process


@contextlib.contextmanager
def results(environment: dict[str, str], *what: str) -> Iterator[subprocess.Popen[str]]:
    """Send tasks; the process prints their results."""
    command = [sys.executable, str(SUPPORT / "celery_app.py"), *what]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


@needs_celery
@pytest.mark.parametrize("broker", BROKERS)
def test_children_of_celery_get_their_own_answers(
    broker: str, upstream: FaultServer, tmp_path: Path
) -> None:
    """They are forked when ``worker_init`` has used the session."""
    with (
        celery(upstream, tmp_path, broker, children=2) as (environment, _),
        results(environment, "40") as sender,
    ):
        printed, _ = sender.communicate(timeout=2 * PATIENCE)

    answers = json.loads(printed)
    assert [answer for _, answer in answers] == [f"/task-{number}" for number in range(40)]
    # Which child takes a task is Celery's matter; the parent takes none.
    assert len({child for child, _ in answers}) in {1, 2}
    assert [request.target for request in upstream.requests if request.connection == 1] == ["/"]


@needs_celery
@pytest.mark.timeout(240)
@pytest.mark.parametrize("broker", BROKERS)
def test_celery_ends_in_time_wherever_its_tasks_are(
    broker: str, upstream: FaultServer, tmp_path: Path
) -> None:
    """Its warm shutdown waits for tasks as long as they take: they must be told."""
    targets = {"/stream": "StreamBroken", "/silent": "ConnectionError", "/reset": "ConnectionError"}

    def end_idle(
        process: subprocess.Popen[bytes], sender: subprocess.Popen[str]
    ) -> tuple[float, float]:
        sender.communicate(timeout=2 * PATIENCE)
        return end(process)

    def end_busy(process: subprocess.Popen[bytes]) -> tuple[float, float]:
        assert upstream.wait_for(
            lambda one: targets.keys() <= {each.target for each in one.requests}, 2 * PATIENCE
        )
        return end(process)

    def measure(folder: Path) -> tuple[float, float]:
        upstream.reset_counts()
        with (
            celery(upstream, folder / "idle", broker, children=3) as (idle_environment, idle),
            celery(upstream, folder / "busy", broker, children=3) as (busy_environment, busy),
            results(idle_environment, "1") as idle_sender,
            results(busy_environment, *targets) as sender,
        ):
            own, whole = (
                Running(lambda: end_idle(idle, idle_sender)),
                Running(lambda: end_busy(busy)),
            )
            printed, _ = sender.communicate(timeout=2 * PATIENCE)
            # Deploys may insist; not at once, since a handler may find Celery's own lock held.
            busy.terminate()
            ended(own, whole)

        answers = json.loads(printed)
        assert [error for error, _ in answers] == [*targets.values()]
        assert max(at for _, at in answers) - whole.value[0] < GRACE + 1
        assert busy.returncode == 0
        assert "Traceback" not in (folder / "busy" / "log").read_text()
        return own.value[1], whole.value[1]

    check_ends(measure, tmp_path)
