"""Classes and modules of other people around, under and beside the adapter."""

from __future__ import annotations

import copy
import hashlib
import pickle
import ssl
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from packages.clients._client import load
from resilient_requests import KeepAlivePolicy, ResilientAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient_requests.testing import FaultServer

FingerprintAdapter: Any = load("requests_toolbelt.adapters.fingerprint").FingerprintAdapter


class PlainFingerprint(FingerprintAdapter, HTTPAdapter):  # type: ignore[misc]  # Any
    pass


class OurFingerprint(FingerprintAdapter, ResilientAdapter):  # type: ignore[misc]  # Any
    pass


@pytest.fixture(params=[PlainFingerprint, OurFingerprint], ids=["plain", "ours"])
def fingerprint(request: pytest.FixtureRequest) -> type[Any]:
    """requests-toolbelt's adapter over the plain one and over ours."""
    kind: type[Any] = request.param
    return kind


def print_of(server: FaultServer) -> str:
    """Return the SHA-256 of a server's certificate."""
    pem = ssl.get_server_certificate((server.host, server.port))
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["deepcopy", "pickle"]
)
def test_a_copy_of_a_mixed_adapter_works(
    fault_server_tls: FaultServer, fingerprint: type[Any], copied: Callable[[Any], Any]
) -> None:
    """``FingerprintAdapter.__attrs__`` stands before ours; the settings of both go along."""
    adapter = copied(fingerprint(print_of(fault_server_tls)))
    with requests.Session() as session:
        session.mount("https://", adapter)
        answer = session.get(fault_server_tls.url, verify=fault_server_tls.ca_path)

    assert answer.text == "ok"
    assert adapter.fingerprint == print_of(fault_server_tls)


def test_a_copy_of_a_mixed_adapter_keeps_our_settings() -> None:
    """They are public, and read from the copy."""
    keepalive = KeepAlivePolicy(expiry=3.0)
    kind: type[Any] = OurFingerprint
    adapter = pickle.loads(pickle.dumps(kind("ab" * 32, keepalive=keepalive)))

    assert adapter.keepalive == keepalive


def test_a_wrong_fingerprint_is_tried_once(
    fault_server_tls: FaultServer, fingerprint: type[Any]
) -> None:
    """A verdict on a certificate does not change with time."""
    with requests.Session() as session:
        session.mount("https://", fingerprint("ab" * 32))
        with pytest.raises(requests.exceptions.SSLError):
            session.get(fault_server_tls.url, verify=fault_server_tls.ca_path)

    assert fault_server_tls.accepted == 1


@pytest.mark.parametrize("base", [HTTPAdapter, ResilientAdapter], ids=["plain", "ours"])
def test_an_adapter_without_a_manager_is_made(base: type[HTTPAdapter]) -> None:
    """Mocks and adapters with a transport of their own let ``init_poolmanager`` do nothing."""

    class Managerless(base):  # type: ignore[misc, valid-type]  # a variable
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            pass

    assert Managerless().max_retries.total == 0


# What replaces modules of the standard library or of urllib3 does so in a process of its own.

CALL = """
    import sys, requests
    from requests.adapters import HTTPAdapter
    from resilient_requests import ResilientAdapter
    kind, url, bundle = sys.argv[1:]
    session = requests.Session()
    session.trust_env = False
    session.verify = bundle
    for prefix in ("http://", "https://"):
        session.mount(prefix, {"plain": HTTPAdapter, "ours": ResilientAdapter}[kind]())
    {patch}
    for body in (b"x" * 3_000_000, None):
        answer = session.request("POST" if body else "GET", url, data=body, timeout=5)
        assert answer.text == "ok", answer.text
"""
PATCHES = {
    "pyOpenSSL": ("https", "import urllib3.contrib.pyopenssl as p; p.inject_into_urllib3()"),
    "PySocks": ("http", "import socket, socks; socket.socket = socks.socksocket"),
    "PySocks, TLS": ("https", "import socket, socks; socket.socket = socks.socksocket"),
    "a source address": (
        "http",
        (
            "import socket, functools; socket.create_connection = "
            "functools.partial(socket.create_connection, source_address=('127.0.0.1', 0))"
        ),
    ),
}


def run(
    patch: str, kind: str, server: FaultServer, *, first: bool
) -> subprocess.CompletedProcess[str]:
    """Run the calls in a process where something is replaced before the imports, or after them."""
    script = textwrap.dedent(CALL).replace("{patch}", "" if first else patch)
    return subprocess.run(
        [
            sys.executable,
            "-c",
            (patch + "\n" if first else "") + script,
            kind,
            server.url,
            server.ca_path or "",
        ],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("kind", ["plain", "ours"])
def test_a_replaced_module_is_used(
    fault_server_factory: Callable[..., FaultServer], kind: str, patch: str, first: bool
) -> None:
    """PyOpenSSL in urllib3, PySocks as ``socket.socket``: before our import and after it."""
    scheme, code = PATCHES[patch]
    server = fault_server_factory(tls=scheme == "https")
    done = run(code, kind, server, first=first)

    assert done.stderr == ""
    assert done.returncode == 0


DEBUG = "import http.client; http.client.HTTPConnection.debuglevel = 1"
HEADS = (
    "import http.client; real = http.client.parse_headers; "
    "http.client.parse_headers = lambda fp, *a, **k: (print('parsed'), real(fp, *a, **k))[1]"
)


@pytest.mark.parametrize("kind", ["plain", "ours"])
def test_debuglevel_prints_the_answers(fault_server: FaultServer, kind: str) -> None:
    """The lines ``reply:`` and ``header:`` are what people switch it on for."""
    printed = run(DEBUG, kind, fault_server, first=True).stdout

    assert printed.count("reply: 'HTTP/1.1 200 OK") == 2
    assert printed.count("header: Content-Length: 2") == 2


@pytest.mark.parametrize("kind", ["plain", "ours"])
def test_a_replaced_parse_headers_is_used(fault_server: FaultServer, kind: str) -> None:
    """Tools that record or mend headers replace it."""
    assert run(HEADS, kind, fault_server, first=True).stdout.count("parsed") == 2
