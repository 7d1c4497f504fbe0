"""The rules that must hold for every case, for any bytes of the server."""

from __future__ import annotations

import gc
import signal
import traceback
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fuzzing import contents, oracle, readers
from fuzzing.oracle import Kind
from fuzzing.readers import WAYS
from resilient_requests import StreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from driven_network import Network

    from fuzzing.cases import Case
    from fuzzing.oracle import Reading
    from fuzzing.readers import Outcome, Run

PATIENCE = 30.0  # seconds for one case on a busy machine
PLAIN_EVERY = 8  # plain requests also reads one in so many of the other cases


class Violation(AssertionError):
    """A rule does not hold for a case. ``kind`` is, about, the same for all cases of one fault."""

    def __init__(self, rule: str, case: Case, reading: Reading, facts: str) -> None:
        super().__init__(rule, case, reading, facts)
        self.rule, self.case, self.reading, self.facts = rule, case, reading, facts

    @property
    def kind(self) -> str:
        """The rule, and the special features of the response."""
        reading = self.reading
        if not reading.is_read:
            return f"{self.rule}: {reading.why[-1]}"
        is_coded = ", coded" if reading.get("content-encoding") and reading.framed else ""
        is_behind = ", bytes behind it" if reading.end < len(self.case.data) else ""
        return f"{self.rule}: {reading.framing}{is_coded}{is_behind}"

    def is_like(self, other: Violation) -> bool:
        """Return whether both may be of one fault: of the same rule, or for the same reason."""
        mine, others = self.reading, other.reading
        if self.rule == other.rule:
            is_of_coding = any(mine.get("content-encoding")) == any(others.get("content-encoding"))
            return is_of_coding or self.rule != "a whole response is refused"
        return not (mine.is_read or others.is_read) and mine.why[-1] == others.why[-1]

    def __str__(self) -> str:
        return f"{self.kind}\n{self.case}\n{self.facts}"


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Raise TooLong in the middle of a longer block; nothing waits here, so that is a hang."""

    def stop(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class TooLong(BaseException):
    """A call hangs. No Exception: nobody may handle it."""


class Judge:
    """Runs cases on a network, plain and TLS, and counts the results."""

    def __init__(self, networks: Mapping[bool, Network]) -> None:
        self._networks = networks
        self.counts: Counter[str] = Counter()

    def network(self, case: Case) -> Network:
        """Return the network on which a case runs."""
        return self._networks[case.tls]

    def check(self, case: Case) -> None:
        """Run a case; raise Violation where a rule does not hold."""
        trial = _Trial(case, self.network(case), self.counts)
        with _bounded(PATIENCE):
            trial.check()

    def violation(self, case: Case) -> Violation | None:
        """Run a case; return the violation."""
        try:
            self.check(case)
        except Violation as violation:
            return violation
        return None


class _Trial:
    """One case, as it is judged."""

    def __init__(self, case: Case, network: Network, counts: Counter[str]) -> None:
        self._case = case
        self._network = network
        self._counts = counts
        self._way = WAYS[case.way]
        self._reading = oracle.read(case, is_decoded=self._way.is_decoded)
        self._plain: dict[str, Run] = {}

    def check(self) -> None:
        counts = self._counts
        counts["cases"] += 1
        counts["cases over TLS"] += self._case.tls
        counts[f"read {self._reading.kind.value}"] += 1
        try:
            run = readers.run(self._network, self._case)
        except TooLong as hang:
            text = "".join(traceback.format_tb(hang.__traceback__)[-3:])
            raise Violation("hang", self._case, self._reading, text) from None
        self._judge_session(run)
        outcome = run.outcome
        counts["answered" if outcome.error is None else "refused"] += 1
        counts["connections reused"] += run.connections == 1
        self._judge_errors(outcome)
        is_urllib3s = self._way.is_raw and self._is_urllib3s(outcome)
        if not is_urllib3s:
            self._judge_answer(outcome)
        self._judge_reuse(run, is_urllib3s=is_urllib3s)
        if len(self._case.pieces) > 1:
            self._judge_cuts(outcome)
        if counts["cases"] % PLAIN_EVERY == 0:
            self._count_plain()

    def _require(self, holds: object, rule: str, *facts: object) -> None:
        if not holds:
            raise Violation(rule, self._case, self._reading, "\n".join(map(repr, facts)))

    # -- the session afterwards --------------------------------------------------------------------

    def _judge_session(self, run: Run) -> None:
        following = run.following
        is_own = following.error is None and following.content == b"/second"
        self._require(is_own, "the next answer is not its own", run.outcome, following)
        self._require(run.requests == 2, "requests are repeated", run.requests)
        self._require(run.in_flight == 0, "a call stays in flight", run.outcome)
        if run.left_open:
            gc.collect()
            self._counts["connections that the collector closes"] += run.left_open
            is_closed = self._network.left_open(1.0) == 0
            self._require(is_closed, "a connection stays open", run.outcome)

    def _is_urllib3s(self, outcome: Outcome) -> bool:
        """Return whether urllib3 reads the same: raw is its object, for better or worse.

        Or http.client, which reads for urllib3 where that overlooks that a body is chunked.
        """
        if self._is_same(outcome, self._plain_run().outcome):
            return True
        usual = self._plain_run(self._usual_way()).outcome
        if outcome.error is None and self._is_same(outcome, usual):
            return True
        for method in ("read", "read1"):
            theirs = readers.by_http_client(self._case, method)
            is_ended_alike = (outcome.error is None) == (theirs.error is None)
            if is_ended_alike and self._is_content_of(theirs, outcome):
                return True
        return False

    def _judge_reuse(self, run: Run, *, is_urllib3s: bool) -> None:
        """A connection is used again where its bytes ended with a message, and nowhere else."""
        reading, is_reused = self._reading, run.connections == 1
        is_behind = reading.is_framed and reading.end < len(self._case.data)
        is_surplus = is_behind and not (is_urllib3s and self._is_trailer_of_urllib3s())
        self._require(not (is_surplus and is_reused), "reused with bytes behind it", run.outcome)
        is_inside = reading.kind is Kind.REFUSED and not reading.is_framed and not is_urllib3s
        self._require(not (is_inside and is_reused), "reused in the middle", run.outcome)
        # RFC 9110 15.2.2: another protocol follows. RFC 9112 6.1: the framing is faulty.
        is_odd = reading.status == 101 or (reading.version, reading.framing) == (10, "chunked")
        self._require(not (is_odd and is_reused), "reused where it must be closed", run.outcome)
        is_healthy = (
            reading.kind is Kind.WHOLE
            and reading.version == 11
            and reading.framing != "close"
            and not is_behind
            and not is_odd
            and self._case.ending == "open"
            and not reading.get("keep-alive")
            and "close" not in ",".join(reading.get("connection")).lower()
        )
        if is_healthy and run.outcome.error is None:
            self._require(is_reused, "a healthy connection is not reused", run.outcome)

    def _is_trailer_of_urllib3s(self) -> bool:
        """Return whether urllib3 takes all that follows for trailers.

        It reads lines up to one of CRLF alone, where others take a bare LF for the end.
        """
        reading = self._reading
        _, end, behind = (b"\n" + self._case.data[reading.end :]).partition(b"\n\r\n")
        return reading.framing == "chunked" and bool(end) and not behind

    def _judge_answer(self, outcome: Outcome) -> None:
        if outcome.error is None:
            self._judge_content(outcome)
            self._judge_fields(outcome)
        else:
            self._judge_refusal(outcome)

    # -- the content of a reader -------------------------------------------------------------------

    def _judge_errors(self, outcome: Outcome) -> None:
        error = outcome.error
        kinds = readers.RAW_ERRORS if self._way.is_raw else readers.ERRORS
        is_known = error is None or issubclass(error, kinds)
        if not is_known and self._way.is_raw:
            is_known = self._plain_run().outcome.error is error
        self._require(is_known, "undocumented error", outcome)
        if error is not None and outcome.status is not None and not self._way.is_raw:
            self._require(outcome.again, "an error does not come again", outcome)

    def _judge_content(self, outcome: Outcome) -> None:
        reading = self._reading
        if reading.kind is Kind.WHOLE:
            self._require(outcome.status == reading.status, "wrong status", outcome)
            self._require(
                self._is(outcome, reading.content), "wrong body", outcome, reading.content
            )
        elif reading.kind is Kind.REFUSED:
            self._require(False, "a broken response is accepted", outcome)
        elif reading.is_read:
            is_right = self._is(outcome, reading.content) or not reading.is_content_known
            self._require(is_right, "wrong body", outcome, reading.content)
            self._require(self._is_accepted(), "accepted by nobody else", outcome)
        else:
            others = [self._plain_run(), self._plain_run(self._usual_way())]
            is_common = self._is_as_http_client(outcome) or any(
                self._is_as_plain(outcome, other.outcome) for other in others
            )
            self._require(is_common, "read as nobody else does", outcome, others)

    def _judge_refusal(self, outcome: Outcome) -> None:
        reading = self._reading
        starts_as_page = reading.content.lstrip()[:1] in (b"{", b"[", b"<")
        if outcome.error is StreamProtocolError and starts_as_page:
            return  # iter_events() says so where a page or a document is labelled as events
        if reading.kind is Kind.WHOLE:
            is_others_fault = self._way.is_raw and self._plain_run().outcome.error
            self._require(is_others_fault, "a whole response is refused", outcome)
        if reading.kind is Kind.TOLERATED or not reading.is_content_known:
            return
        expected: Any = reading.content
        if self._way.expect is not None:
            expected = self._way.expect(expected)[: len(outcome.pieces)]
            is_prefix = outcome.pieces == expected
        else:
            is_prefix = expected.startswith(outcome.content)
        self._require(is_prefix, "more is read than came", outcome, expected)

    def _judge_cuts(self, outcome: Outcome) -> None:
        case = self._case.in_one_piece()
        whole = readers.run(self._network, case).outcome
        is_refused = outcome.error is not None and whole.error is not None
        is_same = is_refused or self._is_same(outcome, whole)
        if self._way.is_raw and not is_same:
            # urllib3's read1() gives some bytes twice behind a gzip member that came whole.
            is_same = self._is_same(whole, readers.run(self._network, case, plain=True).outcome)
        self._require(is_same, "the cuts decide", outcome, whole)

    def _judge_fields(self, outcome: Outcome) -> None:
        theirs = readers.by_http_client(self._case)
        if theirs.status is not None:
            is_same = _sorted(outcome.fields) == _sorted(theirs.fields)
            self._require(is_same, "other fields", outcome.fields, theirs.fields)

    # -- the content of other readers --------------------------------------------------------------

    def _is(self, outcome: Outcome, body: bytes) -> bool:
        expect = self._way.expect
        return bool(self._joined(outcome) == (body if expect is None else expect(body)))

    def _joined(self, outcome: Outcome) -> Any:
        return outcome.content if self._way.expect is None else outcome.pieces

    def _is_accepted(self) -> bool:
        """Return whether http.client or plain requests calls this response whole."""
        return (
            readers.by_http_client(self._case).error is None
            or self._plain_run().outcome.error is None
            or self._plain_run(self._usual_way()).outcome.error is None
        )

    def _usual_way(self) -> str:
        """Return the way in which plain requests finds all chunks; others leave framing in."""
        return "content" if self._way.is_decoded else "raw.stream(coded)"

    def _is_as_http_client(self, outcome: Outcome) -> bool:
        theirs = readers.by_http_client(self._case)
        return theirs.error is None and self._is_content_of(theirs, outcome)

    def _is_content_of(self, theirs: Outcome, outcome: Outcome) -> bool:
        """Return whether an outcome is what http.client has read, without its coding."""
        if theirs.status != outcome.status:
            return False
        body = theirs.content
        if self._way.is_decoded:
            values = [value for name, value in theirs.fields if name.lower() == "content-encoding"]
            body = contents.decode(body, oracle.listed(values)).content
        return self._is(outcome, body)

    def _is_as_plain(self, outcome: Outcome, theirs: Outcome) -> bool:
        if theirs.error is not None or theirs.status != outcome.status:
            return False
        is_bytes = all(isinstance(piece, bytes) for piece in theirs.pieces)
        if self._way.expect is not None and is_bytes and outcome.pieces != theirs.pieces:
            return self._is(outcome, theirs.content)
        return bool(self._joined(outcome) == self._joined(theirs))

    def _is_same(self, outcome: Outcome, other: Outcome) -> bool:
        return (
            (outcome.error is None) == (other.error is None)
            and outcome.status == other.status
            and self._joined(outcome) == self._joined(other)
        )

    def _plain_run(self, way: str | None = None) -> Run:
        """Return the result of plain requests for this case, read the same way or another."""
        way = way or self._case.way
        way = WAYS[way].plain or way
        if way not in self._plain:
            case = replace(oracle.without_interim_heads(self._case), way=way)
            self._plain[way] = readers.run(self._network, case, plain=True)
        return self._plain[way]

    def _count_plain(self) -> None:
        """Count the result of plain requests for the same bytes."""
        run, reading, counts = self._plain_run(), self._reading, self._counts
        outcome, following = run.outcome, run.following
        counts["plain: cases"] += 1
        counts["plain: next answer not its own"] += following.content != b"/second"
        if outcome.error is None and reading.kind is Kind.REFUSED:
            counts["plain: broken response accepted"] += 1
        if outcome.error is not None and reading.kind is Kind.WHOLE:
            counts["plain: whole response refused"] += 1


def _sorted(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    # urllib3 takes the line ends out of folded values, http.client leaves them in.
    return sorted((name.lower(), " ".join(value.split())) for name, value in fields)
