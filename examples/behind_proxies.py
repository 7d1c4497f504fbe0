"""Compare nginx and HAProxy in front of answers that go wrong.

    python behind_proxies.py [--stay]

Both proxies allow a second of silence, and close a connection after a second of idleness. With
--stay they wait until Ctrl-C, for your own requests. A proxy that is not installed is left out.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from resilient_requests import ConnectionOpened, ResilientAdapter, StreamError, stream_chat
from resilient_requests.testing import FaultServer, ReceivedRequest, Reply, reset, respond, sse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NGINX = """
daemon off; master_process off; pid {here}/pid; error_log {here}/log; events {{ }}
http {{
  access_log off; client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;
  fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;
  keepalive_timeout 1s; proxy_read_timeout 1s;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{origin}; }} }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 1s
  timeout client 1s
  timeout server 1s
  timeout http-keep-alive 1s
  option http-no-delay
listen proxy
  bind 127.0.0.1:{port}
  server origin 127.0.0.1:{origin}
"""
PROXIES = {"nginx": (NGINX, "-p {here} -c {conf}"), "haproxy": (HAPROXY, "-db -f {conf}")}
LONG = 5.0  # seconds of silence, more than any limit here


def chunk(text: str = "", finish: str | None = None) -> dict[str, object]:
    """A chunk, as providers send it."""
    return {
        "choices": [
            {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}
        ]
    }


HEL, LO = (chunk(), chunk("Hel")), (chunk("lo"), chunk(finish="stop"))
asked: set[str | None] = set()


def silent_once(request: ReceivedRequest) -> Reply:
    """Fall silent before the text, but not at a replay, which has the same key."""
    key = request.header("Idempotency-Key")
    if key in asked:
        return sse(*HEL, *LO)
    asked.add(key)
    return sse(HEL[0], LONG)


ANSWERS: dict[str, Reply | Callable[[ReceivedRequest], Reply]] = {
    "whole": sse(*HEL, *LO),
    "silent-before-head": respond(head_pause=LONG),
    "silent-before-text": silent_once,
    "silent": sse(*HEL, LONG, *LO),
    "silent-unframed": sse(
        *HEL, LONG, *LO, framing="close"
    ),  # only the end of the connection ends the body
    "reset": sse(*HEL, done=False, ending="reset"),
    "reset-unframed": sse(*HEL, done=False, ending="reset", framing="close"),
    "end-unframed": sse(*HEL, done=False, framing="close"),
    "reset-before-head": reset(),
}


def ask(session: requests.Session, url: str) -> str:
    """Return the result of one answer."""
    began = time.monotonic()
    try:
        with stream_chat(
            session, url, model="m", messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            found = "".join(stream.iter_text())
        found += f", attempts {len(stream.completion.attempts)}"
    except StreamError as error:
        found = f"{type(error).__name__}, partial {error.partial.content!r}"
    except requests.HTTPError as error:
        found = f"HTTPError, {error}"
    except requests.RequestException as error:
        found = type(error).__name__
    return f"{found}, {time.monotonic() - began:.1f} s"


def show(name: str, url: str) -> list[str]:
    """Return a line for each answer by one way, and for connections that were idle."""
    lines: list[str] = []
    opened: list[ConnectionOpened] = []

    def watch(event: object) -> None:
        if isinstance(event, ConnectionOpened):
            opened.append(event)

    with requests.Session() as session:
        session.trust_env = False  # this machine's proxies have no part in it
        session.mount("http://", ResilientAdapter(observers=[watch]))
        for path in ANSWERS:
            found = ask(session, f"{url}/{path}")
            lines.append(f"{name:<8} {path:<19} {found}")
            assert found.startswith("Hello") == (path in {"whole", "silent-before-text"}), lines
        ask(session, f"{url}/whole")
        for pause in (0.0, 1.5):
            time.sleep(pause)
            before = len(opened)
            found = ask(session, f"{url}/whole")
            lines.append(
                f"{name:<8} idle for {pause:<10g} {found}, new connections: {len(opened) - before}"
            )
            assert found.startswith("Hello, attempts 1"), lines
    return lines


@contextmanager
def started(name: str, program: str, origin: FaultServer) -> Iterator[str]:
    """Run a proxy before the origin, and yield its URL."""
    settings, arguments = PROXIES[name]
    with tempfile.TemporaryDirectory() as here, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        conf = Path(here, "conf")
        conf.write_text(settings.format(here=here, port=port, origin=origin.port), encoding="utf-8")
        command = [program, *arguments.format(here=here, conf=conf).split()]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as child:
            try:
                wait_for(port)
                yield f"http://127.0.0.1:{port}"
            finally:
                child.terminate()


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    until = time.monotonic() + 5
    while True:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < until, "the proxy does not listen"
        time.sleep(0.02)


if __name__ == "__main__":
    where = f"{os.environ.get('PATH', '')}:/usr/sbin"
    found = {name: program for name in PROXIES if (program := shutil.which(name, path=where))}
    if not found:
        raise SystemExit(print("neither nginx nor HAProxy is installed: nothing to show"))
    with ExitStack() as stack:
        origin = stack.enter_context(FaultServer())
        for path, answer in ANSWERS.items():
            origin.route(f"/{path}", answer)
        urls = {
            name: stack.enter_context(started(name, program, origin))
            for name, program in found.items()
        }
        with ThreadPoolExecutor() as pool:
            for lines in pool.map(show, urls, urls.values()):
                print("\n".join(lines), flush=True)
        if "--stay" in sys.argv:
            print(*urls.values(), "until Ctrl-C", flush=True)
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
