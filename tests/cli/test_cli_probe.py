"""The probe as its users run it: against servers that forget, close, drop and refuse."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clients import in_time
from lab.network import Lab, why_not
from listeners import info, refusing, resolving, swallowing
from proxies import HTTPProxy, SOCKS5Proxy
from terminal import terminal

from resilient_requests import cli
from resilient_requests.cli.probe._connection import Finding, ProbeConnection, Result, Target
from resilient_requests.cli.probe._report import Verdict, judge, keepalive_helps
from resilient_requests.cli.probe._run import ProbeRun, Sample, between, idle_times, schedule
from resilient_requests.testing import (
    FaultServer,
    ReceivedRequest,
    Reply,
    fin,
    fin_then_reset,
    reset,
    respond,
    silence,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Idle times on both sides of a limit of 0.5 s, some way off it for the sake of a busy machine.
RUNGS = "0.1,0.2,1.2"
FORGETS = 0.5
COMMAND = (sys.executable, "-W", "error", "-m", "resilient_requests", "probe")
WITHOUT_RICH = (
    "import sys; sys.modules['rich'] = sys.modules['rich.console'] = None; "
    "from resilient_requests.cli import main; raise SystemExit(main(['probe', *sys.argv[1:]]))"
)
PLAIN = (sys.executable, "-c", WITHOUT_RICH)
NO_LAB = why_not()
NGINX = shutil.which("nginx") or next(iter(Path("/usr/sbin").glob("nginx")), None)


class Told:
    """The output of one run of the command, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    def results(self) -> dict[float, str]:
        """The result by idle time."""
        return {each["idle"]: each["result"] for each in self.json["rungs"]}


