"""Random responses: most are right but for one thing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from fuzzing import contents
from fuzzing.cases import Case
from fuzzing.readers import WAYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driven_network import Ending

STATUS_LINES = (
    *[b"HTTP/1.1 200 OK\r\n"] * 12,
    *[b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 304 Not Modified\r\n"] * 2,
    *[b"HTTP/1.0 200 OK\r\n"] * 2,
    b"HTTP/1.1 206 Partial\r\n",
    b"HTTP/1.1 301 Moved\r\n",
    b"HTTP/1.1 404 \r\n",
    b"HTTP/1.1 500 N\xf6\r\n",
    b"HTTP/1.1 205 Reset Content\r\n",
)
ODD_STATUS_LINES = (
    b"HTTP/1.1 200\r\n",
    b"HTTP/1.1  200 OK\r\n",
    b"HTTP/1.1 200 OK\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"HTTP/1.1 199 Odd\r\n",
    b"HTTP/1.1 20 OK\r\n",
    b"HTTP/1.1 2000 OK\r\n",
    b"HTTP/1.1 099 OK\r\n",
    b"HTTP/1.1 +20 OK\r\n",
    b"HTTP/1.2 200 OK\r\n",
    b"HTTP/2 200\r\n",
    b"HTTP/0.9 200 OK\r\n",
    b"http/1.1 200 OK\r\n",
    b"ICY 200 OK\r\n",
    b"\r\nHTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\r\n",
    b"HTTP/1.1\t200\tOK\r\n",
)
INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.0 100 Continue\r\n\r\n",
    b"HTTP/1.1 100 Continue\n\n",
    b"HTTP/1.1 199 Odd\r\n\r\n",
)
FIELDS = (
    b"Content-Type: text/plain\r\n",
    b"Content-Type: text/event-stream\r\n",
    b"Date: Mon, 01 Jan 2024 00:00:00 GMT\r\n",
    b"X-A: 1\r\nX-A: 2\r\n",
    b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: close\r\n",
    b"Connection: Close\r\n",
    b"Connection: x, close\r\n",
    b"Connection: closed\r\n",
    b"Keep-Alive: timeout=5, max=100\r\n",
    b"X-Empty:\r\n",
    b"X-Space: \t a b \t\r\n",
    b"X-Latin: \xe9\xff\r\n",
    b"Trailer: X-T\r\n",
    b"Upgrade: h2c\r\n",
)
ODD_FIELDS = (
    b"X-Folded: a\r\n b\r\n",
    b"X-Folded: a\r\n\tb\r\n \r\n",
    b" folded: first\r\n",
    b"Content-Length: 1\r\n 0\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n",
    b"Connection:\r\n close\r\n",
    b"X-Bare: 1\n",
    b"X-Bare: 1\n\n",
    b"X-CR: a\rb\r\n",
    b"X-CR: a\r\r\n",
    b"X-Nul: a\0b\r\n",
    b"no colon\r\n",
    b": no name\r\n",
    b"X Y: space\r\n",
    b"X-A : space\r\n",
    b"Content-Length : 3\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"X-U\xc3\xa9: name\r\n",
    b"X-Line: a\x0bb\x0cc\x1cd\x85e\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"From x\r\n",
)
ODD_FRAMINGS = (
    b"Content-Length: %d\r\nContent-Length: %d\r\n",
    b"Content-Length: %d\r\nContent-Length: 1\r\n",
    b"Content-Length: 1\r\nContent-Length: %d\r\n",
    b"Content-Length: %d, %d\r\n",
    b"Content-Length: %d, 1\r\n",
    b"Content-Length: +%d\r\n",
    b"Content-Length: -%d\r\n",
    b"Content-Length: 0%d\r\n",
    b"Content-Length: 0x%d\r\n",
    b"Content-Length: %d_0\r\n",
    b"Content-Length: %d.0\r\n",
    b"Content-Length: %d \r\n",
    b"Content-Length:%d\r\n",
    b"Content-Length: \r\n",
    b"content-length: %d\r\n",
    b"Content-Length: 99999999999999999999%d\r\n",
    b"Content-Length: %d;a\r\n",
    b"Content-Length: \xb2\r\n",
)
CHUNKED_FIELDS = (
    *[b"Transfer-Encoding: chunked\r\n"] * 12,
    b"transfer-encoding: Chunked\r\n",
    b"Transfer-Encoding:chunked\r\n",
    b"Transfer-Encoding: chunked \r\n",
    b"Transfer-Encoding: \tchunked\r\n",
)
ODD_CHUNKED_FIELDS = (
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: chunked, gzip\r\n",
    b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: identity, chunked\r\n",
    b"Transfer-Encoding: chunked;q=1\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: \x0bchunked\r\n",
    b"Transfer-Encoding: ,chunked,\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: \r\n",
)
EXTENSIONS = (*[b""] * 8, b";a", b";a=b", b' ; a = "b;\\"c"', b";a;b=c", b"\t;x=1")
ODD_EXTENSIONS = (b" ", b";", b";=", b"; a=\xff\x00", b' ;a="b', b"\t", b";a\rb", b"; " + b"e" * 70)
TRAILERS = (*[b""] * 8, b"X-T: 1\r\n", b"A: b\r\nC: d\r\n")
ODD_TRAILERS = (
    b"X-T: 1\n",
    b"no colon\r\n",
    b"A: b\r\n c\r\n",
    b"Content-Length: 3\r\n",
    b"\0\r\n",
)
BEHIND = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
    b"\r\n",
    b"\n",
    b"x",
    b"\0",
    b"0\r\n\r\n",
    b"hello",
    b"HTTP/1.1 200 OK\r\n",
)
NOISE = (
    b"", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"0", b"1", b"5", b"a", b"f", b"g", b";", b":", b" ",
    b"\t", b"-", b"+", b"_", b",", b"\0", b"\xff", b"chunked", b"close", b"gzip", b"HTTP/1.1",
)  # fmt: skip
EVENTS = (
    b"data:", b"data: ", b"event: x", b"id: 7", b"retry: 10", b":", b" ", b"\n", b"\r", b"\r\n",
    b"\n\n", b"\xef\xbb\xbf", b"\0", b"\xff", b"x", b"\xe2\x80\xa8", b"data: x\n\n",
    b"data: y\r\n\r\n",
)  # fmt: skip
CODINGS = (
    *[()] * 10,
    *[("gzip",)] * 5,
    *[("deflate",)] * 2,
    ("raw deflate",),
    ("br",),
    ("zstd",),
    ("x-gzip",),
    ("gzip", "gzip"),
    ("deflate", "gzip"),
    ("unknown",),
    ("identity",),
)


class Maker:
    """Makes cases from one source of chance: the same seed makes the same cases."""

    def __init__(self, seed: object) -> None:
        self._chance = random.Random(repr(seed))

    def case(self) -> Case:
        """Return the next case."""
        chance = self._chance
        method = chance.choices(("GET", "HEAD", "POST"), (8, 1, 1))[0]
        data, is_close = self._response(method)
        if chance.random() < 0.15:
            data = self._mutated(data)
        if chance.random() < 0.1:
            data = data[: chance.randrange(len(data) + 1)]
        ending: Ending = chance.choices(("open", "fin", "notify", "reset"), (8, 2, 2, 1))[0]
        if is_close and chance.random() < 0.8:
            ending = chance.choice(("fin", "notify"))
        tls = chance.random() < 0.12
        return Case(
            pieces=tuple(self._cut(data)),
            way=chance.choice(tuple(WAYS)),
            method=method,
            ending=ending,
            tls=tls,
            is_halved=tls and chance.random() < 0.3,
        )

    def _is(self, probability: float) -> bool:
        return self._chance.random() < probability

    def _one(self, normal: Sequence[bytes], odd: Sequence[bytes], probability: float) -> bytes:
        return self._chance.choice(odd if self._is(probability) else normal)

    # -- the bytes ---------------------------------------------------------------------------------

    def _response(self, method: str) -> tuple[bytes, bool]:
        """Return a response, and whether it lasts until the connection ends."""
        chance = self._chance
        interim = chance.choices(INTERIM, k=chance.choice((1, 1, 2))) if self._is(0.15) else []
        start = self._one(STATUS_LINES, ODD_STATUS_LINES, 0.04)
        body, coding_fields = self._coded(self._content())
        framing = chance.choices(("length", "chunked", "close", "none"), (5, 5, 2, 1))[0]
        framed, framing_fields = self._framed(framing, body)
        is_bodiless = method == "HEAD" or start[9:12] in {b"204", b"304"} or framing == "none"
        if is_bodiless and not self._is(0.1):
            framed = b""
        fields = [self._one(FIELDS, ODD_FIELDS, 0.05) for _ in range(chance.randrange(4))]
        fields += [*coding_fields, framing_fields]
        chance.shuffle(fields)
        head = b"".join([*interim, start, *fields, *self._excess(), b"\r\n"])
        data = head + framed
        return data + self._behind(len(data)), framing == "close"

    def _behind(self, size: int) -> bytes:
        """Return bytes that nobody asked for, behind a response of so many bytes."""
        chance = self._chance
        if not self._is(0.15):
            return b""
        if self._is(0.1):
            # The answer lies behind one full read of the reader. TLS may hold it where no poll sees
            # it.
            return b"\0" * max(chance.choice((8192, 16_384)) - size, 0) + BEHIND[0]
        return chance.choice(BEHIND)

    def _excess(self) -> list[bytes]:
        """Return, now and then, header fields near the limits of http.client."""
        chance = self._chance
        if self._is(0.01):
            return [b"F: %d\r\n" % number for number in range(chance.randrange(92, 104))]
        if self._is(0.003):
            return [b"Long: %b\r\n" % (b"l" * chance.randrange(65_520, 65_536))]
        return []

    def _content(self) -> bytes:
        chance = self._chance
        size = chance.choices((0, 1, 5, 30, 300, 5000, 70_000), (2, 2, 8, 8, 4, 1, 0.3))[0]
        kind = chance.choice(("lines", "events", "bytes"))
        if kind == "lines":
            line = b"%d line" % chance.randrange(100) + chance.choice((b"\n", b"\r\n", b"\r"))
            return (line * (size // 5 + 1))[:size]
        if kind == "events":
            return b"".join(chance.choices(EVENTS, k=size // 3))[:size] + b"\n\n" * (size > 2)
        return chance.randbytes(size)

    def _coded(self, content: bytes) -> tuple[bytes, list[bytes]]:
        """Return a content in some codings, rarely a broken one, and the field that names them."""
        chance = self._chance
        codings = chance.choice(CODINGS)
        body = content
        for coding in codings:
            body = contents.encode(body, coding, is_flushed=self._is(0.2))
        if codings and self._is(0.25):
            body = self._spoilt(body)
        names = b", ".join(coding.split()[-1].encode() for coding in codings)
        if len(codings) > 1 and self._is(0.3):
            return body, [b"Content-Encoding: %b\r\n" % each for each in names.split(b", ")]
        return body, [b"Content-Encoding: %b\r\n" % names] if codings else []

    def _spoilt(self, body: bytes) -> bytes:
        chance = self._chance
        size = chance.choice((1, 2, 4, 7, 8, 9, chance.randrange(1, 60)))
        match chance.randrange(5):
            case 0:
                return body + chance.choice(
                    (b"\0", b"\r\n", b"\x1f", b"\x1f\x8b\x08\0", b"garbage")
                )
            case 1:
                return body[:-size]
            case 2:
                at = chance.randrange(len(body) + 1)
                return body[:at] + chance.randbytes(1) + body[at + 1 :]
            case 3:
                return body + contents.encode(b"second", "gzip", is_flushed=False)
            case _:
                return body[: chance.randrange(len(body) + 1)]

    def _framed(self, framing: str, body: bytes) -> tuple[bytes, bytes]:
        """Return a body in a framing, and the field that announces it."""
        if framing == "chunked":
            fields = self._one(CHUNKED_FIELDS, ODD_CHUNKED_FIELDS, 0.1)
            return self._chunked(body), fields
        if framing == "length":
            length = len(body)
            if self._is(0.05):
                length = max(0, length + self._chance.choice((-1, 1, 2)))
            if self._is(0.08):
                odd = self._chance.choice(ODD_FRAMINGS)
                return body, odd.replace(b"%d", str(length).encode())
            return body, b"Content-Length: %d\r\n" % length
        return body, b"Content-Length: 0\r\n" if framing == "none" else b""

    def _chunked(self, body: bytes) -> bytes:
        chance = self._chance
        framed, at = b"", 0
        while at < len(body):
            piece = body[at : at + chance.choice((1, 2, 5, 16, 100, 4000, 70_000))]
            at += len(piece)
            framed += self._size_line(len(piece)) + piece
            framed += self._one((b"\r\n",), (b"\n", b"\r", b"", b"\r\n\r\n", b"x\r\n"), 0.02)
        if self._is(0.04):
            return framed
        last = self._one((b"0", b"0", b"000"), (b"", b"-0", b"0x0", b"00000000000000000000"), 0.02)
        end = self._one((b"\r\n",), (b"", b"\n", b"\r"), 0.04)
        trailers = self._one(TRAILERS, ODD_TRAILERS, 0.05)
        return framed + last + chance.choice(EXTENSIONS) + b"\r\n" + trailers + end

    def _size_line(self, size: int) -> bytes:
        chance = self._chance
        if self._is(0.02):
            size = max(0, size + chance.choice((-1, 1)))
        number = f"{size:{chance.choice(('x', 'X', 'x', '04x', '020x'))}}"
        if self._is(0.01):
            number = chance.choice(
                ("0x{}", "+{}", "-{}", "_{}", "{}_", " {}", "\x0b{}", "{}g")
            ).format(number)
        extension = self._one(EXTENSIONS, ODD_EXTENSIONS, 0.02)
        return number.encode() + extension + self._one((b"\r\n",), (b"\n", b"\r\r\n"), 0.02)

    def _mutated(self, data: bytes) -> bytes:
        """Return the bytes with a few changes: replaced, removed, put in, doubled."""
        chance = self._chance
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 3))):
            at = chance.randrange(len(changed) + 1)
            if self._is(0.6):  # near a line end, where it matters
                at = max(changed.find(b"\n", at), 0) + chance.choice((-2, -1, 0, 1))
                at = max(at, 0)
            size = chance.choice((0, 1, 1, 2, 5))
            new = chance.choice(NOISE) if self._is(0.8) else bytes(changed[at : at + size]) * 2
            changed[at : at + size] = new
        return bytes(changed)

    # -- the pieces --------------------------------------------------------------------------------

    def _cut(self, data: bytes) -> list[bytes]:
        chance = self._chance
        how = chance.choices(("whole", "places", "lines", "bytes"), (3, 5, 2, 1))[0]
        places: set[int] = set()
        if how == "bytes" and len(data) <= 400:
            places = set(range(len(data)))
        elif how == "lines":
            ends = [at + 1 for at in range(len(data)) if data[at] == 10][:40]
            places = {at + chance.choice((-1, 0, 0, 1)) for at in ends if self._is(0.5)}
        elif how != "whole":
            places = {chance.randrange(len(data) + 1) for _ in range(chance.randrange(1, 7))}
            blank = data.find(b"\r\n\r\n") + 4
            places |= {blank + chance.choice((-1, 0, 1))} if self._is(0.4) else set()
        inner = sorted(place for place in places if 0 < place < len(data))
        return [data[a:b] for a, b in zip([0, *inner], [*inner, len(data)], strict=True) if a < b]
