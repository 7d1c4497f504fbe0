"""A strict reading of one HTTP/1.1 response by RFC 9112, and of nothing but its bytes.

It is slow and shares no code with the package, so that it can be compared with the text of the RFC.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fuzzing import contents

if TYPE_CHECKING:
    from driven_network import Ending

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110 5.6.2
VALUE = rb"[\t\x20-\x7e\x80-\xff]*"  # RFC 9110 5.5: field-vchar, obs-text, SP and HTAB
QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'  # 5.6.4
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d) (%b)" % VALUE)  # RFC 9112 4
FIELD_LINE = re.compile(rb"(%b):(%b)" % (TOKEN, VALUE))  # RFC 9112 5
# RFC 9112 7.1.1: chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
EXTENSIONS = rb"(?:[\t ]*;[\t ]*%b(?:[\t ]*=[\t ]*(?:%b|%b))?)*" % (TOKEN, TOKEN, QUOTED)
SIZE_LINE = re.compile(rb"([0-9A-Fa-f]+)(%b)" % EXTENSIONS)
# http.client and others stop at these; no RFC sets a limit.
MOST_FIELDS, LONGEST_LINE = 99, 65_536


class Kind(enum.Enum):
    """What a reader has to make of a response."""

    WHOLE = "whole"  # by the grammar: it must be read
    TOLERATED = "tolerated"  # not by the grammar: an error is right, and so is what others read
    REFUSED = "refused"  # cut, or framed wrongly: to call it whole is a fault, whoever does


@dataclass
class Reading:
    """A response by the book.

    ``framed`` is the body without its framing, ``content`` that without its coding; of a refused
    response both are what came before the fault. ``end`` is the place behind the message. ``why``
    names what is not as the grammar has it.
    """

    kind: Kind = Kind.WHOLE
    status: int = 0
    version: int = 11
    fields: list[tuple[str, str]] = field(default_factory=list)
    framing: str = "none"
    framed: bytes = b""
    content: bytes = b""
    end: int = 0
    is_framed: bool = False  # the end of the message is known
    is_read: bool = False  # to its end: a doubtful framing is not
    is_content_known: bool = True
    why: list[str] = field(default_factory=list)

    def get(self, name: str) -> list[str]:
        """Return the values of all fields of that name."""
        return [value for key, value in self.fields if key.lower() == name]


class _Refused(Exception):
    pass


class _Doubtful(Exception):
    pass


def read(
    data: bytes, method: str, ending: Ending, *, tls: bool, is_decoded: bool = True
) -> Reading:
    """Read the bytes that a server has sent until the connection ended so.

    ``is_decoded``: the content codings are undone.
    """
    reading = Reading()
    try:
        _read(reading, data, method, ending, tls=tls)
        _judge(reading, _decode(reading, is_decoded=is_decoded))
    except _Refused as refused:
        reading.kind = Kind.REFUSED
        reading.why.append(str(refused))
        _decode(reading, is_decoded=is_decoded)
    except _Doubtful as doubtful:
        reading.kind = Kind.TOLERATED
        reading.why.append(str(doubtful))
    else:
        reading.is_read = True
        if reading.why:
            reading.kind = Kind.TOLERATED
    return reading


def _read(reading: Reading, data: bytes, method: str, ending: Ending, *, tls: bool) -> None:
    at = 0
    while not (reading.status >= 200 or reading.status == 101):  # RFC 9110 15.2: interim answers
        at = _head(reading, data, at)
    reading.end = at
    _body(reading, data, method, ending, tls=tls)
    reading.is_framed = True


def without_interim_heads(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return an answer without interim heads beyond 100, which http.client takes for final ones."""
    data = b"".join(pieces)
    heads = re.compile(rb"HTTP/1\.[01][ \t]+1(?:0[2-9]|[2-9]\d|1\d)[^\d](?:[^\n]*\n)*?\r?\n")
    size = 0
    while (match := heads.match(data, size)) is not None:
        size = match.end()
    kept = []
    for piece in pieces:
        kept.append(piece[size:])
        size = max(size - len(piece), 0)
    return tuple(filter(None, kept))


def _decode(reading: Reading, *, is_decoded: bool) -> contents.State:
    codings: list[str] = []
    if is_decoded and reading.framing != "bodiless":
        codings = contents.codings_of(",".join(reading.get("content-encoding")))
    decoded = contents.decode(reading.framed, codings)
    reading.content = decoded.content
    reading.is_content_known = decoded.state is not contents.State.NO_IDEA
    return decoded.state


def _judge(reading: Reading, state: contents.State) -> None:
    if state in (contents.State.UNKNOWN, contents.State.NO_IDEA):
        reading.why.append("coding not judged")
    elif state is contents.State.BROKEN:
        raise _Refused("coding broken")
    elif state is contents.State.CUT:
        raise _Refused("coding cut")
    # Where the peer's leaving alone ends the body, only the coding can vouch for it.
    elif state is contents.State.FLUSHED and reading.framing == "close":
        raise _Refused("coding without its end")


