"""What the server does with one request, as frozen data: the steps and the constructors of common replies."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, TypeAlias, get_args

from resilient_requests.testing._arguments import collection, instance, pairs, wait
from resilient_requests.testing._options import Ending, Framing, Headers, Reading, Wait, check

Fields: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Send:
    """Send ``data`` and ``body`` as they are, in one write; an answer to HEAD omits ``body``."""

    data: bytes = b""
    body: bytes = b""

    def __post_init__(self) -> None:
        instance("data", self.data, bytes)
        instance("body", self.body, bytes)


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds, or until the event is set; the connection ends when the peer leaves meanwhile."""

    until: Wait

    def __post_init__(self) -> None:
        check(until=self.until)


@dataclass(frozen=True)
class ReadRest:
    """Read what is still unread of the request."""


@dataclass(frozen=True)
class Silence:
    """Hold the connection, neither read, answer nor close, until the peer goes or the server closes."""


@dataclass(frozen=True)
class BlackHole:
    """Read and discard all that comes, answer nothing, until the peer goes or the server closes."""


@dataclass(frozen=True)
class Reset:
    """End the connection with a RST, after all that was sent has left this side."""


@dataclass(frozen=True)
class Fin:
    """End the connection with a FIN; on TLS with a close_notify before it only if `notify`."""

    notify: bool = False

    def __post_init__(self) -> None:
        check(notify=self.notify)


@dataclass(frozen=True)
class FinThenReset:
    """Send a FIN, and a RST once the peer has had it."""


Step: TypeAlias = Send | Pause | ReadRest | Silence | BlackHole | Reset | Fin | FinThenReset

_ENDINGS: Mapping[Ending, Step] = {
    "reset": Reset(),
    "fin": Fin(),
    "silence": Silence(),
    "fin_then_reset": FinThenReset(),
}


@dataclass(frozen=True)
class Reply:
    """How the server treats one request.

    It reads "all" of it, only the "head", or so many bytes of the body; with ``slow_read`` so many bytes
    at a time, then a pause of so many seconds. Then it takes the steps in order. With ``applies`` the
    request counts as applied when the steps begin, provided that it was read whole. After the last step
    the rest of the request is read, and the connection serves the next.
    """

    steps: tuple[Step, ...] = ()
    read: Reading = "all"
    applies: bool = True
    slow_read: tuple[int, float] | None = None

    def __post_init__(self) -> None:
        instance("steps", self.steps, tuple)
        for step in self.steps:
            instance("steps (an item)", step, *get_args(Step))
        check(read=self.read, applies=self.applies, slow_read=self.slow_read)


def respond(
    body: bytes | str = b"",
    *,
    status: int = 200,
    reason: str | None = None,
    headers: Headers = (),
    framing: Framing = "length",
    chunks: Sequence[int] | Sequence[bytes] | None = None,
    gzip: bool = False,
    keep_alive: str | None = None,
    interim: Sequence[int] = (),
    head_pause: Wait | None = None,
    cut: int | tuple[Literal["head"], int] | None = None,
    ending: Ending | None = None,
    drip: float | None = None,
    read: Reading = "all",
    applies: bool = True,
    slow_read: tuple[int, float] | None = None,
) -> Reply:
    """An HTTP response.

    ``chunks`` are the sizes of the pieces in which the body is sent (the last is repeated), or the pieces
    themselves, sent before ``body``. ``interim`` are 1xx statuses sent first, ``head_pause`` is waited
    for between them and the head. ``keep_alive`` is the value of a header ``Keep-Alive``. ``cut`` is the
    number of bytes of the framed body, or with ("head", n) of the head, after which ``ending`` ("reset"
    if not said) happens; an ``ending`` without a cut follows the whole response. ``drip`` sends single
    bytes so many seconds apart.
    """
    check(body=body, status=status, reason=reason, framing=framing, chunks=chunks, gzip=gzip)
    check(
        keep_alive=keep_alive,
        interim=interim,
        head_pause=head_pause,
        cut=cut,
        ending=ending,
        drip=drip,
    )
    headers = pairs("headers", headers)
    pieces = _split(body.encode() if isinstance(body, str) else body, chunks)
    if gzip:
        pieces = _gzipped(pieces, whole=True)
    if status in {204, 304}:
        head, framed = _head(status, reason, headers, keep_alive, gzip=gzip), []
    else:
        length = sum(map(len, pieces))
        head = _head(status, reason, headers, keep_alive, framing=framing, length=length, gzip=gzip)
        framed = _framed(pieces, framing)
    sends = [Send(head, b"".join(framed[:1])), *(Send(body=piece) for piece in framed[1:])]
    if cut is not None:
        sends = _cut(sends, cut[1] if isinstance(cut, tuple) else len(head) + cut)
        ending = ending or "reset"
    last = _last_step(ending, framing, headers)
    steps = (*_opening(interim, head_pause), *(_dripped(sends, drip) if drip else sends), *last)
    return Reply(steps, read=read, applies=applies, slow_read=slow_read)