@pytest.fixture
def probe(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Run the command in this process."""

    def probe(*arguments: str) -> Told:
        code = cli.main(["probe", *arguments])
        return Told(code, *capsys.readouterr())

    return probe


def in_process(*arguments: str, **environment: str) -> Told:
    """Run the real command in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    return Told(done.returncode, done.stdout, done.stderr)


def trusting(monkeypatch: pytest.MonkeyPatch, server: FaultServer) -> FaultServer:
    """Trust a server's CA, as an operator would tell requests to."""
    if server.ca_path:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", server.ca_path)
    return server


def sample(idle: float, result: Result = Result.REUSED, **facts: Any) -> Sample:
    """A connection that was idle for so long, and its result."""
    return Sample(idle=idle, finding=Finding(result=result), **facts)


@contextlib.contextmanager
def interrupted(
    *arguments: str, after: str | FaultServer, reader_leaves: bool = False
) -> Iterator[Told]:
    """Run the command until it has said something, or sent a request, and press Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = ""
        if isinstance(after, FaultServer):
            assert after.wait_for_requests(1, 30)
        else:
            while after not in said:
                said += process.stderr.readline() or pytest.fail(said)
        if reader_leaves:
            process.stdout.close()
        process.send_signal(signal.SIGINT)
        out = "" if reader_leaves else process.stdout.read()
        rest = process.stderr.read()
        yield Told(process.wait(30), out, said + rest)


def samples_of(times: tuple[float, ...], finished: list[Sample]) -> list[float]:
    """Return the idle times that a run with these samples tells of."""
    with Target("http://127.0.0.1:1") as target:
        run = ProbeRun(target, schedule(times, 0.01))
    for each in finished:
        run._samples.append(each)
    return [each.idle for each in run.samples()]


# -- real servers ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(("fault", "result"), [("reset", "reset on reuse"), ("drop", "black hole")])
def test_a_path_that_forgets_is_found_out(
    probe: Callable[..., Told],
    monkeypatch: pytest.MonkeyPatch,
    fault_server_factory: Callable[..., FaultServer],
    *,
    tls: bool,
    fault: str,
    result: str,
) -> None:
    """The operator learns the side at fault, two times around the limit, and a number to set."""
    server = trusting(
        monkeypatch, fault_server_factory(tls=tls, idle_limit=FORGETS, idle_fault=fault)
    )
    told = probe(server.url, "--rungs", RUNGS, "--json")

    assert told.code == 1
    found = told.results()
    assert found[0.1] == found[0.2] == "reused"
    assert found[1.2] == result
    limit = told.json["limit"]
    assert limit["side"] == "path"
    assert limit["last_good"] < FORGETS < limit["first_bad"]
    assert limit["first_bad"] - limit["last_good"] <= 0.2 + 1e-6  # one step of the refinement
    assert not limit["with_notice"]
    assert 0 < told.json["recommended_keepalive"] <= limit["last_good"] / 2
    assert all(
        each["control"] is not None for each in told.json["rungs"] if each["result"] == result
    )


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True])
def test_a_server_that_closes_is_told_from_a_path_that_forgets(
    probe: Callable[..., Told],
    monkeypatch: pytest.MonkeyPatch,
    fault_server_factory: Callable[..., FaultServer],
    *,
    tls: bool,
) -> None:
    """A FIN in time is the server's policy: nobody has to look for a broken firewall."""
    server = trusting(monkeypatch, fault_server_factory(tls=tls, patience=FORGETS))
    told = probe(server.url, "--rungs", RUNGS, "--json")

    assert told.results()[1.2] == "closed by the peer"
    assert {each["error"] for each in told.json["rungs"]} == {None}
    assert told.json["limit"]["side"] == "server"
    assert told.json["limit"]["with_notice"]
    assert told.json["limit"]["last_good"] < FORGETS


@pytest.mark.slow
def test_a_limit_below_the_last_times_is_narrowed_down_too(
    probe: Callable[..., Told], fault_server_factory: Callable[..., FaultServer]
) -> None:
    """The narrowing begins once two times around the limit are known.

    It tries only times between them.
    """
    server = fault_server_factory(idle_limit=0.7)
    told = probe(server.url, "--rungs", "0.1,0.2,1.2,1.4", "--json")
    limit = told.json["limit"]

    assert limit["last_good"] < 0.7 < limit["first_bad"]
    assert limit["first_bad"] - limit["last_good"] <= 0.2 + 1e-6
    assert [each["idle"] for each in told.json["rungs"] if each["refined"]] == [0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("ending", "result"),
    [
        (fin(), "closed by the peer"),
        (fin_then_reset(), "closed by the peer"),
        (reset(applies=False), "reset on reuse"),
        (respond(b"x" * 9, cut=("head", 9), ending="reset"), "reset on reuse"),
    ],
    ids=["fin", "fin, reset", "reset", "head cut"],
)
def test_a_close_that_crosses_the_request_is_the_servers(
    probe: Callable[..., Told],
    monkeypatch: pytest.MonkeyPatch,
    fault_server_factory: Callable[..., FaultServer],
    *,
    tls: bool,
    ending: Reply,
    result: str,
) -> None:
    """An idle time right at the server's limit: it sends its FIN before it sees the request."""
    server = trusting(monkeypatch, fault_server_factory(tls=tls))

    def answer(request: ReceivedRequest) -> Reply:
        return (
            respond(b"ok") if server.connections[request.connection - 1].requests == 1 else ending
        )

    server.default = answer
    told = probe(server.url, "--rungs", "0.02", "--json")

    assert told.results()[0.02] == result


@pytest.mark.parametrize("tls", [False, True])
def test_an_unasked_answer_is_a_close(
    monkeypatch: pytest.MonkeyPatch, fault_server_factory: Callable[..., FaultServer], *, tls: bool
) -> None:
    """Some servers say 408 before they leave an idle connection; session tickets are no answer."""
    server = trusting(monkeypatch, fault_server_factory(tls=tls))
    with Target(server.url) as target:
        connection = ProbeConnection(target)
        connection.open()
        before = connection.look()
        server.push_idle(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        while not (found := connection.look()):
            server.wait_for_disconnects(1, 0.01)
        connection.close()

    assert before is None
    assert (found.result, found.error) == (Result.CLOSED, "unsolicited bytes")


def test_a_reset_while_idle_is_told(fault_server: FaultServer) -> None:
    """The reset comes before the next use, so it costs no call."""
    with Target(fault_server.url) as target:
        connection = ProbeConnection(target)
        connection.open()
        fault_server.kill_idle("reset")
        while not (found := connection.look()):
            fault_server.wait_for_disconnects(1, 0.01)
        connection.close()

    assert found.result is Result.RESET_IDLE
    assert found.error == "ConnectionResetError(ECONNRESET)"


def test_idle_connections_that_survive_need_no_window(
    probe: Callable[..., Told], fault_server: FaultServer
) -> None:
    """A deployment check waits for exit code 0."""
    told = probe(fault_server.url, "--rungs", "0.02,0.04,0.06", "--json")

    assert told.code == 0
    assert told.json["recommended_keepalive"] is None
    assert told.json["server_hint"] is None
    assert told.results() == {0.02: "reused", 0.04: "reused", 0.06: "reused"}


def test_each_idle_time_has_a_connection_of_its_own(
    probe: Callable[..., Told], fault_server: FaultServer
) -> None:
    """Two requests on each, and none on a connection that another request has kept warm."""
    probe(fault_server.url, "--rungs", "0.02,0.04", "--json")

    counts = sorted(each.requests for each in fault_server.connections)
    # The dial that is timed, the fresh one, two, and four between them.
    assert counts == [0, 1, 2, 2, 2, 2, 2, 2]
    assert {each.method for each in fault_server.requests} == {"GET"}


def test_a_post_is_only_sent_when_asked_for(
    probe: Callable[..., Told], fault_server: FaultServer
) -> None:
    """Some POSTs are paid for, and each idle time costs two."""
    told = probe(fault_server.url, "--rungs", "0.02", "--method", "post")

    assert {each.method for each in fault_server.requests} == {"POST"}
    assert "POST" in told.err


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_other_methods_are_sent_as_they_are(
    probe: Callable[..., Told], fault_server: FaultServer, method: str
) -> None:
    """A HEAD has no body, for any announced length."""
    told = probe(fault_server.url, "--rungs", "0.02", "--method", method, "--json")

    assert told.code == 0
    assert {each.method for each in fault_server.requests} == {method}


def test_the_hint_of_the_server_is_shown(
    probe: Callable[..., Told], fault_server_factory: Any
) -> None:
    """The adapter obeys it by itself."""
    server = fault_server_factory(default=respond(b"ok", keep_alive="timeout=5"))
    told = probe(server.url, "--rungs", "0.02")

    assert "Keep-Alive hint: 5 s" in told.out


def test_a_server_that_keeps_nothing_is_no_failure(
    probe: Callable[..., Told], fault_server_factory: Any
) -> None:
    """With Connection: close no connection is ever idle."""
    server = fault_server_factory(default=respond(b"ok", framing="close"))
    told = probe(server.url, "--rungs", "0.02", "--json")

    assert told.code == 0
    assert told.results() == {0.02: "not kept"}


@pytest.mark.slow
def test_an_answer_without_end_does_not_hold_the_probe_up(
    probe: Callable[..., Told], fault_server_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody will probe an event stream."""
    monkeypatch.setattr("resilient_requests.cli.probe._connection._FIRST_ANSWER", 0.1)
    server = fault_server_factory(default=stream([b": ping\n\n", 0.05] * 100))
    since = time.monotonic()
    told = probe(server.url, "--rungs", "0.02", "--json")

    assert told.results() == {0.02: "not kept"}
    in_time(time.monotonic() - since, 3)


@pytest.mark.slow
def test_a_server_that_fails_altogether_is_not_blamed_on_idleness(
    probe: Callable[..., Told], fault_server: FaultServer
) -> None:
    """The control connection fares as badly, so the sample says nothing."""
    # The fresh connection, the sample, four below it, and one with TCP keep-alive.
    times = 7
    fault_server.script(*[respond(b"ok")] * times)
    fault_server.default = silence()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resilient_requests.cli.probe._connection._FIRST_ANSWER", 0.2)
        told = probe(fault_server.url, "--rungs", "1.1", "--json")

    assert set(told.results().values()) == {"control failed"}
    assert told.code == 3  # nothing could be judged
    assert told.json["recommended_keepalive"] is None


@pytest.mark.slow
def test_each_address_is_dialled(
    probe: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, fault_server: FaultServer
) -> None:
    """One that is dead, or slow, costs every dial of plain requests, and shows nowhere else."""
    good = info("127.0.0.1", fault_server.port)
    with swallowing("::1") as dead, refusing("127.0.0.2") as shut:
        resolving(monkeypatch, many=[dead.info, good, shut, good])
        told = probe(f"http://many.test:{fault_server.port}", "--rungs", "0.02", "--json")
        told_again = probe(f"http://many.test:{fault_server.port}", "--rungs", "0.02")
    found = {each.pop("host"): each for each in told.json["addresses"]}

    connect = found["127.0.0.1"].pop("connect")
    assert found == {
        "::1": {"family": "IPv6", "connect": None, "error": "timed out", "won": False},
        "127.0.0.1": {"family": "IPv4", "error": None, "won": True},
        "127.0.0.2": {
            "family": "IPv4",
            "connect": None,
            "error": "Connection refused",
            "won": False,
        },
    }
    assert 0 < connect < 1
    assert told.json["target"]["connect"] < 2  # not the limit of 10 s, which plain requests waits
    lines = [line for line in told_again.out.splitlines() if "IPv" in line]
    assert [line.split()[:2] for line in lines] == [
        ["address", "IPv6"],
        ["IPv4", "127.0.0.1"],
        ["IPv4", "127.0.0.2"],
    ]
    assert [line.endswith("first") for line in lines] == [False, True, False]
    assert "timed out" in lines[0]
    assert re.search(r" \d+ ms ", lines[1])


def test_an_address_that_has_lost_is_timed_too(
    probe: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, fault_server: FaultServer
) -> None:
    """The adapter has no need to dial it, but a user may be looking for the slow one."""
    first, second = info("127.0.0.1", fault_server.port), info("::1", fault_server.port)
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", 0))
        other.listen()
        second = info("::1", other.getsockname()[1])
        resolving(monkeypatch, two=[first, second])
        told = probe(f"http://two.test:{fault_server.port}", "--rungs", "0.02", "--json")

    assert [(each["family"], each["won"]) for each in told.json["addresses"]] == [
        ("IPv4", True),
        ("IPv6", False),
    ]
    assert all(each["connect"] < 1 for each in told.json["addresses"])


def test_the_addresses_of_an_unreachable_host_are_shown(
    probe: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At that moment somebody needs to know which of them is at fault."""
    with refusing("127.0.0.1") as one, refusing("127.0.0.2") as other:
        resolving(monkeypatch, shut=[one, other])
        told = probe("http://shut.test:81", "--json")

    assert told.code == 3
    assert [each["error"] for each in told.json["addresses"]] == ["Connection refused"] * 2
    assert "address  IPv4  127.0.0.1  Connection refused\n" in told.err
    assert "         IPv4  127.0.0.2  Connection refused\n" in told.err


@pytest.mark.parametrize("proxy", ["http://proxy.test:81", "proxy.test:81", "socks5://proxy.test"])
def test_behind_a_proxy_the_addresses_are_the_proxys(
    probe: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """The name of the server is resolved by the proxy."""
    monkeypatch.setenv("http_proxy", proxy)
    with refusing("127.0.0.1") as one, refusing("127.0.0.2") as other:
        asked = resolving(monkeypatch, proxy=[one, other])
        told = probe("http://elsewhere.test:82")

    assert told.code == 3
    assert set(asked) == {"proxy.test"}
    assert "proxy    IPv4  127.0.0.1  Connection refused\n" in told.err


def test_a_host_that_is_not_there_is_unreachable(probe: Callable[..., Told]) -> None:
    """One line says why, and scripts get their JSON object nevertheless."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    told = probe(f"http://someone:hunter2@127.0.0.1:{port}/?token=hunter2", "--json")

    assert told.code == 3
    assert told.json["recommended_keepalive"] is None
    assert "ECONNREFUSED" in told.err
    assert "hunter2" not in told.out + told.err


def test_an_untrusted_certificate_is_unreachable(
    probe: Callable[..., Told], fault_server_tls: FaultServer
) -> None:
    """It is no path that forgets."""
    told = probe(fault_server_tls.url)

    assert told.code == 3
    assert "certificate" in told.err.lower()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["ftp://example.com"],
        ["not a url"],
        ["http://"],
        ["http://127.0.0.1:1", "--max-idle", "0"],
        ["http://127.0.0.1:1", "--max-idle", "-1"],
        ["http://127.0.0.1:1", "--max-idle", "nan"],
        ["http://127.0.0.1:1", "--max-idle", "soon"],
        ["http://127.0.0.1:1", "--method", "DELETE"],
    ],
)
def test_wrong_usage_is_told_apart(probe: Callable[..., Told], arguments: list[str]) -> None:
    """2, as every command line has it, and not the 3 of a dead network."""
    try:
        code = probe(*arguments).code
    except SystemExit as exit_:  # argparse's own
        code = int(exit_.code or 0)

    assert code == 2


def test_a_proxy_is_used_and_shown_without_its_password(
    probe: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, fault_server: FaultServer
) -> None:
    """The idle limit is that of the path that calls take, and the report goes into a ticket."""
    monkeypatch.setenv("http_proxy", fault_server.url.replace("//", "//someone:hunter2@"))
    told = probe("http://api.example.invalid/models?key=hunter2", "--rungs", "0.02")

    assert told.code == 0
    assert fault_server.requests[0].target == "http://api.example.invalid/models?key=hunter2"
    assert "Proxy-Authorization" in dict(fault_server.requests[0].headers)
    assert fault_server.url in told.out
    assert "hunter2" not in told.out + told.err


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("http://someone:hunter2@127.0.0.1:3128", "http://127.0.0.1:3128"),
        ("http://someone:hun@ter2@127.0.0.1:3128", "http://127.0.0.1:3128"),
        ("127.0.0.1:3128", "127.0.0.1:3128"),
    ],
)
def test_a_proxys_credentials_are_shown_in_no_form(
    monkeypatch: pytest.MonkeyPatch, given: str, shown: str
) -> None:
    """Requests takes a password with an "@" in it."""
    monkeypatch.setenv("http_proxy", given)
    monkeypatch.delenv("no_proxy", raising=False)
    with Target("http://api.example.invalid/") as target:
        assert target.proxy == shown


@pytest.mark.slow
@pytest.mark.parametrize("kind", [HTTPProxy, SOCKS5Proxy])
def test_a_proxy_that_forgets_tunnels_is_found_out(
    probe: Callable[..., Told],
    monkeypatch: pytest.MonkeyPatch,
    fault_server_tls: FaultServer,
    kind: Any,
) -> None:
    """Inside a tunnel nobody else could see it."""
    trusting(monkeypatch, fault_server_tls)
    with kind(idle_limit=FORGETS) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        told = probe(fault_server_tls.url, "--rungs", RUNGS, "--json")

    assert told.code == 1
    assert proxy.connects
    assert told.json["limit"]["side"] == "path"
    assert told.json["limit"]["last_good"] < FORGETS < told.json["limit"]["first_bad"]


# -- the URL and the headers ---------------------------------------------------------------------


def test_a_host_without_a_scheme_is_asked_over_tls(
    probe: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, fault_server_tls: FaultServer
) -> None:
    """People type a host."""
    trusting(monkeypatch, fault_server_tls)
    host = fault_server_tls.url.removeprefix("https://")
    told = probe(f"{host}/v1?q=1", "--rungs", "0.02", "--json")

    assert told.code == 0
    assert told.json["target"]["tls"] == "TLSv1.3"
    assert {each.target for each in fault_server_tls.requests} == {"/v1?q=1"}
    assert told.err.startswith(f"probing https://{host}: about 0.02 s, at most 0.04 s\n")


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("api.example.com", "api.example.com", 443),
        ("api.example.com:8443/v1", "api.example.com", 8443),
        ("me:hunter2@api.example.com", "api.example.com", 443),
        ("HTTP://api.example.com", "api.example.com", 80),
        ("[::1]:8443", "::1", 8443),
    ],
)
def test_a_target_is_where_its_url_leads(url: str, host: str, port: int) -> None:
    """The scheme is https:// unless the target names another."""
    with Target(url) as target:
        assert (target.host, target.port) == (host, port)


def test_headers_are_sent_with_each_request_and_shown_nowhere(
    probe: Callable[..., Told], fault_server: FaultServer
) -> None:
    """Some servers end the connection of a caller that they do not know."""
    secret = "hunter2"
    headers = ("--header", f"authorization: Bearer {secret}", "--header", "User-Agent:mine")
    told = probe(fault_server.url, *headers, "--rungs", "0.02", "--json")

    assert told.code == 0
    requests = fault_server.requests
    assert {each.header("Authorization") for each in requests} == {f"Bearer {secret}"}
    assert {each.header("User-Agent") for each in requests} == {"mine"}
    assert secret not in told.out + told.err


@pytest.mark.parametrize(
    "header",
    [
        "Authorization Bearer hunter2",
        ": hunter2",
        "Auth orization: hunter2",
        "X: hunter2\nY: z",
        "X: hunter2\x00",
        "X: hunter2\N{EURO SIGN}",
        "Content-Length: 2",
        "transfer-encoding: chunked",
    ],
)
def test_a_bad_header_is_wrong_usage(
    probe: Callable[..., Told], capsys: pytest.CaptureFixture[str], header: str
) -> None:
    """The error comes before any request, and without the value, which may be a key."""
    with pytest.raises(SystemExit) as exited:
        probe("http://127.0.0.1:1", "--header", header)

    assert exited.value.code == 2
    told = capsys.readouterr().err
    assert "argument --header: " in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("proxy", "code"),
    [
        ("http://[", 2),
        ("::::", 2),
        ("foo://127.0.0.1:1", 2),
        ("http://me:very/hunter2@127.0.0.1:1", 2),
        ("http://me:hunter2@a..b:1", 3),
        ("http://me:hunter2@127.0.0.1:1", 3),
    ],
)
def test_a_proxy_that_cannot_be_used_is_told_in_one_line(
    probe: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, proxy: str, code: int
) -> None:
    """Its URL is from the environment, where nobody has checked it."""
    monkeypatch.setenv("http_proxy", proxy)
    told = probe("http://api.example.invalid/")

    assert (told.code, told.out) == (code, "")
    assert told.err.count("\n") == 1
    assert "hunter2" not in told.err


def test_an_error_names_the_host_and_the_proxy(
    probe: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log of ten probes must say which of them failed."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    told = probe("api.example.invalid", "--json")

    way = "https://api.example.invalid:443 through http://127.0.0.1:1"
    assert told.err.startswith(f"no connection to {way}: ConnectionRefusedError(ECONNREFUSED): ")
    assert told.json["target"] == {"host": "api.example.invalid", "port": 443}


# -- Ctrl-C --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ctrl_c_prints_the_samples_so_far(fault_server: FaultServer) -> None:
    """A minute of waiting is not thrown away."""
    with terminal([*COMMAND, fault_server.url, "--rungs", "0.1,0.2,60"]) as shown:
        shown.wait_for("idle 0.1 s: reused").wait_for("idle 0.2 s: reused")
        since = time.monotonic()
        code = shown.press_ctrl_c().end()

    assert code == 130
    assert re.search(r"^ +0\.2 s  #+ +reused +\d+ ms$", shown.text, re.MULTILINE)
    assert shown.text.rstrip().endswith(
        "Interrupted: longer idle times, and some in between, were not tried.\n"
        "So far idle connections survive up to 0.2 s."
    )
    assert "Traceback" not in shown.text
    in_time(time.monotonic() - since, 5)


@pytest.mark.slow
def test_ctrl_c_prints_one_json_object(fault_server_factory: Any) -> None:
    """The object has the limit, if it is known already."""
    server = fault_server_factory(idle_limit=FORGETS)
    with interrupted(server.url, "--rungs", "0.1,1,60", "--json", after="idle 1 s: ") as told:
        found = json.loads(told.out)

    assert told.code == 130
    assert found["interrupted"] is True
    assert found["recommended_keepalive"] == 0.0
    assert (found["rungs"][0]["idle"], found["rungs"][0]["result"]) == (0.1, "reused")
    assert found["limit"]["first_bad"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_ctrl_c_before_the_first_answer_is_no_traceback(
    fault_server_factory: Any, arguments: tuple[str, ...]
) -> None:
    """Nothing is known then, and scripts get their JSON object nevertheless."""
    server = fault_server_factory(default=silence())
    with interrupted(server.url, *arguments, after=server) as told:
        pass

    assert told.code == 130
    assert "Traceback" not in told.err
    if arguments:
        assert (told.json["error"], told.json["interrupted"]) == ("interrupted", True)
        assert told.json["rungs"] == []
    else:
        assert told.out == ""


@pytest.mark.slow
def test_ctrl_c_in_a_pipe_is_130_though_its_reader_is_gone(fault_server: FaultServer) -> None:
    """``probe ... | grep``: the key interrupts both."""
    with interrupted(
        fault_server.url, "--rungs", "0.1,60", after="idle 0.1 s: ", reader_leaves=True
    ) as told:
        pass

    assert told.code == 130
    assert "Traceback" not in told.err


class Impatient:
    """A watcher who presses Ctrl-C as soon as all connections have sent their requests."""

    def __init__(self, server: FaultServer, count: int) -> None:
        self._server = server
        self._count = count

    def at(self, done: float, total: float, text: str) -> None:
        assert self._server.wait_for_requests(self._count)
        raise KeyboardInterrupt

    def note(self, text: str, style: str = "") -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("reply", [respond(b"ok"), silence()], ids=["idle", "awaiting an answer"])
def test_ctrl_c_ends_all_connections_at_once(
    fault_server_factory: Callable[..., FaultServer], reply: Reply
) -> None:
    """No thread waits for its idle time, nor for an answer."""
    server = fault_server_factory(default=reply)
    with Target(server.url) as target:
        run = ProbeRun(target, schedule([60.0], 0.01))
        with pytest.raises(KeyboardInterrupt):
            run.run(Impatient(server, 6))  # the longest, four below it, one with TCP keep-alive

    assert [each.name for each in threading.enumerate() if each.name.startswith("probe")] == []


def test_times_tried_in_advance_count_where_the_longest_is_not_known() -> None:
    """They count only after Ctrl-C; otherwise they only repeat the longest one."""
    times = (1.0, 2.0, 10.0)
    finished = [sample(1.0), sample(2.0), sample(6.0, refined=True)]

    assert samples_of(times, finished) == [1.0, 2.0, 6.0]
    assert samples_of(times, [*finished, sample(10.0, kept_alive=True)]) == [1.0, 2.0, 6.0, 10.0]
    assert samples_of(times, [*finished, sample(10.0)]) == [1.0, 2.0, 10.0]
    assert samples_of(times, [*finished, sample(10.0, Result.NOT_KEPT)]) == [1.0, 2.0, 10.0]
    assert samples_of(times, [*finished, sample(10.0, Result.RESET)]) == [1.0, 2.0, 6.0, 10.0]
    forgotten = [sample(1.0), sample(2.0, Result.RESET), *finished[2:], sample(10.0, Result.RESET)]
    assert samples_of(times, forgotten) == [1.0, 2.0, 10.0]


# -- its output ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_real_command_prints_plain_text_into_a_pipe(fault_server_factory: Any) -> None:
    """The picture on stdout, progress on stderr; the environment brings no escape sequences."""
    server = fault_server_factory(idle_limit=FORGETS)
    told = in_process(
        server.url + "/?token=hunter2", "--rungs", RUNGS, FORCE_COLOR="1", TERM="xterm-256color"
    )

    assert told.code == 1
    assert "\x1b" not in told.out + told.err
    assert told.out.isascii()
    assert max(map(len, told.out.splitlines())) <= 80
    assert re.search(r"^ +0\.2 s  #+ +reused +\d+ ms$", told.out, re.MULTILINE)
    assert re.search(r"^ +1\.2 s  #+x +reset on reuse +\d+ ms$", told.out, re.MULTILINE)
    assert re.search(r"Recommended: keepalive=(\S+)  \(RESILIENT_REQUESTS_KEEPALIVE=\1\)", told.out)
    assert "idle 0.2 s: reused" in told.err
    assert "hunter2" not in told.out + told.err


def test_the_json_has_its_promised_shape(
    probe: Callable[..., Told], fault_server: FaultServer
) -> None:
    """Scripts read it."""
    found = probe(fault_server.url, "--rungs", "0.02", "--json").json

    assert {
        "rungs",
        "server_hint",
        "recommended_keepalive",
        "target",
        "limit",
        "tcp_keepalive",
        "proxy",
    } <= set(found)
    assert set(found["rungs"][0]) == {"idle", "result", "after", "error", "refined", "control"}
    assert found["target"]["http"] == "HTTP/1.1"
    assert found["target"]["tls"] is None


def test_the_tls_version_is_told(
    probe: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, fault_server_tls: FaultServer
) -> None:
    """A path may treat one version in its own way."""
    trusting(monkeypatch, fault_server_tls)
    told = probe(fault_server_tls.url, "--rungs", "0.02")

    assert "TLSv1.3" in told.out
    assert f"CA: {fault_server_tls.ca_path}" in told.out


@pytest.mark.slow
def test_a_watcher_sees_a_bar_and_how_long_it_will_take(fault_server: FaultServer) -> None:
    """Two minutes without a sign of life look like a hang."""
    with terminal([*COMMAND, fault_server.url, "--rungs", "0.1,2"]) as shown:
        code = shown.end()

    assert code == 0
    assert f"probing {fault_server.url}: about 2 s, at most 4 s" in shown.text
    assert "idle 0.1 s: reused, about 2 s left" in shown.text
    assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in shown.text
    assert re.search(r"idle [^,\n]+: reused\n", shown.text)  # the last one
    assert shown.text.rstrip().endswith("No window is needed: idle connections survive up to 2 s.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "environment"),
    [(PLAIN, {"TERM": "xterm-256color"}), (COMMAND, {"TERM": "dumb"})],
    ids=["without rich", "dumb"],
)
def test_a_terminal_that_cannot_be_drawn_on_gets_lines(
    fault_server: FaultServer, command: tuple[str, ...], environment: dict[str, str]
) -> None:
    """The core dependencies suffice."""
    arguments = [*command, fault_server.url, "--rungs", "0.1"]
    with terminal(arguments, environment=environment) as shown:
        code = shown.end()

    assert code == 0
    assert "idle 0.1 s: reused" in shown.text
    assert "\x1b" not in shown.raw


# -- its conclusions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "hint", "side", "keepalive"),
    [
        ([sample(20), sample(30, Result.RESET)], None, "path", 10.0),
        ([sample(5), sample(10, Result.BLACK_HOLE)], None, "path", 2.5),
        ([sample(5.7), sample(10, Result.BLACK_HOLE)], None, "path", 2.8),
        ([sample(20), sample(30, Result.RESET)], 5.0, "path", 3.0),
        ([sample(20), sample(30, Result.RESET)], 1.0, "path", 0.0),
        ([sample(0.2, Result.RESET)], None, "path", 0.0),
        ([sample(2.6), sample(3.2, Result.CLOSED)], None, "server", 1.3),
        ([sample(60), sample(75, Result.CLOSED)], None, "server", None),
        ([sample(2), sample(3, Result.RESET), sample(5, Result.CLOSED)], None, "server", 1.0),
        ([sample(60), sample(75, Result.RESET_IDLE)], None, "path", None),
        ([sample(5), sample(10, Result.CONTROL_FAILED)], None, None, None),
        ([sample(5), sample(10, Result.NOT_OPENED)], 5.0, None, None),
        ([sample(5), sample(10, Result.RESET), sample(20)], None, "path", 2.5),
    ],
)
def test_the_recommendation(
    samples: list[Sample], hint: float | None, side: str | None, keepalive: float | None
) -> None:
    """The least of half of the survived time, the server's grant less a margin, the default."""
    verdict = judge(samples, hint)

    assert (verdict.side, verdict.keepalive) == (side, keepalive)
    assert verdict.is_conclusive


@pytest.mark.parametrize(
    ("last_good", "hint", "said"),
    [
        (22, None, "the default, below half of the 22 s that were survived"),
        (5, None, "half of the 5 s that were survived"),
        (22, 5.0, "the server's hint of 5 s, less a margin of 2 s"),
    ],
)
def test_the_reason_goes_on_after_because_it_is(
    last_good: float, hint: float | None, said: str
) -> None:
    """The text and the JSON share its words."""
    assert judge([sample(last_good), sample(30, Result.RESET)], hint).reason == said


@pytest.mark.parametrize(
    "samples", [[], [sample(1, Result.NOT_OPENED)], [sample(1, Result.CONTROL_FAILED)]]
)
def test_nothing_judged_is_no_good_news(samples: list[Sample]) -> None:
    """Otherwise a server that dies during the probe would pass."""
    assert judge(samples, None) == Verdict(
        side=None,
        last_good=0.0,
        first_bad=None,
        with_notice=False,
        keepalive=None,
        reason="no connection could be judged",
        is_conclusive=False,
    )


@pytest.mark.parametrize(
    ("probed", "helps"),
    [
        ([sample(20), sample(30), sample(45)], True),
        ([sample(20), sample(30, Result.RESET)], False),
        ([sample(30), sample(45, Result.BLACK_HOLE)], False),
        ([sample(20)], None),  # not beyond the limit
        ([sample(30, Result.NOT_OPENED)], None),
        ([], None),
    ],
)
def test_whether_tcp_keepalive_helps(probed: list[Sample], helps: bool | None) -> None:
    """It does where connections outlive the limit with it."""
    assert keepalive_helps([sample(20), sample(30, Result.RESET)], probed) is helps


def test_tcp_keepalive_is_not_judged_without_a_limit() -> None:
    """Without a limit there is nothing that it could help against."""
    assert keepalive_helps([sample(20)], [sample(20)]) is None


@pytest.mark.parametrize(
    ("longest", "times"),
    [
        (120.0, (1, 2, 5, 10, 20, 30, 45, 60, 90, 120)),
        (300.0, (1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300)),
        (50.0, (1, 2, 5, 10, 20, 30, 50)),
        (0.5, (0.5,)),
    ],
)
def test_the_longest_idle_time_is_as_asked_for(longest: float, times: tuple[float, ...]) -> None:
    """The times below it are the usual ones."""
    assert idle_times(longest) == times


@pytest.mark.parametrize("longest", [2.0, 5.0, 7.0, 10.0, 20.0, 50.0, 120.0, 300.0, 3600.0])
@pytest.mark.parametrize("usual", [0.01, 0.5, 15.0])
def test_a_probe_takes_less_than_twice_its_longest_time(longest: float, usual: float) -> None:
    """The worst case: a black hole at the last time but one, and another just below it."""
    *_, before, bad = (0.0, *idle_times(longest)[:-1])
    wait = schedule([longest], usual).answer_limit

    assert bad + wait + max(between(before, bad)) + wait < 2 * longest


@pytest.mark.parametrize(
    ("longest", "idle", "interval"), [(120.0, 15, 5), (119.0, 14, 4), (10.0, 1, 1)]
)
def test_the_adapters_own_keepalive_is_tried_where_there_is_time(
    longest: float, idle: int, interval: int
) -> None:
    """A short probe needs packets that come sooner."""
    keepalive = schedule([longest], 0.01).keepalive

    assert (keepalive.idle, keepalive.interval) == (idle, interval)


def test_a_sample_with_tcp_keepalive_is_called_so() -> None:
    """Its twin without is listed beside it."""
    assert str(sample(5.0, kept_alive=True)) == "5 s with TCP keep-alive"


# -- real middleboxes and servers ------------------------------------------------------------------

_NGINX_CONF = """
daemon off; master_process off; pid {here}/pid; error_log stderr;
events {{ worker_connections 256; }}
http {{
  access_log off; keepalive_timeout 3;
  client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;
  uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "ok"; }} }}
}}
"""


@contextlib.contextmanager
def nginx(here: Path) -> Iterator[str]:
    """Run nginx on loopback, and yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    conf = here / "nginx.conf"
    conf.write_text(_NGINX_CONF.format(here=here, port=port), encoding="utf-8")
    server = subprocess.Popen(
        [str(NGINX), "-c", str(conf), "-p", str(here)], stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 5
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < until, "nginx does not listen"
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.mark.slow
@pytest.mark.skipif(NGINX is None, reason="no nginx here: apt-get install nginx-light")
def test_nginx_is_named_with_its_own_limit(probe: Callable[..., Told], tmp_path: Path) -> None:
    """keepalive_timeout 3: the server closes, and the limit is right within one step."""
    with nginx(tmp_path) as url:
        told = probe(url, "--max-idle", "10", "--json")

    limit = told.json["limit"]
    assert (limit["side"], limit["with_notice"]) == ("server", True)
    assert limit["last_good"] <= 3.0 <= limit["first_bad"]
    assert limit["first_bad"] - limit["last_good"] <= 0.6 + 1e-6
    assert told.json["recommended_keepalive"] < 3
    assert not told.json["tcp_keepalive"]["helps"]


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.skipif(NO_LAB is not None, reason=f"no laboratory here: {NO_LAB}")
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("strangers", ["reset", "drop"])
def test_a_nat_that_forgets_after_four_seconds(
    probe: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, strangers: Any, scheme: str
) -> None:
    """A real connection tracker: its side, its limit, TCP keep-alive that keeps it awake."""
    since = time.monotonic()
    with Lab(memory=4, strangers=strangers) as lab, lab.client.entered():
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", lab.ca)
        told = probe(lab.url(scheme), "--max-idle", "10", "--json")

    assert told.code == 1
    limit = told.json["limit"]
    assert (limit["side"], limit["with_notice"]) == ("path", False)
    assert limit["last_good"] <= 4.0 <= limit["first_bad"]
    assert limit["first_bad"] - limit["last_good"] <= 0.6 + 1e-6
    assert told.results()[10.0] == {"reset": "reset on reuse", "drop": "black hole"}[strangers]
    assert told.json["tcp_keepalive"]["helps"]
    in_time(time.monotonic() - since, 20)
