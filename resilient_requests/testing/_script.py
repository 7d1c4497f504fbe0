"""Constructors of common replies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from resilient_requests.testing._arguments import (
    check,
    check_choice,
    check_text,
    check_wait,
    collected,
    fields,
)
from resilient_requests.testing._response import (
    Ending,
    Framing,
    Headers,
    Response,
    dripped,
    first_bytes,
    split,
)
from resilient_requests.testing._steps import (
    Fin,
    FinThenReset,
    Pause,
    Reading,
    Reply,
    Reset,
    Send,
    Silence,
    Step,
    Wait,
)


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
    """Return an HTTP response.

    ``chunks`` are the sizes of the pieces in which the body is sent, with the last size repeated,
    or the pieces themselves, sent before ``body``. ``interim`` are 1xx statuses to send first;
    ``head_pause`` lies between them and the head. ``keep_alive`` is the value of a ``Keep-Alive``
    header. ``cut`` is a number of bytes of the framed body, or with ("head", n) of the head;
    ``ending`` happens after them ("reset" if None). An ``ending`` without a cut follows the whole
    response. ``drip`` sends single bytes so many seconds apart. ``read``, ``applies`` and
    ``slow_read`` are those of `Reply`. Raises TypeError or ValueError naming the parameter.
    """
    response = Response(
        status=status,
        reason=reason,
        headers=fields("headers", headers),
        framing=framing,
        gzip=gzip,
        keep_alive=keep_alive,
        interim=collected("interim", interim),
        head_pause=head_pause,
        ending=ending,
    )
    sends = response.sends(_pieces(body, chunks))
    if cut is not None:
        sends = _cut_off(cut, sends)
    middle = sends if drip is None else dripped(sends, drip)
    steps = (*response.opening(), *middle, *response.closing(is_cut=cut is not None))
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
    """Return a response that is sent item by item.

    Bytes are sent as they are, a float is a pause in seconds, an event is awaited. ``ending``
    replaces the proper end (last chunk, gzip trailer, close); a Content-Length then announces one
    byte more than the body has. With ``gzip`` every item is flushed, so that it can be decoded when
    it arrives. The other options and the errors are those of `respond`.
    """
    check_text("content_type", content_type)
    response = Response(
        status=status,
        headers=(("Content-Type", content_type), *fields("headers", headers)),
        framing=framing,
        gzip=gzip,
        keep_alive=keep_alive,
        interim=collected("interim", interim),
        head_pause=head_pause,
        ending=ending,
    )
    steps = (*response.opening(), *_streamed(response, items), *response.closing())
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
    """Return a stream of server-sent events.

    Text, and dicts as JSON, become ``data:`` events; other items, options and errors are those of
    `stream`. ``[DONE]`` is the last event unless ``done`` is false.
    """
    check("done", done, bool)
    for data in datas:
        check_wait("datas (an item)", data, str, Mapping, bytes)
    return stream(
        [_event(data) for data in (*datas, *(["[DONE]"] if done else []))],
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
    """Return a RST instead of an answer, after so many seconds or the event."""
    return _unanswered(Reset(), after, read, applies)


def fin(*, after: Wait = 0.0, read: Reading = "all", applies: bool = True) -> Reply:
    """Return a FIN instead of an answer, after so many seconds or the event."""
    return _unanswered(Fin(), after, read, applies)


def fin_then_reset(*, after: Wait = 0.0, read: Reading = "all", applies: bool = True) -> Reply:
    """Return a FIN and then a RST instead of an answer, after so many seconds or the event."""
    return _unanswered(FinThenReset(), after, read, applies)


def silence(*, read: Reading = "all", applies: bool = True) -> Reply:
    """Return no answer and no end, until the peer leaves."""
    return Reply((Silence(),), read=read, applies=applies)


def _unanswered(step: Step, after: Wait, read: Reading, applies: bool) -> Reply:
    check_wait("after", after)
    return Reply((Pause(after), step) if after else (step,), read=read, applies=applies)


def _pieces(body: bytes | str, chunks: Any) -> list[bytes]:
    check("body", body, bytes, str)
    sizes = () if chunks is None else collected("chunks", chunks)
    for each in sizes:
        check("chunks (an item)", each, int, bytes, least=1)
    return split(body.encode() if isinstance(body, str) else body, sizes)


def _cut_off(cut: Any, sends: list[Send]) -> list[Send]:
    in_head = isinstance(cut, tuple) and len(cut) == 2
    if in_head:
        check_choice("cut (its place)", cut[0], ("head",))
    size = cut[1] if in_head else cut
    check("cut", size, int, least=0)
    return first_bytes(sends, size if in_head else size + len(sends[0].data))


def _streamed(response: Response, given: Iterable[bytes | Wait]) -> Iterator[Step]:
    """Yield the head, a step for each item, and the proper end unless there is an ``ending``."""
    items = [item for item in collected("items", given) if item != b""]
    for item in items:
        check_wait("items (an item)", item, bytes)
    is_whole = response.ending is None
    pieces = response.encode((one for one in items if isinstance(one, bytes)), is_whole=is_whole)
    yield Send(response.head(sum(map(len, pieces)) + (not is_whole)))
    framed = iter(response.frame(pieces))
    for item in items:
        yield Send(body=next(framed)) if isinstance(item, bytes) else Pause(item)
    if is_whole:
        yield from (Send(body=rest) for rest in framed)


def _event(data: str | Mapping[str, Any] | bytes | Wait) -> bytes | Wait:
    if isinstance(data, Mapping):
        data = json.dumps(data)
    if isinstance(data, str):
        return "".join(f"data: {line}\n" for line in data.split("\n")).encode() + b"\n"
    return data