def _head(reading: Reading, data: bytes, at: int) -> int:
    """Read one head; return the place behind it."""
    line, at = _line(reading, data, at, "head cut")
    match = STATUS_LINE.fullmatch(line)
    if match is None:
        raise _Doubtful("status line")
    reading.version, reading.status = 10 + int(match[1]), int(match[2])
    reading.fields = []
    count = 0
    while True:
        line, at = _line(reading, data, at, "head cut")
        if not line:
            return at
        count += 1
        if count > MOST_FIELDS:
            raise _Doubtful("many fields")
        _field(reading, line)


def _field(reading: Reading, line: bytes) -> None:
    if line[:1] in (b" ", b"\t"):
        # RFC 9112 5.2: obs-fold. A user agent replaces it with spaces, or refuses the message.
        if not reading.fields or reading.fields[-1][0].lower() in contents.FRAMING_FIELDS:
            raise _Doubtful("folded framing field")
        reading.why.append("folded field")
        return
    match = FIELD_LINE.fullmatch(line)
    if match is None:
        raise _Doubtful("field line")
    reading.fields.append((match[1].decode(), match[2].decode("latin-1").strip(" \t")))


def _line(reading: Reading, data: bytes, at: int, cut: str) -> tuple[bytes, int]:
    """Return a line without its end, and the place behind it."""
    end = data.find(b"\n", at)
    if end < 0:
        raise _Refused(cut)
    if end - at >= LONGEST_LINE:
        raise _Doubtful("long line")
    line = data[at:end]
    if line.endswith(b"\r"):
        return line[:-1], end + 1
    # RFC 9112 2.2: a recipient may take a bare LF for the end of a line.
    reading.why.append("bare LF")
    return line, end + 1


def _body(reading: Reading, data: bytes, method: str, ending: Ending, *, tls: bool) -> None:
    """RFC 9112 6.3, in its order."""
    codings, lengths = reading.get("transfer-encoding"), reading.get("content-length")
    if method == "HEAD" or reading.status in {101, 204, 304}:
        reading.framing = "bodiless"
    elif codings:
        names = [name.strip(" \t").lower() for name in ",".join(codings).split(",")]
        if names[-1] != "chunked" or names.count("chunked") > 1:
            raise _Doubtful("transfer codings")
        if len(names) > 1:
            reading.why.append("transfer codings")  # clients hand out what they cannot undo
        if reading.version == 10:
            reading.why.append("transfer coding in HTTP/1.0")  # 6.1: the framing is faulty
        if lengths:
            reading.why.append("chunks and a length")  # 6.3, 3: ought to be an error
        reading.framing = "chunked"
        _chunks(reading, data)
        if reading.why[-1:] == ["no last line end"] and ending in {"open", "reset"}:
            raise _Refused("chunks cut")
    elif lengths:
        if len(lengths) > 1 or re.fullmatch("[0-9]{1,18}", lengths[0], re.ASCII) is None:
            raise _Doubtful("content length")  # 6.3, 5: an error, or a list of equal numbers
        reading.framing = "length"
        reading.framed = data[reading.end :][: int(lengths[0])]
        reading.end += len(reading.framed)
        if len(reading.framed) < int(lengths[0]):
            raise _Refused("length cut")
    else:
        reading.framing = "close"
        reading.framed, reading.end = data[reading.end :], len(data)
        if ending in {"open", "reset"}:
            raise _Refused("never ends" if ending == "open" else "reset")
        if tls and ending == "fin":
            reading.why.append("no close_notify")  # 9.8: may have been cut


def _chunks(reading: Reading, data: bytes) -> None:
    """RFC 9112 7.1."""
    while True:
        line, reading.end = _line(reading, data, reading.end, "chunks cut")
        size = SIZE_LINE.fullmatch(line)
        if size is None:
            _sloppy_size(reading, line)
            size = re.match(rb"[\t ]*([0-9A-Fa-f]+)", line)
            assert size is not None
        left = int(size[1], 16)
        if not left:
            break
        piece = data[reading.end : reading.end + left]
        reading.framed += piece
        reading.end += len(piece)
        if len(piece) < left:
            raise _Refused("chunk cut")
        if not b"\r\n".startswith(data[reading.end : reading.end + 2]):
            raise _Refused("no CRLF behind a chunk")
        reading.end += 2
    _trailers(reading, data)


def _sloppy_size(reading: Reading, line: bytes) -> None:
    """Tell white space and odd extensions from what is no size; RFC 9112 7.1.1: ignore extensions."""
    if re.fullmatch(rb"[\t ]*[0-9A-Fa-f]+[\t ]*(?:;[^\n]*)?", line) is None:
        raise _Refused("chunk size")
    reading.why.append("sloppy size line")


def _trailers(reading: Reading, data: bytes) -> None:
    while True:
        if data.find(b"\n", reading.end) < 0:
            reading.end = len(data)
            reading.why.append("no last line end")
            return
        line, reading.end = _line(reading, data, reading.end, "")
        if not line:
            return
        if FIELD_LINE.fullmatch(line) is None:
            reading.why.append("trailer line")
