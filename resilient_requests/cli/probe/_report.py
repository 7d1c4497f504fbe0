"""What a probe has found, as text with a picture, and as one JSON object."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from resilient_requests.cli.probe._line import Result
from resilient_requests.cli.probe._verdict import judge, keepalive_helps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resilient_requests.cli.probe._line import Facts
    from resilient_requests.cli.probe._target import Target
    from resilient_requests.cli.probe._verdict import Rung, Verdict
    from resilient_requests.transport import TCPKeepAlive

__all__ = ["Report", "label", "unreachable"]

_BAR = 30
_TAILS = {Result.REUSED: "", Result.BLACK_HOLE: "?"}
_STYLES = {Result.REUSED: "green", Result.CLOSED: "yellow", Result.RESET_IDLE: "yellow"}
_MARGIN = "         "


class Report:
    """Everything that one probe has found; immutable."""

    def __init__(
        self, target: Target, fresh: Facts, rungs: Sequence[Rung], probes: TCPKeepAlive
    ) -> None:
        self._target = target
        self._fresh = fresh
        self._probes = probes
        self._plain = [each for each in rungs if not each.probed]
        self._probed = [each for each in rungs if each.probed]
        self._helps = keepalive_helps(self._plain, self._probed)
        self.verdict: Verdict = judge(self._plain, fresh.hint)

    def as_json(self) -> dict[str, Any]:
        """Return it as what ``--json`` prints."""
        fresh, verdict = self._fresh, self.verdict
        return {
            "target": {
                "host": self._target.host,
                "port": self._target.port,
                "address": fresh.address,
                "tls": fresh.tls,
                "http": fresh.http,
                "status": fresh.status,
                "connect": round(fresh.connect, 4),
                "request": round(fresh.request, 4),
            },
            "server_hint": fresh.hint,
            "proxy": self._target.proxy,
            "rungs": [_rung_as_json(each) for each in self._plain],
            "tcp_keepalive": {
                "idle": self._probes.idle,
                "interval": self._probes.interval,
                "helps": self._helps,
                "rungs": [_rung_as_json(each) for each in self._probed],
            },
            "limit": {
                "side": verdict.side,
                "last_good": verdict.last_good,
                "first_bad": verdict.first_bad,
                "with_notice": verdict.with_notice,
            },
            "recommended_keepalive": verdict.keepalive,
            "reason": verdict.reason,
            "error": None,
        }

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the lines of the text, 80 columns wide and ASCII, each with rich's name for its style."""
        yield from ((line, "") for line in self._head())
        yield "", ""
        yield f"{'idle':>10}  {'':<{_BAR + 1}}  {'result':<20}after", "bold"
        longest = max((each.idle for each in self._plain), default=1.0)
        for each in self._plain:
            yield _line(each, longest), _STYLES.get(each.result, "red")
        yield "", ""
        yield from ((line, "") for line in self._foot())
        yield from ((line, "bold") for line in self._conclusion())

    def _head(self) -> Iterator[str]:
        target, fresh = self._target, self._fresh
        way = fresh.address if target.proxy is None else f"through {target.proxy}"
        facts = [f"{target.host}:{target.port} ({way})", fresh.tls or "no TLS", fresh.http]
        yield "target   " + "   ".join(facts)
        yield f"{_MARGIN}fresh connect {_ms(fresh.connect)}, request {_ms(fresh.request)}, status {fresh.status}"
        hint = "none" if fresh.hint is None else f"{fresh.hint:g} s"
        trust = f"   CA: {target.trust}" if fresh.tls else ""
        yield f"server   Keep-Alive hint: {hint}   proxies: {target.proxy or 'none'}{trust}"

    def _foot(self) -> Iterator[str]:
        controls = [
            each
            for each in self._plain
            if each.control is not None or each.result is Result.CONTROL_FAILED
        ]
        for each in controls[:1]:
            said = "failed too" if each.control is None else f"ok, {_ms(each.control)}"
            yield f"control  a fresh connection at {each.idle:g} s: {said}"
        if self._probed:
            yield f"TCP      keep-alive from {self._probes.idle} s of idleness on: {self._of_keepalive()}"
        if odd := next((each for each in self._plain if each.result is Result.NOT_OPENED), None):
            yield f"note     no connection for some rungs: {odd.finding.error}"

    def _of_keepalive(self) -> str:
        if self.verdict.first_bad is None:
            return "not needed"
        if self.verdict.side == "server":
            return "makes no difference to a server that closes"
        longest = max(each.idle for each in self._probed)
        said = {
            True: f"helps, connections survive {longest:g} s",
            False: "does not help",
            None: "not known",
        }
        return said[self._helps]

    def _conclusion(self) -> Iterator[str]:
        verdict = self.verdict
        if verdict.first_bad is not None:
            between = f"between {verdict.last_good:g} and {verdict.first_bad:g} s"
            notice = "with notice" if verdict.with_notice else "without notice"
            who = "The server closes" if verdict.side == "server" else "The path forgets"
            yield f"{who} idle connections {between}, {notice}."
        if verdict.keepalive is not None:
            value = f"{verdict.keepalive:g}"
            # The variable takes no 0: an empty or mistyped value must not turn reuse off.
            of_variable = value if verdict.keepalive else "0.1"
            yield f"Recommended: keepalive={value}  (RESILIENT_REQUESTS_KEEPALIVE={of_variable})"
            yield f"because it is {verdict.reason}."
        else:
            yield f"No window is needed: {verdict.reason}."


def unreachable(said: str) -> dict[str, Any]:
    """Return what ``--json`` prints where there was nothing to probe."""
    return {"rungs": [], "server_hint": None, "recommended_keepalive": None, "error": said}


def label(rung: Rung) -> str:
    """Return what a rung is called."""
    return f"{rung.idle:g} s" + (" with TCP keep-alive" if rung.probed else "")


def _line(rung: Rung, longest: float) -> str:
    bar = "#" * max(math.ceil(_BAR * rung.idle / longest), 1) + _TAILS.get(rung.result, "x")
    after = (
        ""
        if rung.result in (Result.NOT_KEPT, Result.NOT_OPENED, Result.CLOSED)
        else _ms(rung.finding.after)
    )
    return f"{rung.idle:>8g} s  {bar:<{_BAR + 1}}  {rung.result.value:<20}{after}".rstrip()


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _rung_as_json(rung: Rung) -> dict[str, Any]:
    return {
        "idle": rung.idle,
        "result": rung.result.value,
        "after": round(rung.finding.after, 4),
        "error": rung.finding.error,
        "refined": rung.refined,
        "control": None if rung.control is None else round(rung.control, 4),
    }
