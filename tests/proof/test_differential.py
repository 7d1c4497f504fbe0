"""Responses that are cut anywhere: ours beside plain requests, http.client and RFC 9112."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from fuzzing import campaign, oracle, readers
from fuzzing.campaign import judging
from fuzzing.cases import Case, Entry, corpus, known_faults
from fuzzing.grammar import Maker
from fuzzing.judge import Violation
from fuzzing.oracle import Kind
from fuzzing.readers import WAYS
from fuzzing.shrinking import shrink
from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from driven_network import Ending

SECONDS = float(os.environ.get("FUZZ_SECONDS", "3"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
MOST = 3000  # cases in each part, however fast the machine is
KNOWN = known_faults()
FAILS = pytest.mark.xfail(raises=Violation, strict=True, reason="stands in known_faults.txt")
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH_2 = HEAD + b"Content-Length: 2\r\n\r\n"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(each, id=each.name, marks=[FAILS] if each.name in KNOWN else [])
        for each in corpus()
    ],
)
def test_corpus_is_read_rightly(entry: Entry) -> None:
    """Each case was once read wrongly, or almost; one that stands in the list must still be."""
    with judging() as judge:
        judge.check(entry.case)


def test_corpus_has_unique_names_and_known_faults_are_in_it() -> None:
    """A name that is twice, or of no entry, would let a fault pass."""
    names = [each.name for each in corpus()]

    assert sorted(set(names)) == sorted(names)
    assert set(names) >= KNOWN


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 1])
def test_random_responses_are_read_rightly(part: int) -> None:
    """The shortest one found of each kind is printed; it belongs into the corpus then."""
    counts, violations = campaign.run((SEED, part), SECONDS, MOST, shrinking=5.0)

    assert not violations, "\n\n".join(map(str, violations))
    assert counts["cases"] >= 10
    assert counts["answered"] > counts["cases"] // 5


@pytest.mark.slow
def test_judge_finds_the_faults_of_another_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that never complains proves nothing: it would call plain requests right."""
    monkeypatch.setattr(readers, "_adapter", HTTPAdapter)
    # http.client reads 8 KiB at a time; the rest of the record stays where no poll sees it.
    behind = Case(((LENGTH_2 + b"ok").ljust(8192) + POISON,), tls=True)
    head_cut = Case((HEAD,), ending="fin")
    with judging() as judge:
        kinds = [str(judge.violation(each)).partition(":")[0] for each in (behind, head_cut)]

    assert kinds == ["the next answer is not its own", "a broken response is accepted"]


@pytest.mark.parametrize(
    ("data", "ending", "kind", "content"),
    [
        (LENGTH_2 + b"ok", "open", Kind.WHOLE, b"ok"),
        (LENGTH_2 + b"okay", "open", Kind.WHOLE, b"ok"),
        (LENGTH_2 + b"o", "fin", Kind.REFUSED, b"o"),
        (HEAD + b"\r\nok", "fin", Kind.WHOLE, b"ok"),
        (HEAD + b"\r\nok", "reset", Kind.REFUSED, b"ok"),
        (HEAD + b"\r\nok", "open", Kind.REFUSED, b"ok"),
        (HEAD, "fin", Kind.REFUSED, b""),
        (b"HTTP/1.1 204 \r\n\r\nok", "open", Kind.WHOLE, b""),
        (b"HTTP/1.1 103 \r\n\r\n" + LENGTH_2 + b"ok", "open", Kind.WHOLE, b"ok"),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "open", Kind.TOLERATED, b""),
        (HEAD + b"Content-Length: 2\n\nok", "open", Kind.TOLERATED, b"ok"),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", "open", Kind.TOLERATED, b""),
        (HEAD + b"Content-Length: +2\r\n\r\nok", "open", Kind.TOLERATED, b""),
        (HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nok", "open", Kind.TOLERATED, b"ok"),
        (HEAD + b"X : a\r\nContent-Length: 2\r\n\r\nok", "open", Kind.TOLERATED, b""),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n", "open", Kind.WHOLE, b"ok"),
        (CHUNKED + b'2;a="b\\"c"\r\nok\r\n00\r\nT: 1\r\n\r\n', "open", Kind.WHOLE, b"ok"),
        (CHUNKED + b"2\r\nok\n0\r\n\r\n", "open", Kind.REFUSED, b"ok"),
        (CHUNKED + b"3\r\nok\r\n0\r\n\r\n", "open", Kind.REFUSED, b"ok\r"),
        (CHUNKED + b"1\r\nok\r\n0\r\n\r\n", "open", Kind.REFUSED, b"o"),
        (CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n", "open", Kind.REFUSED, b""),
        (CHUNKED + b"2\r\nok\r\n", "fin", Kind.REFUSED, b"ok"),
        (CHUNKED + b"2\r\nok\r\n0\r\n", "fin", Kind.TOLERATED, b"ok"),
        (CHUNKED + b"2\r\nok\r\n0\r\n", "open", Kind.REFUSED, b"ok"),
        (CHUNKED + b"2\nok\r\n0\r\n\r\n", "open", Kind.TOLERATED, b"ok"),
    ],
)
def test_oracle_reads_as_the_rfc_has_it(
    data: bytes, ending: Ending, kind: Kind, content: bytes
) -> None:
    """Only this test judges the oracle itself.

    The rules are in RFC 9112, sections 2.2, 4, 5, 6.3, 7.1 and 9.8.
    """
    reading = oracle.read(Case((data,), ending=ending))

    assert (reading.kind, reading.content) == (kind, content)


def test_a_seed_makes_the_same_cases() -> None:
    """A failure of last night must be there in the morning."""
    first, second, other = (Maker(seed) for seed in (7, 7, 8))
    cases = [first.case() for _ in range(50)]

    assert cases == [second.case() for _ in range(50)]
    assert cases != [other.case() for _ in range(50)]
    assert {case.way for case in (first.case() for _ in range(500))} == set(WAYS)


def test_a_case_survives_the_corpus() -> None:
    """Bytes of any value, pieces and all options."""
    case = Case((b"\xff\0", b"x"), "iter_lines", "HEAD", "notify", tls=True, is_halved=True)
    entry = Entry("a name", case)

    assert Entry.loads(entry.dumps()) == entry


def test_a_case_shrinks_to_what_matters() -> None:
    """One byte, in one piece, read in the simplest way."""
    case = Case((b"many\r\nlines\r\n", b"a\0b"), "iter_lines", "POST", "reset", tls=True)

    shrunk = shrink(case, lambda each: b"\0" in each.data and each.tls, 10.0)

    assert shrunk == Case((b"\0",), tls=True)


def test_pieces_come_one_by_one() -> None:
    """A reader that waits gets the next piece, and no more than that."""
    case = Case((LENGTH_2[:5], LENGTH_2[5:] + b"o", b"k"), "iter_content(None)")
    for each in (case, replace(case, tls=True), replace(case, tls=True, is_halved=True)):
        with judging() as judge:
            run = readers.run(judge.network(each), each)

        assert run.outcome.pieces == [b"o", b"k"]
        assert (run.requests, run.connections, run.following.content) == (2, 1, b"/second")
