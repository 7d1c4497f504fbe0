"""A strict reading of one HTTP/1.1 response by RFC 9112, from nothing but its bytes.

It is slow and shares no code with the package, so that it can be compared with the text of the RFC.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fuzzing import contents
from fuzzing.cases import without

if TYPE_CHECKING:
    from driven_network import Ending

    from fuzzing.cases import Case

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110 5.6.2
VALUE = rb"[\t\x20-\x7e\x80-\xff]*"  # RFC 9110 5.5: field-vchar, obs-text, SP and HTAB
QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'  # 5.6.4
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d) (%b)" % VALUE)  # RFC 9112 4
FIELD_LINE = re.compile(rb"(%b):(%b)" % (TOKEN, VALUE))  # RFC 9112 5
# RFC 9112 7.1.1: chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
EXTENSIONS = rb"(?:[\t ]*;[\t ]*%b(?:[\t ]*=[\t ]*(?:%b|%b))?)*" % (TOKEN, TOKEN, QUOTED)
SIZE_LINE = re.compile(rb"([0-9A-Fa-f]+)(%b)" % EXTENSIONS)
SLOPPY_SIZE_LINE = re.compile(rb"[\t ]*([0-9A-Fa-f]+)[\t ]*(?:;[^\n]*)?")
LENGTH = re.compile("[0-9]{1,18}", re.ASCII)
# http.client and others stop at these; no RFC sets a limit.
MOST_FIELDS, LONGEST_LINE = 99, 65_536
SPACED_CODING = "white space behind a content coding"
# http.client ends a head at an empty line.
INTERIM_HEAD = re.compile(
    rb"HTTP/1\.\S*[ \t]+(100|10[2-9]|1[1-9]\d)(?!\d)[^\n]*\n"
    rb"(?:\r*[^\r\n][^\n]*\n|\r{2,}\n)*?\r?\n"
)


class Kind(enum.Enum):
    """The verdict that a reader must reach about a response."""

    WHOLE = "whole"  # by the grammar: it must be read
    TOLERATED = (
        "tolerated"  # not by the grammar: to refuse it is right, and to read it as others do
    )
    REFUSED = "refused"  # cut, or framed wrongly: a reader that calls it whole is wrong


@dataclass
class Reading:
    """A response by the book.

    ``framed`` is the body without its framing, ``content`` the body without its coding. Both end
    before the fault if the response is refused. ``end`` is the place behind the message. ``why``
    names each deviation from the grammar.
    """

    kind: Kind = Kind.WHOLE
    status: int = 0
    version: int = 11
    fields: list[tuple[str, str]] = field(default_factory=list)
    framing: str = "none"  # or "bodiless", "chunked", "length", "close"
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


def read(case: Case, *, is_decoded: bool = True) -> Reading:
    """Read the bytes of a connection up to its end; ``is_decoded`` means without codings."""
    reader = _Reader(case, is_decoded=is_decoded)
    reading = reader.reading
    try:
        reader.read()
    except _Refused as refused:
        reading.kind = Kind.REFUSED
        reading.why.append(str(refused))
        reader.decode()
    except _Doubtful as doubtful:
        reading.kind = Kind.TOLERATED
        reading.why.append(str(doubtful))
    else:
        reading.is_read = True
        reading.kind = Kind.TOLERATED if reading.why else Kind.WHOLE
    return reading


def without_interim_heads(case: Case) -> Case:
    """Return a case without interim heads beyond 101, which http.client takes for final ones."""
    at = 0
    while (match := INTERIM_HEAD.match(case.data, at)) is not None:
        if int(match[1]) > 101:
            case = without(case, match.start(), match.end())
        else:
            at = match.end()
    return case


class _Reader:
    """Reads one case; the reading grows meanwhile."""

    def __init__(self, case: Case, *, is_decoded: bool) -> None:
        self.reading = Reading()
        self._data = case.data
        self._method = case.method
        self._ending: Ending = case.ending
        self._tls = case.tls
        self._is_decoded = is_decoded

    def read(self) -> None:
        reading = self.reading
        # RFC 9110 15.2: interim answers come before the final one; behind 101 is another protocol.
        while not (reading.status >= 200 or reading.status == 101):
            self._head()
        self._body()
        reading.is_framed = True
        state = self.decode()
        if state in {contents.State.UNKNOWN, contents.State.NO_IDEA}:
            reading.why.append("coding not judged")
        elif state is contents.State.BROKEN:
            raise _Refused("coding broken")
        elif state is contents.State.CUT:
            raise _Refused("coding cut")
        # If only the peer's FIN ends the body, nothing but the coding can vouch for its end.
        elif state is contents.State.FLUSHED and reading.framing == "close":
            raise _Refused("coding without its end")

    def decode(self) -> contents.State:
        """Undo the codings of the received bytes."""
        reading, codings = self.reading, list[str]()
        if self._is_decoded and reading.framing != "bodiless":
            codings = listed(reading.get("content-encoding"))
        decoded = contents.decode(reading.framed, codings)
        reading.content = decoded.content
        state = contents.State.NO_IDEA if SPACED_CODING in reading.why else decoded.state
        reading.is_content_known = state is not contents.State.NO_IDEA
        return state

    # -- the head (RFC 9112 2.2, 4, 5) ------------------------------------------------------------

    def _line(self, cut: str) -> bytes:
        """Take a line, and return it without its end."""
        reading = self.reading
        begin, end = reading.end, self._data.find(b"\n", reading.end)
        if end < 0:
            raise _Refused(cut)
        if end - begin >= LONGEST_LINE:
            raise _Doubtful("long line")
        reading.end = end + 1
        line = self._data[begin:end]
        if line.endswith(b"\r"):
            return line[:-1]
        reading.why.append("bare LF")  # 2.2: a recipient may take it for the end of a line
        return line

    def _head(self) -> None:
        reading = self.reading
        match = STATUS_LINE.fullmatch(self._line("head cut"))
        if match is None:
            raise _Doubtful("status line")
        reading.version, reading.status, reading.fields = 10 + int(match[1]), int(match[2]), []
        count = 0
        while line := self._line("head cut"):
            count += 1
            if count > MOST_FIELDS:
                raise _Doubtful("many fields")
            self._field(line)

    def _field(self, line: bytes) -> None:
        fields = self.reading.fields
        if line[:1] in {b" ", b"\t"}:
            # 5.2: obs-fold. A user agent replaces it with spaces, or refuses the message.
            if not fields or fields[-1][0].lower() in contents.FRAMING_FIELDS:
                raise _Doubtful("folded framing field")
            self.reading.why.append("folded field")
            return
        match = FIELD_LINE.fullmatch(line)
        if match is None:
            raise _Doubtful("field line")
        name, value = match[1].decode(), match[2].decode("latin-1")
        # 5: no part of the value. http.client leaves it there, and requests knows no "gzip ".
        if name.lower() == "content-encoding" and value.endswith((" ", "\t")):
            self.reading.why.append(SPACED_CODING)
        fields.append((name, value.strip(" \t")))

    # -- the body (RFC 9112 6.3, in its order) ----------------------------------------------------

    def _body(self) -> None:
        reading = self.reading
        codings, lengths = reading.get("transfer-encoding"), reading.get("content-length")
        if self._method == "HEAD" or reading.status in {101, 204, 304}:
            reading.framing = "bodiless"
            if not _is_length(lengths):
                reading.why.append("content length")  # urllib3 looks at it all the same
        elif codings:
            self._chunked_body(codings, lengths)
        elif lengths:
            self._measured_body(lengths)
        else:
            self._closed_body()

    def _chunked_body(self, codings: list[str], lengths: list[str]) -> None:
        reading = self.reading
        names = listed(codings)
        if names[-1:] != ["chunked"] or names.count("chunked") > 1:
            raise _Doubtful("transfer codings")
        if len(names) > 1:
            reading.why.append("transfer codings")  # clients hand out an unknown coding
        if reading.version == 10:
            reading.why.append("transfer coding in HTTP/1.0")  # 6.1: the framing is faulty
        if lengths:
            reading.why.append("chunks and a length")  # 6.3, 3: ought to be an error
        reading.framing = "chunked"
        while self._chunk():
            pass
        self._trailers()

    def _measured_body(self, lengths: list[str]) -> None:
        reading = self.reading
        if not _is_length(lengths):
            raise _Doubtful("content length")  # 6.3, 5: an error, or a list of equal numbers
        reading.framing = "length"
        self._take(int(lengths[0]), "length cut")

    def _closed_body(self) -> None:
        reading = self.reading
        reading.framing = "close"
        reading.framed, reading.end = self._data[reading.end :], len(self._data)
        if self._ending in {"open", "reset"}:
            raise _Refused("never ends" if self._ending == "open" else "reset")
        if self._tls and self._ending == "fin":
            reading.why.append("no close_notify")  # 9.8: may have been cut

    def _take(self, size: int, cut: str) -> None:
        reading = self.reading
        piece = self._data[reading.end : reading.end + size]
        reading.framed += piece
        reading.end += len(piece)
        if len(piece) < size:
            raise _Refused(cut)

    # -- chunks (RFC 9112 7.1) --------------------------------------------------------------------

    def _chunk(self) -> bool:
        """Take a chunk; return False for the last one."""
        reading, line = self.reading, self._line("chunks cut")
        match = SIZE_LINE.fullmatch(line)
        if match is None:
            # White space and odd extensions may be ignored (7.1.1); no size is none.
            match = SLOPPY_SIZE_LINE.fullmatch(line)
            if match is None:
                raise _Refused("chunk size")
            reading.why.append("sloppy size line")
        size = int(match[1], 16)
        if not size:
            return False
        self._take(size, "chunk cut")
        if not b"\r\n".startswith(self._data[reading.end : reading.end + 2]):
            raise _Refused("no CRLF behind a chunk")
        reading.end += 2
        return True

    def _trailers(self) -> None:
        while b"\n" in self._data[self.reading.end :]:
            line = self._line("")
            if not line:
                return
            if FIELD_LINE.fullmatch(line) is None:
                self.reading.why.append("trailer line")
        self.reading.end = len(self._data)
        # Python 3.10 to 3.12.1 report a reset over TLS as an end.
        if self._ending == "open" or (self._ending == "reset" and not self._tls):
            raise _Refused("chunks cut")
        self.reading.why.append("no last line end")


def listed(values: list[str]) -> list[str]:
    """Return the members of a list that several fields may hold (RFC 9110 5.6.1), in lower case."""
    names = [name.strip(" \t").lower() for name in ",".join(values).split(",")]
    return [name for name in names if name]


def _is_length(lengths: list[str]) -> bool:
    return not lengths or (len(lengths) == 1 and LENGTH.fullmatch(lengths[0]) is not None)
