"""Timeouts of any shape, the kill switch, types, and the notes on errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3

import resilient_requests
from packages.clients._client import load, mount
from resilient_requests import ResilientAdapter
from resilient_requests.testing import reset, respond, silence

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter

    from resilient_requests.testing import FaultServer


SHAPES: dict[str, Any] = {
    "numpy.int64": load("numpy").int64(1),
    "numpy.float64": load("numpy").float64(0.3),
    "a pair of numpy": (load("numpy").int64(5), load("numpy").float64(0.3)),
    "the default of urllib3": urllib3.Timeout.DEFAULT_TIMEOUT,
    "a pair of it": (urllib3.Timeout.DEFAULT_TIMEOUT, 5),
}
# Plain requests lets these through, and then the socket or urllib3 refuses them.
FLOATS: dict[str, Any] = {
    "numpy.float32": load("numpy").float32(0.3),
    "Fraction": Fraction(3, 10),
    "a pair of Fractions": (Fraction(5), Fraction(3, 10)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_timeout_that_requests_takes_is_taken(
    fault_server: FaultServer, adapter: type[HTTPAdapter], shape: str
) -> None:
    """The sentinel is urllib3's own; the integers are those of arrays."""
    with mount(requests.Session(), adapter) as session:
        assert session.get(fault_server.url, timeout=SHAPES[shape]).text == "ok"


@pytest.mark.parametrize("shape", ["numpy.int64", "numpy.float64", "a pair of numpy"])
def test_such_a_timeout_is_a_limit(
    fault_server: FaultServer, adapter: type[HTTPAdapter], shape: str
) -> None:
    """Taken, and then obeyed."""
    fault_server.default = silence()
    with mount(requests.Session(), adapter) as session, pytest.raises(requests.ReadTimeout):
        session.get(fault_server.url, timeout=SHAPES[shape])


@pytest.mark.parametrize("shape", FLOATS)
def test_a_timeout_that_is_nearly_a_float_is_a_limit(fault_server: FaultServer, shape: str) -> None:
    """``float()`` says what it means."""
    fault_server.script(respond(b"ok"), silence())
    with mount(requests.Session(), ResilientAdapter) as session:
        answer = session.get(fault_server.url, timeout=FLOATS[shape])
        with pytest.raises(requests.ReadTimeout):
            session.get(fault_server.url, timeout=FLOATS[shape])

    assert answer.text == "ok"


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"keepalive": None}, r"keepalive.*(keepalive=0|KeepAlivePolicy\()"),
        ({"tcp_keepalive": False}, r"tcp_keepalive.*None"),
        ({"tcp_keepalive": True}, r"tcp_keepalive.*TCPKeepAlive\("),
    ],
    ids=["keepalive=None", "tcp_keepalive=False", "tcp_keepalive=True"],
)
def test_a_setting_that_means_nothing_is_told_what_to_write(
    options: dict[str, Any], advice: str
) -> None:
    """Whoever writes it knows what it should mean."""
    with pytest.raises((TypeError, ValueError), match=advice):
        ResilientAdapter(**options)


# -- the kill switch -----------------------------------------------------------------------------

SHOW = """
import requests
from resilient_requests import ResilientAdapter
print(repr(ResilientAdapter()))
"""


def shown(
    value: str, variable: str = "RESILIENT_REQUESTS_DISABLE"
) -> subprocess.CompletedProcess[str]:
    """Return what a program prints that makes an adapter with a variable set."""
    return subprocess.run(
        [sys.executable, "-c", SHOW],
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), variable: value},
        capture_output=True,
        text=True,
        timeout=40,
        check=True,
    )


@pytest.mark.parametrize("value", ["1", "true", "yes", "on", "TRUE"])
def test_a_disabled_adapter_says_so(value: str) -> None:
    """In its ``repr``, for whoever has forgotten that the variable is set."""
    done = shown(value)

    assert "disabled" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RESILIENT_REQUESTS_DISABLE", "maybe"),
        ("RESILIENT_REQUESTS_KEEPALIVE", "ten"),
        ("RESILIENT_REQUESTS_MAX_RETRIES", "-1"),
    ],
)
def test_a_variable_that_is_not_understood_is_told(variable: str, value: str) -> None:
    """On standard error, where a person sees it without a logging configuration."""
    done = shown(value, variable)

    assert "disabled" not in done.stdout
    assert variable in done.stderr


@pytest.mark.parametrize("name", ["keepalive", "timeouts", "tcp_keepalive", "idempotency_keys"])
def test_a_setting_in_force_is_readable(name: str) -> None:
    """And shown where it is not the default."""
    assert getattr(ResilientAdapter(), name) is not None
    assert name not in repr(ResilientAdapter())


def test_a_setting_that_is_not_the_default_is_shown() -> None:
    """A person who prints the adapter sees what is in force."""
    assert "keepalive" in repr(ResilientAdapter(keepalive=3.0))


# -- types ---------------------------------------------------------------------------------------

TYPED = """\
import requests
import urllib3

from resilient_requests import KeepAlivePolicy, ResilientAdapter, RetryPolicy, Timeouts

session = requests.Session()
session.mount("https://", ResilientAdapter(max_retries=RetryPolicy(statuses={503})))
session.mount("https://", ResilientAdapter(max_retries=urllib3.Retry(3), keepalive=4))
session.mount("https://", ResilientAdapter(keepalive=KeepAlivePolicy(expiry=4)))
session.mount("https://", ResilientAdapter(timeouts=Timeouts(connect=3), tcp_keepalive=None))
"""
CHECKERS = {
    "mypy": ("mypy", "--strict", "--no-incremental"),
    "pyright": ("basedpyright", "--level", "error"),
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_what_the_readme_says_passes_type_checkers(tmp_path: Path, checker: str) -> None:
    """A set is what a person writes for ``statuses``."""
    (tmp_path / "typed.py").write_text(TYPED, encoding="utf-8")
    # Neither looks for what is installed to be edited.
    package = str(Path(resilient_requests.__file__).parents[1])
    config = {"typeCheckingMode": "standard", "extraPaths": [package]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config), "utf-8")
    module, *options = CHECKERS[checker]
    done = subprocess.run(
        [sys.executable, "-m", module, *options, "typed.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": package},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout


# -- notes on errors -----------------------------------------------------------------------------


def failure(adapter: type[HTTPAdapter], url: str) -> requests.RequestException:
    """Return the error of a GET that is reset each time."""
    with mount(requests.Session(), adapter) as session:
        try:
            session.get(url, timeout=5)
        except requests.RequestException as error:
            return error
    raise AssertionError("it did not fail")


def test_a_final_error_is_as_plain_requests_raises_it(fault_server: FaultServer) -> None:
    """Class and text are what code and log filters know."""
    fault_server.default = reset()
    plain, ours = (
        failure(each, fault_server.url)
        for each in (requests.adapters.HTTPAdapter, ResilientAdapter)
    )

    assert (type(ours), str(ours)) == (type(plain), str(plain))


def test_a_final_error_carries_a_note(fault_server: FaultServer) -> None:
    """Where it went, how often, and why no more; never the query."""
    fault_server.default = reset()
    notes = "\n".join(
        getattr(failure(ResilientAdapter, f"{fault_server.url}/?key=secret"), "__notes__", ())
    )

    assert fault_server.url in notes
    assert "3 attempts" in notes
    assert "secret" not in notes