def stream(
    items: Iterable[bytes | Wait],
    *,
    framing: Framing = "chunked",
    content_type: str = "text/event-stream",
    gzip: bool = False,
    ending: Ending | None = None,
    status: int = 200,
    headers: Headers = (),
    keep_alive: str | None = None,
    interim: Sequence[int] = (),
    head_pause: Wait | None = None,
    read: Reading = "all",
    applies: bool = True,
) -> Reply:
    """A response sent item by item: bytes as they are, a float is a pause in seconds, an event is awaited.

    ``ending`` takes the place of the proper end (last chunk, gzip trailer, close); a Content-Length then
    announces one byte more than comes. With ``gzip`` every item is flushed, so that it can be decoded
    when it arrives.
    """
    check(framing=framing, content_type=content_type, gzip=gzip, ending=ending, status=status)
    check(keep_alive=keep_alive, interim=interim, head_pause=head_pause)
    headers = pairs("headers", headers)
    given = collection("items", items)
    for item in given:
        wait("items (an item)", item, bytes)
    items = [item for item in given if item != b""]  # an empty chunk would be the last
    pieces = [item for item in items if isinstance(item, bytes)]
    if gzip:
        pieces = _gzipped(pieces, whole=ending is None)
    length = sum(map(len, pieces)) + (ending is not None)
    fields = (("Content-Type", content_type), *headers)
    head = _head(status, None, fields, keep_alive, framing=framing, length=length, gzip=gzip)
    framed = iter(_framed(pieces, framing))
    body: list[Step] = [
        Send(body=next(framed)) if isinstance(item, bytes) else Pause(item) for item in items
    ]
    if ending is None:
        body += [Send(body=rest) for rest in framed]
    steps = (
        *_opening(interim, head_pause),
        Send(head),
        *body,
        *_last_step(ending, framing, headers),
    )
    return Reply(steps, read=read, applies=applies)


def sse(
    *datas: str | Mapping[str, Any] | bytes | Wait,
    done: bool = True,
    ending: Ending | None = None,
    framing: Framing = "chunked",
    gzip: bool = False,
    headers: Headers = (),
    keep_alive: str | None = None,
    head_pause: Wait | None = None,
    read: Reading = "all",
    applies: bool = True,
) -> Reply:
    """Server-sent events: text and dicts (as JSON) become ``data:`` events, other items are as in stream().

    ``[DONE]`` is the last event unless ``done`` is false.
    """
    check(done=done)
    for data in datas:
        wait("datas (an item)", data, str, Mapping, bytes)
    items = [_event(data) for data in (*datas, "[DONE]")[: None if done else -1]]
    return stream(
        items,
        framing=framing,
        gzip=gzip,
        ending=ending,
        headers=headers,
        keep_alive=keep_alive,
        head_pause=head_pause,
        read=read,
        applies=applies,
    )


def reset(*, after: Wait = 0.0, read: Reading = "all", applies: bool = True) -> Reply:
    """No answer, but a RST, ``after`` so many seconds or the event."""
    return _unanswered(Reset(), after, read, applies)


