"""An origin that obeys the header ``X-Lab`` of each request, and logs each request and each act.

`lab.network` runs it with the standard library alone: ``origin.py PLAIN_FD TLS_FD PEM LOG``.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from typing import Any, BinaryIO

PATIENCE = 60.0
"""Seconds that any wait for a peer may last."""
CONTENT = "forty-two"


class Origin:
    """Serves both listeners until killed; each connection has a thread of its own."""

    def __init__(self, context: ssl.SSLContext, log: int) -> None:
        self._context = context
        self._log = log

    def serve(self, listener: socket.socket, *, tls: bool) -> None:
        """Accept for ever."""
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=self._converse, args=(sock, tls), daemon=True).start()

    def _converse(self, sock: socket.socket, tls: bool) -> None:
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError, ValueError), sock:
            wire = self._context.wrap_socket(sock, server_side=True) if tls else sock
            with wire, wire.makefile("rb") as incoming:
                while self._exchange(wire, incoming):
                    pass

    def _exchange(self, wire: socket.socket, incoming: BinaryIO) -> bool:
        """Serve one request; False when the connection is to end."""
        first = incoming.readline(8192).split()
        if not first:
            return False
        headers = {}
        while line := incoming.readline(65536).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        orders: dict[str, Any] = json.loads(headers.get("x-lab", "{}"))
        request_id = headers.get("x-request-id", "-")
        self._note("seen", request_id)
        time.sleep(orders.get("busy", 0.0))
        body = _read(incoming, int(headers.get("content-length", 0)))
        self._note("executed", request_id)
        time.sleep(orders.get("think", 0.0))
        if b'"stream":true' in body[:4096].replace(b" ", b""):
            return _stream(wire, orders)
        _answer(wire, first[0].decode() == "GET")
        if "close_after" in orders:
            time.sleep(orders["close_after"])
            return False
        return True

    def _note(self, what: str, request_id: str) -> None:
        if request_id == "-":
            return  # only asked whether anybody is there
        os.write(self._log, f"{what} {request_id}\n".encode())  # one write, appended whole


def _read(incoming: BinaryIO, length: int) -> bytes:
    body = incoming.read(length)
    if len(body) < length:
        raise ConnectionError("the request was cut")
    return body


def _answer(wire: socket.socket, is_list: bool) -> None:
    message = {"role": "assistant", "content": CONTENT}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer: dict[str, Any] = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
    }
    if is_list:
        answer = {
            "object": "list",
            "data": [{"id": CONTENT, "object": "model", "created": 0, "owned_by": "lab"}],
        }
    body = json.dumps(answer).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    wire.sendall(head.encode() + body)


def _stream(wire: socket.socket, orders: dict[str, Any]) -> bool:
    """Send ``events`` events, one per ``every`` seconds, as chat chunks."""
    is_chunked: bool = orders.get("framing", "chunked") == "chunked"
    framing = "Transfer-Encoding: chunked" if is_chunked else "Connection: close"
    wire.sendall(
        f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n\r\n".encode()
    )
    for number in range(orders.get("events", 10)):
        choice = {"index": 0, "delta": {"content": f"{number} "}, "finish_reason": None}
        event = {
            "id": "1",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "m",
            "choices": [choice],
        }
        wire.sendall(_framed(f"data: {json.dumps(event)}\n\n".encode(), is_chunked))
        time.sleep(orders.get("every", 0.1))
    wire.sendall(_framed(b"data: [DONE]\n\n", is_chunked) + (b"0\r\n\r\n" if is_chunked else b""))
    return is_chunked


def _framed(data: bytes, is_chunked: bool) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if is_chunked else data


def main() -> None:
    """Serve on the two listeners whose descriptors were handed over."""
    plain, tls, pem, log = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    origin = Origin(context, os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    listener = socket.socket(fileno=int(plain))
    threading.Thread(
        target=origin.serve, args=(listener,), kwargs={"tls": False}, daemon=True
    ).start()
    origin.serve(socket.socket(fileno=int(tls)), tls=True)


if __name__ == "__main__":
    main()
