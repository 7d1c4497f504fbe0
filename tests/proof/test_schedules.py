"""Faults in any order.

Sockets are compared with a model of the whole, and the pure rules with models of their own.
"""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import pytest
import schedules
from schedules import Advance, Ask, Fan, Handshakes, Idle, Rotate, Schedule, Violation, Window

from resilient_requests import KeepAlivePolicy, RetryBudget, RetryPolicy
from resilient_requests.call import Attempt, CancelToken, Instant, Limits
from resilient_requests.retry._budget import TokenBucket
from resilient_requests.retry._decision import Facts, decide
from resilient_requests.retry._failures import is_stale
from resilient_requests.retry._rules import Failure, rule_of
from resilient_requests.transport._keepalive import AdaptiveWindow, window_of

COUNT = int(os.environ.get("SCHEDULES", "300"))
SEED = int(os.environ.get("SCHEDULES_SEED", "0"))
PARTS = 4  # run at the same time
CASES = 10_000

# Each was once found, in the product or in the model, or must not depend on chance to be looked at.
CORPUS = {
    "a reset of a reused connection is repeated at once": Schedule(
        (Ask("GET"), Ask("POST", ("reset",))), keys=False
    ),
    "one on a fresh connection is not, without a key": Schedule(
        (Ask("POST", ("reset",)),), keys=False
    ),
    "the server was at work for too long": Schedule(
        (Ask("GET"), Ask("POST", ("late",))), keys=False
    ),
    "the clock is set back while it lies idle": Schedule(
        (Ask("GET"), Advance(10.0, "set back"), Ask("GET"))
    ),
    "the machine is paused": Schedule((Ask("GET"), Advance(10.0, "paused"), Ask("GET"))),
    "a hint shortens the window": Schedule((Ask("GET", ("hint 5",)), Advance(3.0), Ask("GET"))),
    "one on a stream that is left, too": Schedule(
        (Ask("abandoned", ("hint 5",)), Advance(3.0), Ask("GET"))
    ),
    "a lesson narrows it, and is forgotten": Schedule(
        (
            Ask("GET"),
            Advance(6.0),
            Ask("GET", ("reset",)),
            Advance(3.0),
            Ask("GET"),
            Advance(70.0),
            Ask("GET"),
        )
    ),
    "a good connection teaches too": Schedule(
        (
            Ask("GET"),
            Advance(6.0),
            Ask("GET"),
            Advance(9.0),
            Ask("GET", ("fin",)),
            Advance(5.0),
            Ask("GET"),
        )
    ),
    "siblings of a dead connection are retired": Schedule(
        (Fan(3), Ask("GET", ("reset",)), Ask("GET"))
    ),
    "siblings that have expired are closed": Schedule(
        (Fan(3), Advance(9.0), Ask("GET"), Advance(1.0), Ask("GET"))
    ),
    "all of them died": Schedule((Fan(3), Idle("reset"), Ask("GET"), Ask("POST"))),
    "unsolicited bytes are no answer": Schedule((Ask("GET"), Idle("bytes"), Ask("GET")), tls=True),
    "an answer that comes twice": Schedule((Ask("GET", ("twice",)), Ask("GET"), Ask("POST"))),
    "a black hole among the siblings": Schedule(
        (Fan(2), Idle("black hole"), Ask("POST"), Ask("GET"))
    ),
    "a wait that a deadline ends": Schedule((Ask("GET"), Ask("deadline", ("silent",)), Ask("GET"))),
    "a wait that a cancel ends": Schedule((Fan(2), Ask("cancelled"), Ask("GET"))),
    "a stream that is cancelled": Schedule((Ask("cancelled stream", ("chunked",)), Ask("GET"))),
    "a stream that is cut": Schedule((Fan(2), Ask("stream", ("body cut",)), Ask("GET"))),
    "a body that is cut costs two": Schedule(
        (Ask("GET", ("body cut", "body cut")), Ask("GET", ("reset",)))
    ),
    "tokens run out": Schedule(
        (Ask("GET", ("reset",) * 3), Ask("GET", ("reset",) * 3), Ask("GET", ("reset",) * 3))
    ),
    "handshakes are cut": Schedule((Handshakes(2), Ask("generator")), tls=True),
    "a generator cannot be repeated": Schedule((Ask("GET"), Ask("generator", ("reset",)))),
    "a request is cut while it is sent": Schedule(
        (Ask("GET"), Ask("reset POST"), Ask("ended POST")), keys=False
    ),
    "streams of one generation are cut": Schedule((Fan(3, "cut"), Fan(2), Ask("GET"))),
    "a rotation in the middle of streams": Schedule((Fan(2), Fan(3, "rotate"), Ask("GET"))),
    "rotations": Schedule(
        (
            Fan(2),
            Rotate(False),
            Rotate(False),
            Rotate(True),
            Advance(1.0),
            Rotate(False),
            Ask("GET"),
        )
    ),
    "by default only a streamed POST has a key": Schedule(
        (Ask("stream POST", ("reset",)), Ask("POST", ("reset",))), keys="streams"
    ),
    "an answer that is no HTTP stands": Schedule((Fan(2), Ask("GET", ("no HTTP",)), Ask("GET"))),
    "a status is repeated, and the last one stands": Schedule(
        (Fan(2), Ask("POST", ("503", "503", "503")), Ask("generator", ("503",))),
        keys=False,
        statuses=True,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [pytest.param(each, id=name) for name, each in CORPUS.items()])
def test_what_was_found_stays_found(schedule: Schedule) -> None:
    """Each of them once was, or would be, a call that failed or was executed twice."""
    schedules.check(schedule)


def test_a_violation_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is wrong about one connection is contradicted, and the step is named."""
    monkeypatch.setattr(schedules, "EXPIRY", 5.0)

    with pytest.raises(Violation, match=r"step 2, .*wrong connections"):
        schedules.check(Schedule((Ask("GET"), Advance(6.0), Ask("GET"))))


# -- the pure rules

# Copied from the table of the rules: failure, stale -> whose requests, cost, retires, at once,
# teaches.
RULES = {
    "NO_CONNECTION": ("all", 1, False),
    "UNKNOWN_HOST": ("none", 0, False),
    "CERTIFICATE": ("none", 0, False),
    "HANDSHAKE_CUT": ("all", 1, True),
    "PROXY_BUSY": ("all", 1, False),
    "PROXY_REFUSAL": ("none", 0, False),
    "SEND_FAILED": ("all", 1, True),
    "DIED": ("id", 1, True),
    "HEAD_CUT": ("id", 1, True),
    "UNREADABLE": ("none", 0, False),
    "RESPONSE_TIMEOUT": ("opted", 2, True),
    "BODY_CUT": ("id", 2, True),
    "BODY_STALLED": ("opted", 2, True),
    "STATUS": ("status", 1, False),
    "POOL_CLOSED": ("all", 0, False),
    "OTHER": ("none", 0, False),
}


@pytest.mark.parametrize("failure", list(Failure), ids=lambda failure: failure.name)
def test_every_decision_is_that_of_the_table(failure: Failure) -> None:
    """All there are: nothing is left to chance where everything can be tried."""
    whose, cost, retires = RULES[failure.name]
    for stale, idempotent, opted, busy in itertools.product((False, True), repeat=4):
        rule = rule_of(failure, stale=stale)
        policy = RetryPolicy(retry_response_timeout=opted)
        facts = Facts(retries=0, idempotent=idempotent, status=503 if busy else 500)
        is_idle = stale and failure.name in ("SEND_FAILED", "DIED")
        allowed = {
            "all": True,
            "none": False,
            "id": idempotent or is_idle,
            "opted": idempotent and opted,
            "status": idempotent or busy,
        }

        assert decide(rule, policy, facts).again is allowed[whose], (stale, idempotent, opted, busy)
        assert (rule.cost, rule.retires) == (cost, retires)
        assert rule.at_once is (is_idle or failure is Failure.POOL_CLOSED)
        assert rule.teaches is is_idle


def test_the_page_on_the_proof_counts_the_decisions() -> None:
    """A failure more is sixteen decisions more."""
    page = Path(__file__).resolve().parents[2] / "docs" / "proof.md"

    assert f"all {16 * len(Failure)} decisions" in page.read_text(encoding="utf-8")


def _chances(salt: str) -> list[random.Random]:
    return [random.Random(f"{SEED} {salt} {number}") for number in range(CASES // 4)]


def test_staleness_is_that_of_its_definition() -> None:
    """Reused, no byte of an answer, and dead within five seconds of the last byte sent."""
    limits, now = Limits(connect=None, write=None, response=None, idle=None), [100.0]
    token = CancelToken(clock=lambda: Instant(0.0, now[0], 0.0))
    for chance in _chances("stale"):
        attempt = Attempt(token, 1, limits)
        attempt.reused, attempt.bytes_received = chance.random() < 0.7, chance.choice((0, 0, 0, 1))
        attempt.sent_at = chance.choice((None, 100.0))
        waited = chance.choice((0.0, 4.99, 5.0, 5.01, 600.0))
        is_in_time = attempt.sent_at is None or waited <= 5.0

        must = attempt.reused and not attempt.bytes_received and is_in_time
        now[0] = 100.0 + waited
        assert is_stale(attempt) is must


def test_the_window_is_that_of_its_history() -> None:
    """The history may hold any lessons in any order, and the clock may go any way."""
    for chance in _chances("window"):
        expiry = chance.choice((0.0, 0.3, 10.0, 10.0, 60.0))
        window, model, now = AdaptiveWindow(expiry), Window(expiry), 1000.0
        for _ in range(chance.randrange(1, 12)):
            now += chance.choice((0.0, 1.0, 30.0, 60.0, 200.0, 1e5, -50.0))
            age = chance.choice((0.0, 0.4, 1.0, 2.0, 5.0, chance.uniform(0, 20)))
            if chance.random() < 0.5:
                window.good(age)
                model.good(age)
            else:
                window.stale(age, now)
                model.stale(age, now)
                assert window.limit(now) <= max(age, schedules.FLOOR)
            assert window.limit(now) == pytest.approx(model.limit(now))
            assert min(schedules.FLOOR, expiry) <= window.limit(now) <= expiry


def test_a_hint_only_shortens() -> None:
    """The window with a hint, in the words of the rule."""
    for chance in _chances("hint"):
        expiry, margin = chance.choice((0.0, 1.0, 10.0, 60.0)), chance.choice((0.0, 2.0, 5.0))
        hint = chance.choice((None, 0.0, margin, margin + 0.5, 5.0, 12.0, 1e300))
        policy = KeepAlivePolicy(expiry=expiry, hint_margin=margin)
        if hint is None or hint - margin >= expiry:
            assert window_of(policy, hint) == expiry
        else:
            assert window_of(policy, hint) == (hint - margin if hint > margin else 0.0)


def test_tokens_are_those_of_their_history() -> None:
    """Every token was there at the start, was earned, or trickled in.

    No clock creates a token, and no call borrows one.
    """
    for chance in _chances("tokens"):
        budget = RetryBudget(
            capacity=chance.choice((0, 1, 4, 10)),
            deposit=chance.choice((0, 0.25)),
            trickle=chance.choice((0, 0.5)),
        )
        now = last = 1000.0
        bucket, tokens = TokenBucket(budget, now), float(budget.capacity)
        for _ in range(chance.randrange(1, 30)):
            now += chance.choice((0.0, 0.0, 0.5, 4.0, 3600.0, -100.0))
            tokens, last = min(tokens + max(now - last, 0.0) * budget.trickle, budget.capacity), now
            if chance.random() < 0.4:
                bucket.deposit(now)
                tokens = min(tokens + budget.deposit, budget.capacity)
            else:
                cost = chance.choice((0, 1, 2))
                paid = tokens >= cost
                assert bucket.withdraw(cost, now) is paid
                tokens -= cost if paid else 0
            assert bucket.tokens(now) == tokens


# -- the sockets, at last, since it takes longest


@pytest.mark.slow
@pytest.mark.timeout(0)  # the environment sets the number of schedules; each wait within is bounded
@pytest.mark.parametrize("part", range(PARTS))
def test_no_schedule_of_faults_brings_what_is_not_allowed(part: int) -> None:
    """The shortest schedule that does is printed; it belongs into the corpus then."""
    schedules.campaign(COUNT // PARTS, SEED * PARTS + part)
