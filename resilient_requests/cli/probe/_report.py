"""The findings of a probe, as text with a picture and as one JSON object."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from resilient_requests.cli.probe._connection import Result
from resilient_requests.cli.probe._run import bracket
from resilient_requests.transport import KeepAlivePolicy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resilient_requests.cli._output import Line
    from resilient_requests.cli.probe._addresses import Address
    from resilient_requests.cli.probe._connection import Facts, Target
    from resilient_requests.cli.probe._run import Sample
    from resilient_requests.transport import TCPKeepAlive

__all__ = ["Report", "Verdict", "address_lines", "judge", "keepalive_helps", "unreachable"]

_BAR = 30
_TAILS = {Result.REUSED: "", Result.BLACK_HOLE: "?"}
_STYLES = {Result.REUSED: "green", Result.CLOSED: "yellow", Result.RESET_IDLE: "yellow"}
_UNTIMED = (Result.NOT_KEPT, Result.NOT_OPENED, Result.CLOSED)
_MARGIN = "         "
_NOTICED = frozenset({Result.CLOSED, Result.RESET_IDLE})
_DEFAULT = KeepAlivePolicy()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Where idle connections end: between ``last_good`` and ``first_bad`` seconds.

    ``side``: "path" or "server", the side that ends them. ``with_notice``: the end can be seen
    before the next use. ``keepalive``: the window to set, None if none is needed; ``reason`` says
    why. ``is_conclusive``: at least one connection could be judged.
    """

    side: str | None
    last_good: float
    first_bad: float | None
    with_notice: bool
    keepalive: float | None
    reason: str
    is_conclusive: bool = True


def judge(samples: Sequence[Sample], hint: float | None) -> Verdict:
    """Return the verdict from connections without TCP keep-alive.

    ``hint``: seconds that the server's Keep-Alive header grants; None if it sends none.
    """
    last_good, first_bad = bracket(samples)
    if first_bad is None:
        return _without_limit(samples, last_good)
    # Even a late FIN shows that the path had not forgotten the connection.
    is_server = any(each.result is Result.CLOSED and each.idle >= first_bad for each in samples)
    first = next(each for each in samples if each.idle == first_bad)
    with_notice = is_server or first.result in _NOTICED
    window, reason = _window(last_good, hint)
    # The adapter replaces a connection that ended with notice. That end can still race with the
    # next use, and only a short limit makes the race likely enough to matter.
    is_needed = not with_notice or window < _DEFAULT.expiry
    return Verdict(
        side="server" if is_server else "path",
        last_good=last_good,
        first_bad=first_bad,
        with_notice=with_notice,
        keepalive=window if is_needed else None,
        reason=reason if is_needed else "the default window is well below that",
    )


def _without_limit(samples: Sequence[Sample], last_good: float) -> Verdict:
    is_kept = not any(each.result is Result.NOT_KEPT for each in samples)
    if not is_kept:
        reason = "the server ends each connection after one answer: none is ever idle"
    elif last_good:
        reason = f"idle connections survive up to {last_good:g} s"
    else:
        reason = "no connection could be judged"
    return Verdict(
        side=None,
        last_good=last_good,
        first_bad=None,
        with_notice=False,
        keepalive=None,
        reason=reason,
        is_conclusive=bool(last_good) or not is_kept,
    )


def _window(last_good: float, hint: float | None) -> tuple[float, str]:
    """Return the window in seconds, rounded down, and its origin."""
    choices = [
        (last_good / 2, f"half of the {last_good:g} s that were survived"),
        (_DEFAULT.expiry, f"the default, below half of the {last_good:g} s that were survived"),
    ]
    if hint is not None:
        margin = _DEFAULT.hint_margin
        words = f"the server's hint of {hint:g} s, less a margin of {margin:g} s"
        choices.append((max(hint - margin, 0.0), words))
    window, reason = min(choices)
    return math.floor(round(window * 10, 6)) / 10, reason


def keepalive_helps(plain: Sequence[Sample], kept_alive: Sequence[Sample]) -> bool | None:
    """Return whether connections with TCP keep-alive outlive the limit of the others.

    None if the samples do not show it.
    """
    _, first_bad = bracket(plain)
    beyond = [each for each in kept_alive if first_bad is not None and each.idle >= first_bad]
    judged = [each for each in beyond if each.is_bad or each.result is Result.REUSED]
    return all(each.result is Result.REUSED for each in judged) if judged else None


