"""The cost of retries in an outage and their gain at random loss, under our budget and others.

``python -m benchmarks.budget [--clients 10000] [--figure docs/budget.svg]`` simulates clients with
a virtual clock. Each client calls its origins at a steady rate through a healthy minute, an outage,
random loss and a recovery. Our budget is the real bucket of the package. The others are
transcriptions of their published rules.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from resilient_requests import RetryBudget
from resilient_requests.retry._budget import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RETRIES = 2
LOSS = 0.2
PHASES = (
    ("healthy", 60.0, 0.0),
    ("outage", 300.0, 1.0),
    ("20 % loss", 600.0, LOSS),
    ("recovery", 60.0, 0.0),
)
RATES = (0.2, 1.0, 5.0, 50.0)


class Budget(Protocol):
    """The rule of one client towards one origin."""

    def may_retry(self, now: float, /) -> bool: ...
    def succeeded(self, now: float, /) -> None: ...
    def failed(self, now: float, /) -> None: ...


class Unlimited:
    """Every failure is retried."""

    def may_retry(self, _: float, /) -> bool:
        return True

    def succeeded(self, _: float, /) -> None:
        pass

    def failed(self, _: float, /) -> None:
        pass


class Ours(Unlimited):
    """The bucket of this package.

    It holds at most 10 tokens. A retry costs 1, a success earns 0.3, and a second earns 0.1.
    """

    def __init__(self) -> None:
        self._bucket = TokenBucket(RetryBudget(), 0.0)

    def may_retry(self, now: float, /) -> bool:
        return self._bucket.withdraw(1, now)

    def succeeded(self, now: float, /) -> None:
        self._bucket.deposit(now)


class GRPC(Unlimited):
    """gRPC A6: a failure costs 1, a success earns 0.1.

    The bucket holds at most 10 tokens, and retries need more than half of them.
    """

    def __init__(self) -> None:
        self._tokens = 10.0

    def may_retry(self, _: float, /) -> bool:
        return self._tokens > 5.0

    def succeeded(self, _: float, /) -> None:
        self._tokens = min(self._tokens + 0.1, 10.0)

    def failed(self, _: float, /) -> None:
        self._tokens = max(self._tokens - 1.0, 0.0)


class AWS(Unlimited):
    """The standard retry mode of the AWS SDKs: 500 tokens.

    A retry costs some of them, and a success gives tokens back.
    """

    def __init__(self, cost: int) -> None:
        self._cost = cost
        self._tokens = 500
        self._spent = 0

    def may_retry(self, _: float, /) -> bool:
        if self._tokens < self._cost:
            return False
        self._tokens -= self._cost
        self._spent = self._cost
        return True

    def succeeded(self, _: float, /) -> None:
        self._tokens = min(self._tokens + (self._spent or 1), 500)
        self._spent = 0


class Finagle(Unlimited):
    """Finagle's retry budget: a fifth of the calls of the last ten seconds.

    Ten more retries a second are allowed besides.
    """

    def __init__(self) -> None:
        self._tokens = 100.0
        self._since = 0.0

    def may_retry(self, now: float, /) -> bool:
        self._fill(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def succeeded(self, now: float, /) -> None:
        self._call(now)

    def failed(self, now: float, /) -> None:
        self._call(now)

    def _call(self, now: float, /) -> None:
        self._fill(now)
        self._tokens += 0.2

    def _fill(self, now: float, /) -> None:
        elapsed, self._since = now - self._since, now
        self._tokens = min(self._tokens * max(1.0 - elapsed / 10.0, 0.0) + elapsed * 10.0, 1000.0)


RULES: dict[str, Callable[[], Budget]] = {
    "none": Unlimited,
    "Finagle": Finagle,
    "gRPC": GRPC,
    "AWS 500/5": lambda: AWS(5),
    "AWS 500/14": lambda: AWS(14),
    "ours": Ours,
}


@dataclass
class Tally:
    """Calls, attempts and calls finally failed in one phase."""

    calls: int = 0
    attempts: int = 0
    failed: int = 0

    @property
    def amplification(self) -> float:
        return self.attempts / self.calls

    @property
    def loss(self) -> float:
        return self.failed / self.calls


def call(budget: Budget, chance: random.Random, loss: float, now: float) -> tuple[int, bool]:
    """One call with at most `RETRIES` retries; the attempts it took, and whether one succeeded."""
    for attempt in range(1, RETRIES + 2):
        if chance.random() >= loss:
            budget.succeeded(now)
            return attempt, True
        budget.failed(now)
        if attempt > RETRIES or not budget.may_retry(now):
            return attempt, False
    raise AssertionError("unreachable")


def simulate(rule: Callable[[], Budget], rate: float, clients: int, seed: int) -> dict[str, Tally]:
    """Let so many clients call one origin each, ``rate`` times a second, through all phases."""
    chance = random.Random(seed)
    tallies = {name: Tally() for name, _, _ in PHASES}
    for _ in range(clients):
        budget = rule()
        for now, name, loss in _calls(rate, chance.random() / rate):
            attempts, is_good = call(budget, chance, loss, now)
            tally = tallies[name]
            tally.calls += 1
            tally.attempts += attempts
            tally.failed += not is_good
    return tallies


def _calls(rate: float, now: float) -> Iterator[tuple[float, str, float]]:
    end = 0.0
    for name, seconds, loss in PHASES:
        end += seconds
        while now < end:
            yield now, name, loss
            now += 1.0 / rate


def table(clients: int, seed: int = 1) -> dict[float, dict[str, dict[str, Tally]]]:
    """Simulate every rule at every rate.

    The clients of a rate share enough calls that each figure is settled.
    """
    results: dict[float, dict[str, dict[str, Tally]]] = {}
    for rate in RATES:
        # A client at 50/s makes as many calls as 250 at 0.2/s.
        count = max(round(clients * RATES[0] / rate), 4)
        results[rate] = {name: simulate(rule, rate, count, seed) for name, rule in RULES.items()}
    return results


def rows(results: dict[float, dict[str, dict[str, Tally]]]) -> Iterator[list[str]]:
    """The table as text: attempts per call in the outage, and calls finally failed at 20 % loss."""
    yield ["calls per second", *RULES]
    for rate, by_rule in results.items():
        cells = [
            f"{t['outage'].amplification:.2f} / {t['20 % loss'].loss:.1%}" for t in by_rule.values()
        ]
        yield [f"{rate:g}", *cells]


def figure(results: dict[float, dict[str, dict[str, Tally]]]) -> str:
    """The same as a picture: each rule a point per rate; left and low is good."""
    width, height, left, top = 720, 380, 70, 30
    colours = {
        "none": "#888",
        "Finagle": "#b58900",
        "gRPC": "#6c71c4",
        "AWS 500/5": "#2aa198",
        "AWS 500/14": "#268bd2",
    }
    plot_width, plot_height = width - left - 170, height - top - 60

    def x(amplification: float) -> float:
        return left + (amplification - 1.0) / 2.0 * plot_width

    def y(loss: float) -> float:
        return top + plot_height - min(loss, 0.2) / 0.2 * plot_height

    svg, font = 'xmlns="http://www.w3.org/2000/svg"', 'font-family="sans-serif" font-size="13"'
    goal = f'x="{x(1.0)}" y="{y(0.02)}" width="{x(1.2) - x(1.0)}" height="{y(0) - y(0.02)}"'
    parts = [
        f'<svg {svg} viewBox="0 0 {width} {height}" {font}>',
        "<title>Attempts per call in an outage, and calls finally failed at 20 % loss</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        (
            f'<path d="M{left},{top}V{top + plot_height}H{left + plot_width}" '
            'fill="none" stroke="#333"/>'
        ),
        f'<rect {goal} fill="#859900" opacity="0.25"/>',
    ]
    parts += [
        f'<text x="{x(tick)}" y="{top + plot_height + 18}" text-anchor="middle">{tick:g}</text>'
        for tick in (1.0, 1.5, 2.0, 2.5, 3.0)
    ]
    parts += [
        f'<text x="{left - 8}" y="{y(tick) + 4}" text-anchor="end">{tick:.0%}</text>'
        for tick in (0.0, 0.05, 0.1, 0.15, 0.2)
    ]
    middle = f'<text x="{left + plot_width / 2}" y="{height - 12}" text-anchor="middle">'
    parts.append(
        f"{middle}attempts per call in the outage</text>"
        f'<text x="18" y="{top + plot_height / 2}" text-anchor="middle" '
        f'transform="rotate(-90 18 {top + plot_height / 2})">calls failed at 20 % loss</text>'
    )
    for place, name in enumerate(RULES):
        colour = colours.get(name, "#dc322f")
        for rate, by_rule in results.items():
            t = by_rule[name]
            size = 3 + 2 * RATES.index(rate)
            parts.append(
                f'<circle cx="{x(t["outage"].amplification):.1f}" '
                f'cy="{y(t["20 % loss"].loss):.1f}" r="{size}" '
                f'fill="{colour}" opacity="0.75"><title>{name}, {rate:g} calls/s</title></circle>'
            )
        parts.append(
            f'<circle cx="{width - 150}" cy="{top + 10 + 22 * place}" r="6" fill="{colour}"/>'
            f'<text x="{width - 136}" y="{top + 15 + 22 * place}">{name}</text>'
        )
    parts.append(
        f'<text x="{width - 156}" y="{top + 165}" fill="#555">larger: more calls/s</text></svg>'
    )
    return "\n".join(parts) + "\n"


def main() -> int:
    """Simulate, print the table, and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    results = table(options.clients)
    for row in rows(results):
        print("| " + " | ".join(row) + " |")
        if row[0] == "calls per second":
            print("|" + "--|" * len(row))
    if options.figure:
        options.figure.write_text(figure(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
