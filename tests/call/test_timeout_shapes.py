"""Each shape of ``timeout=`` that users of requests write has its documented meaning."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3
from clients import Client

from resilient_requests import Timeouts
from resilient_requests.call import as_urllib3, limits_of
from resilient_requests.testing import FaultServer, silence

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT: Any = urllib3.Timeout.DEFAULT_TIMEOUT
OURS = Timeouts(connect=1.0, write=2.0, response=3.0, idle=4.0)


class Integer:
    """Seconds as numpy's int64 gives them: a number, and no int."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __float__(self) -> float:
        return float(self._value)

    def __index__(self) -> int:
        return self._value

    def __le__(self, other: float) -> bool:
        return self._value <= other


NUMBERS: dict[str, Callable[[int], Any]] = {
    "int": int,
    "float": float,
    "numpy": Integer,
    "Decimal": Decimal,
    "Fraction": Fraction,
}
each_kind = pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)


@each_kind
def test_a_number_is_seconds_of_whatever_kind_it_is(number: Callable[[int], Any]) -> None:
    """One number bounds the dial, and the response and its body; a pair bounds each."""
    both = limits_of(OURS, number(7))
    pair = limits_of(OURS, (number(7), number(8)))

    assert (both.connect, both.write, both.response, both.idle) == (7.0, 2.0, 7.0, 7.0)
    assert (pair.connect, pair.write, pair.response, pair.idle) == (7.0, 2.0, 8.0, 8.0)


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        (None, (1.0, 3.0, 4.0)),
        (DEFAULT, (1.0, 3.0, 4.0)),
        ((DEFAULT, DEFAULT), (1.0, 3.0, 4.0)),
        ((DEFAULT, 7), (1.0, 7.0, 7.0)),
        ((7, DEFAULT), (7.0, 3.0, 4.0)),
        ((None, None), (None, None, None)),
        (urllib3.Timeout(connect=7, read=8), (7.0, 8.0, 8.0)),
        (urllib3.Timeout(connect=7), (7.0, 3.0, 4.0)),
        (urllib3.Timeout(read=None), (1.0, None, None)),
        (urllib3.Timeout(total=2), (1.0, 2.0, 2.0)),
        (urllib3.Timeout(connect=Decimal(7)), (7.0, 3.0, 4.0)),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_a_part_that_is_not_given_is_the_adapters(
    timeout: Any, expected: tuple[float | None, ...]
) -> None:
    """urllib3's mark says "the default" everywhere; None in a pair, or in its Timeout, no limit."""
    limits = limits_of(OURS, timeout)

    assert (limits.connect, limits.response, limits.idle) == expected


@pytest.mark.parametrize(
    "timeout", [7, 7.5, None, DEFAULT, (7, None), (DEFAULT, 7.5), urllib3.Timeout(7)], ids=repr
)
def test_what_urllib3_takes_is_handed_on_as_it_is(timeout: Any) -> None:
    """Mocks and tracers see the caller's own value."""
    handed = as_urllib3(timeout)

    assert handed is timeout or (isinstance(timeout, tuple) and handed == timeout)


@pytest.mark.parametrize("value", [math.inf, math.nan, -1, 0, "5", True, [1]], ids=repr)
def test_what_is_no_number_of_seconds_is_refused_as_requests_does(value: Any) -> None:
    """The error names the part."""
    with pytest.raises(ValueError, match="connect"):
        limits_of(OURS, value)
    with pytest.raises(ValueError, match="read"):
        limits_of(OURS, (1, value))


@each_kind
@pytest.mark.parametrize("shape", ["number", "pair", "Timeout"])
def test_a_call_takes_it_on_a_fresh_and_on_a_reused_connection(
    server: FaultServer, number: Callable[[int], Any], shape: str
) -> None:
    """urllib3 sets the caller's value on the socket, which takes only floats and integers."""
    given = number(5)
    timeout: Any = {"number": given, "pair": (given, given)}.get(shape, urllib3.Timeout(5, given))
    with Client(server) as client:
        answers = [client.get(timeout=timeout).content for _ in range(2)]

    assert answers == [b"ok", b"ok"]
    assert server.accepted == 1


@pytest.mark.parametrize("part", [Decimal("0.05"), Fraction(1, 20)], ids=repr)
def test_a_limit_of_another_kind_of_number_is_reached(server: FaultServer, part: Any) -> None:
    """It is a limit, and not only taken."""
    server.script(silence())
    with Client(server) as client, pytest.raises(requests.ReadTimeout):
        client.get(timeout=(5, part))

    assert len(server.requests) == 1