def fin(*, after: Wait = 0.0, read: Reading = "all", applies: bool = True) -> Reply:
    """No answer, but a FIN, ``after`` so many seconds or the event."""
    return _unanswered(Fin(), after, read, applies)


def fin_then_reset(*, after: Wait = 0.0, read: Reading = "all", applies: bool = True) -> Reply:
    """No answer, but a FIN and then a RST, ``after`` so many seconds or the event."""
    return _unanswered(FinThenReset(), after, read, applies)


def silence(*, read: Reading = "all", applies: bool = True) -> Reply:
    """No answer and no end, until the peer goes."""
    return _unanswered(Silence(), 0.0, read, applies)


def _unanswered(step: Step, after: Wait, read: Reading, applies: bool) -> Reply:
    check(after=after)
    return Reply((Pause(after), step) if after else (step,), read=read, applies=applies)


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"


def _head(
    status: int,
    reason: str | None,
    headers: Fields,
    keep_alive: str | None,
    *,
    framing: Framing | None = None,
    length: int = 0,
    gzip: bool,
) -> bytes:
    fields = list(headers)
    fields += [("Content-Length", str(length))] if framing == "length" else []
    fields += [("Transfer-Encoding", "chunked")] if framing == "chunked" else []
    fields += [("Connection", "close")] if framing == "close" and not _says_close(headers) else []
    fields += [("Content-Encoding", "gzip")] if gzip else []
    fields += [("Keep-Alive", keep_alive)] if keep_alive is not None else []
    lines = [f"HTTP/1.1 {status} {_phrase(status) if reason is None else reason}"]
    lines += [f"{name}: {value}" for name, value in fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _says_close(headers: Fields) -> bool:
    return any(name.lower() == "connection" and value.lower() == "close" for name, value in headers)


def _opening(interim: Sequence[int], head_pause: Wait | None) -> Iterator[Step]:
    for status in interim:
        yield Send(f"HTTP/1.1 {status} {_phrase(status)}\r\n\r\n".encode())
    if head_pause is not None:
        yield Pause(head_pause)


def _last_step(ending: Ending | None, framing: Framing, headers: Fields) -> tuple[Step, ...]:
    if ending is not None:
        return (_ENDINGS[ending],)
    return (Fin(notify=True),) if framing == "close" or _says_close(headers) else ()


def _split(body: bytes, chunks: Sequence[int] | Sequence[bytes] | None) -> list[bytes]:
    pieces = [chunk for chunk in chunks or () if isinstance(chunk, bytes)]
    sizes = [chunk for chunk in chunks or () if isinstance(chunk, int)] or [len(body) or 1]
    while body:
        pieces.append(body[: sizes[0]])
        body = body[sizes[0] :]
        sizes = sizes[1:] or sizes
    return pieces


def _gzipped(pieces: Iterable[bytes], *, whole: bool) -> list[bytes]:
    gzip = zlib.compressobj(wbits=31)
    packed = [gzip.compress(piece) + gzip.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [*packed, gzip.flush()] if whole else packed


def _framed(pieces: Iterable[bytes], framing: Framing) -> list[bytes]:
    if framing != "chunked":
        return list(pieces)
    return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece] + [b"0\r\n\r\n"]


def _cut(sends: Iterable[Send], size: int) -> list[Send]:
    kept = []
    for send in sends:
        kept.append(Send(send.data[:size], send.body[: max(0, size - len(send.data))]))
        size = max(0, size - len(send.data) - len(send.body))
    return [send for send in kept if send != Send()]


def _dripped(sends: Iterable[Send], seconds: float) -> Iterator[Step]:
    for send in sends:
        for byte in send.data:
            yield from (Pause(seconds), Send(bytes([byte])))
        for byte in send.body:
            yield from (Pause(seconds), Send(body=bytes([byte])))


def _event(
    data: str | Mapping[str, Any] | bytes | Wait,
) -> bytes | Wait:
    if isinstance(data, Mapping):
        data = json.dumps(data)
    if isinstance(data, str):
        return "".join(f"data: {line}\n" for line in data.split("\n")).encode() + b"\n"
    return data