class Report:
    """All findings of one probe; immutable."""

    def __init__(
        self,
        target: Target,
        fresh: Facts,
        samples: Sequence[Sample],
        keepalive: TCPKeepAlive,
        *,
        addresses: Sequence[Address] = (),
        is_interrupted: bool = False,
    ) -> None:
        self._target = target
        self._addresses = addresses
        self._fresh = fresh
        self._keepalive = keepalive
        self._is_interrupted = is_interrupted
        self._plain = [each for each in samples if not each.kept_alive]
        self._kept_alive = [each for each in samples if each.kept_alive]
        self._helps = keepalive_helps(self._plain, self._kept_alive)
        self.verdict: Verdict = judge(self._plain, fresh.hint)

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        fresh, verdict = self._fresh, self.verdict
        return {
            "target": {**_address(self._target), **_facts_as_json(fresh)},
            "addresses": [asdict(each) for each in self._addresses],
            "server_hint": fresh.hint,
            "proxy": self._target.proxy,
            "rungs": [_as_json(each) for each in self._plain],
            "tcp_keepalive": {
                "idle": self._keepalive.idle,
                "interval": self._keepalive.interval,
                "helps": self._helps,
                "rungs": [_as_json(each) for each in self._kept_alive],
            },
            "limit": {
                "side": verdict.side,
                "last_good": verdict.last_good,
                "first_bad": verdict.first_bad,
                "with_notice": verdict.with_notice,
            },
            "recommended_keepalive": verdict.keepalive,
            "reason": verdict.reason,
            "interrupted": self._is_interrupted,
            "error": None,
        }

    def lines(self) -> Iterator[Line]:
        """Yield the lines of the text, 80 columns wide and ASCII."""
        yield from ([(line, "")] for line in self._head())
        yield []
        yield [(f"{'idle':>10}  {'':<{_BAR + 1}}  {'result':<20}after", "bold")]
        longest = max((each.idle for each in self._plain), default=1.0)
        for each in self._plain:
            yield [(_line(each, longest), _STYLES.get(each.result, "red"))]
        yield []
        yield from ([(line, "")] for line in self._foot())
        yield from ([(line, "bold")] for line in self._conclusion())

    def _head(self) -> Iterator[str]:
        target, fresh = self._target, self._fresh
        way = fresh.address if target.proxy is None else f"through {target.proxy}"
        facts = [f"{target.host}:{target.port} ({way})", fresh.tls or "no TLS", fresh.http]
        yield "target   " + "   ".join(facts)
        took = f"fresh connect {_ms(fresh.connect)}, request {_ms(fresh.request)}"
        yield f"{_MARGIN}{took}, status {fresh.status}"
        yield from address_lines(self._addresses, is_proxy=target.proxy is not None)
        hint = "none" if fresh.hint is None else f"{fresh.hint:g} s"
        trust = f"   CA: {target.trust}" if fresh.tls else ""
        yield f"server   Keep-Alive hint: {hint}   proxies: {target.proxy or 'none'}{trust}"

    def _foot(self) -> Iterator[str]:
        for each in self._plain:
            if each.control is not None or each.result is Result.CONTROL_FAILED:
                said = "failed too" if each.control is None else f"ok, {_ms(each.control)}"
                yield f"control  a fresh connection at {each.idle:g} s: {said}"
                break
        if self._kept_alive:
            idle = self._keepalive.idle
            yield f"TCP      keep-alive from {idle} s of idleness on: {self._of_keepalive()}"
        if odd := next((each for each in self._plain if each.result is Result.NOT_OPENED), None):
            yield f"note     no connection for some idle times: {odd.finding.error}"

    def _of_keepalive(self) -> str:
        if self.verdict.first_bad is None:
            return "not known" if self._is_interrupted else "not needed"
        if self.verdict.side == "server":
            return "no difference, the server closes"
        longest = max(each.idle for each in self._kept_alive)
        said = {
            True: f"helps, connections survive {longest:g} s",
            False: "does not help",
            None: "not known",
        }
        return said[self._helps]

    def _conclusion(self) -> Iterator[str]:
        verdict = self.verdict
        if self._is_interrupted:
            yield "Interrupted: longer idle times, and some in between, were not tried."
        if verdict.first_bad is not None:
            between = f"between {verdict.last_good:g} and {verdict.first_bad:g} s"
            notice = "with notice" if verdict.with_notice else "without notice"
            subject = "The server closes" if verdict.side == "server" else "The path forgets"
            yield f"{subject} idle connections {between}, {notice}."
        if verdict.keepalive is not None:
            value = f"{verdict.keepalive:g}"
            # The variable takes no 0, so that an empty or mistyped value cannot turn reuse off.
            of_variable = value if verdict.keepalive else "0.1"
            yield f"Recommended: keepalive={value}  (RESILIENT_REQUESTS_KEEPALIVE={of_variable})"
            yield f"because it is {verdict.reason}."
        elif self._is_interrupted:
            yield f"So far {verdict.reason}."
        else:
            yield f"No window is needed: {verdict.reason}."


def address_lines(addresses: Sequence[Address], *, is_proxy: bool) -> Iterator[str]:
    """Yield a line per address: its family, its time to connect, and a mark on the first."""
    width = max((len(each.host) for each in addresses), default=0)
    for number, each in enumerate(addresses):
        subject = "" if number else "proxy" if is_proxy else "address"
        took = each.error if each.connect is None else _ms(each.connect)
        first = "   first" if each.won and len(addresses) > 1 else ""
        yield f"{subject:<9}{each.family}  {each.host:<{width}}  {took}{first}"


def unreachable(
    target: Target, error: str, addresses: Sequence[Address] = (), *, is_interrupted: bool = False
) -> dict[str, Any]:
    """Return the object that ``--json`` prints if there was no connection to probe."""
    return {
        "target": _address(target),
        "addresses": [asdict(each) for each in addresses],
        "rungs": [],
        "server_hint": None,
        "recommended_keepalive": None,
        "interrupted": is_interrupted,
        "error": error,
    }


def _address(target: Target) -> dict[str, Any]:
    return {"host": target.host, "port": target.port}


def _facts_as_json(fresh: Facts) -> dict[str, Any]:
    return {
        "address": fresh.address,
        "tls": fresh.tls,
        "http": fresh.http,
        "status": fresh.status,
        "connect": round(fresh.connect, 4),
        "request": round(fresh.request, 4),
    }


def _line(sample: Sample, longest: float) -> str:
    bar = "#" * max(math.ceil(_BAR * sample.idle / longest), 1) + _TAILS.get(sample.result, "x")
    after = "" if sample.result in _UNTIMED else _ms(sample.finding.after)
    return f"{sample.idle:>8g} s  {bar:<{_BAR + 1}}  {sample.result.value:<20}{after}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _as_json(sample: Sample) -> dict[str, Any]:
    return {
        "idle": sample.idle,
        "result": sample.result.value,
        "after": round(sample.finding.after, 4),
        "error": sample.finding.error,
        "refined": sample.refined,
        "control": None if sample.control is None else round(sample.control, 4),
    }
