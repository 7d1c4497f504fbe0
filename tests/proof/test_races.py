"""Something happens at any line of a call: an exception, a cancel, a rotation, a fork."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from driven_network import both_networks
from races.campaign import prepared
from races.cases import Entry, corpus, known_faults
from races.injections import EVENTS, EXCEPTIONS, Foreign
from races.scenarios import SCENARIOS, Scenario
from races.tracing import Tracer
from races.trial import Trial, Violation, lines_of

import resilient_requests
from resilient_requests import ResilientAdapter

SECONDS = os.environ.get("RACES_SECONDS", "3")
LINES = os.environ.get("RACES_LINES", "3")  # of each entry of the corpus; nox tries all
SEED = os.environ.get("RACES_SEED", "0")
HERE = Path(__file__).resolve().parent
untraced = pytest.mark.skipif(
    sys.gettrace() is not None, reason="coverage traces already: run this without --cov"
)
GET = Scenario("GET", "none", "content", is_reused=False, tls=False)


def races(*arguments: str) -> dict[str, Any]:
    """Run the scheduler in a process of its own, since it traces; return its output."""
    paths = [Path(resilient_requests.__file__).parents[1], HERE, HERE.parent / "support"]
    done = subprocess.run(
        [sys.executable, "-m", "races.campaign", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        timeout=110 + float(SECONDS),
        check=False,
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_corpus_fails_nowhere_but_where_the_list_has_it() -> None:
    """Each entry once was a call that failed, was repeated, or swallowed a foreign exception."""
    found = races("--corpus", "--lines", LINES)

    assert found["failing"].keys() <= set(found["listed"]), "\n".join(found["failing"].values())


@pytest.mark.slow
def test_nothing_that_happens_at_any_line_does_harm() -> None:
    """The first of each kind are printed."""
    found = races("--seconds", SECONDS, "--seed", SEED, "--jobs", "1")

    texts = [text for kind in found["violations"].values() for text in kind]
    assert not texts, "\n\n".join(texts)
    assert found["counts"]["trials"] >= 10


def test_corpus_has_unique_names_and_known_faults_are_in_it() -> None:
    """A name that is twice, or of no entry, would let a fault pass."""
    names = [each.name for each in corpus()]

    assert sorted(set(names)) == sorted(names)
    assert set(names) >= known_faults()
    assert all(Entry.loads(each.dumps()) == each for each in corpus())
    assert {each.happening for each in corpus()} <= {*EXCEPTIONS, *EVENTS}


def test_most_of_the_corpus_meets_its_function() -> None:
    """A call that passes no line of it would prove nothing."""
    with both_networks() as networks:
        passed = {scenario: lines_of(scenario, networks) for scenario in SCENARIOS}
    met = [each for each in corpus() if any(map(each.is_at, passed[each.scenario]))]

    assert len(met) > 0.8 * len(corpus())


@untraced
@pytest.mark.parametrize(
    ("is_repeated", "rule"),
    [(False, "an exception is swallowed"), (True, "the request is repeated")],
)
def test_scheduler_sees_an_adapter_that_swallows(
    monkeypatch: pytest.MonkeyPatch, is_repeated: bool, rule: str
) -> None:
    """A scheduler that never complains proves nothing."""
    send = ResilientAdapter.send

    def swallowing(self: Any, request: Any, **options: Any) -> Any:
        try:
            response = send(self, request, **options)
            last_line(response)
        except Foreign:
            if is_repeated:
                return send(self, request, **options)
        return response

    def last_line(response: object) -> None:
        """Stand for a line of ours after which the response is there."""

    monkeypatch.setattr(ResilientAdapter, "send", swallowing)
    monkeypatch.setattr(
        last_line, "__code__", last_line.__code__.replace(co_filename=resilient_requests.__file__)
    )
    with prepared([GET]) as networks:
        places = lines_of(GET, networks)
        number = next(n[0] for place, n in places.items() if place.function == "last_line")

        with pytest.raises(Violation, match=rule):
            Trial(GET, "an exception", number).check(networks)


@untraced
def test_tracer_raises_at_the_line_of_a_number() -> None:
    """The act comes before that line of the frame, and only once."""
    error = Foreign()

    def act() -> None:
        raise error

    tracer = Tracer({2: act})
    with pytest.raises(Foreign) as caught:
        tracer.run(lambda: resilient_requests.Timeouts(connect=3))

    assert caught.value is error
    assert [place.file.split("/")[0] for place in tracer.places] == ["resilient_requests"]
    assert sys.gettrace() is None or "Tracer" not in repr(sys.gettrace())
