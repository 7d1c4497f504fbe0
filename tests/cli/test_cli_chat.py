"""``resilient-requests chat`` as its users run it: stdout, stderr, and the server's view."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from chat_wires import DATA, EXPECTED, ROLE, USAGE, chunk, good

from resilient_requests import AttemptFailed, AttemptStarted, RetryDenied, cli
from resilient_requests.cli._output import in_words
from resilient_requests.cli.chat import _answer
from resilient_requests.cli.chat._answer import Trace
from resilient_requests.cli.chat._question import ChatSession, Key
from resilient_requests.testing import FaultServer, Reply, reset, respond, silence, sse, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Factory = Callable[..., FaultServer]

KEY = "sk-very-secret-0123456789"
COMMAND = (sys.executable, "-W", "error", "-m", "resilient_requests", "chat")
TYPES = {".sse": "text/event-stream", ".ndjson": "application/x-ndjson"}
SLOWEST = 30.0

pytestmark = pytest.mark.slow


class Told:
    """The output of one run of the command, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def end(self) -> str:
        """The last line on stderr."""
        return self.err.splitlines()[-1]

    def lines(self, start: str) -> list[str]:
        """The lines on stderr that start so."""
        return [line for line in self.err.splitlines() if line.startswith(start)]


def environment(**more: str) -> dict[str, str]:
    """The environment of a run: without keys of this machine's."""
    return {
        **{name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")},
        **more,
    }


def chat(*arguments: str, stdin: str = "", **more: str) -> Told:
    """Run the real command in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        input=stdin.encode(),
        capture_output=True,
        timeout=SLOWEST,
        check=False,
        env=environment(**more),
    )
    return Told(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextlib.contextmanager
def running(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A run that goes on meanwhile; it hears Ctrl-C in the background of a shell, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def server(fault_server_factory: Factory) -> FaultServer:
    """A server whose answer is good."""
    return fault_server_factory(default=good("Hi, you.\n"))


def url_of(server: FaultServer) -> str:
    """Return the URL of its chat."""
    return f"{server.url}/v1/chat/completions"


# -- a complete answer -----------------------------------------------------------------------------


def test_a_pipe_gets_exactly_the_text(fault_server_factory: Factory) -> None:
    """Not a byte more may come: people write ``answer=$(resilient-requests chat ...)``."""
    told = chat(
        "--url",
        url_of(fault_server_factory(default=good("Grüße, 世界 🌍"))),
        "hello",
        PYTHONUTF8="1",
    )

    assert (told.code, told.out) == (0, "Grüße, 世界 🌍")


def test_the_last_line_has_the_figures(fault_server_factory: Factory) -> None:
    """Finish reason, tokens read and written, attempts, seconds."""
    server = fault_server_factory(
        default=sse(chunk("x"), chunk(finish="length"), {"choices": [], "usage": USAGE})
    )
    told = chat("--url", url_of(server), "hello")

    assert re.fullmatch(r"\[length\]  3 in, 4 out  1 attempt  \d+\.\d s", told.end)
    assert told.err.count("\n") == 1


def test_what_is_not_told_is_a_question_mark(server: FaultServer) -> None:
    """A 0 would be a figure."""
    assert "[stop]  ? in, ? out  " in chat("--url", url_of(server), "hello").end


def test_the_prompt_comes_from_stdin(server: FaultServer) -> None:
    """A dash, as everywhere."""
    told = chat("--url", url_of(server), "--model", "m-1", "-", stdin="two\nlines")

    body = json.loads(server.requests[0].body)
    assert told.code == 0
    assert (body["model"], body["messages"]) == ("m-1", [{"role": "user", "content": "two\nlines"}])


@pytest.mark.parametrize("ascii_only", ["ascii"])
def test_what_stdout_cannot_encode_is_no_traceback(
    fault_server_factory: Factory, ascii_only: str
) -> None:
    """Half of a surrogate pair cannot be written anywhere; the rest of the answer can."""
    told = chat(
        "--url",
        url_of(fault_server_factory(default=good("é\ud83d!"))),
        "x",
        PYTHONIOENCODING=ascii_only,
    )

    assert (told.code, told.out) == (0, "??!")


FILES = {
    "openai": "openai.sse",
    "openai-responses": "openai-responses.sse",
    "anthropic": "anthropic.sse",
    "gemini": "gemini.sse",
    "ollama": "ollama.ndjson",
}
HEADERS = {
    "openai": ("Authorization", f"Bearer {KEY}"),
    "openai-responses": ("Authorization", f"Bearer {KEY}"),
    "anthropic": ("x-api-key", KEY),
    "gemini": ("x-goog-api-key", KEY),
    "ollama": None,
}
ASKED: dict[str, Any] = {
    "openai": {
        "messages": [{"role": "user", "content": "hello"}],
        "stream_options": {"include_usage": True},
    },
    "openai-responses": {"input": "hello"},
    "anthropic": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4096},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
    "ollama": {"messages": [{"role": "user", "content": "hello"}]},
}


@pytest.mark.parametrize("dialect", FILES)
def test_each_dialect_is_asked_in_its_own_way(fault_server_factory: Factory, dialect: str) -> None:
    """The body, the header that carries the key, and no other that does."""
    name = FILES[dialect]
    data = (DATA / name).read_bytes()
    server = fault_server_factory(
        default=stream([data], content_type=TYPES[f".{name.rpartition('.')[2]}"])
    )
    told = chat(
        "--url",
        f"{server.url}/{{model}}",
        "--dialect",
        dialect,
        "--key-env",
        "MY_KEY",
        "hello",
        MY_KEY=KEY,
    )

    assert (told.code, told.out) == (0, EXPECTED[name]["content"])
    request = server.requests[0]
    body = json.loads(request.body)
    assert {member: body.get(member) for member in ASKED[dialect]} == ASKED[dialect]
    carried = [(header, value) for header, value in request.headers if KEY in value]
    assert carried == ([] if HEADERS[dialect] is None else [HEADERS[dialect]])
    assert request.header("anthropic-version") == ("2023-06-01" if dialect == "anthropic" else None)
    assert request.target == ("/default?alt=sse" if dialect == "gemini" else "/%7Bmodel%7D")


def test_the_key_of_openai_is_the_default(server: FaultServer) -> None:
    """If it is set, nobody has to name it."""
    chat("--url", url_of(server), "hello", OPENAI_API_KEY=f"{KEY}\n")

    assert server.requests[0].header("Authorization") == f"Bearer {KEY}"


def test_without_a_key_none_is_sent(server: FaultServer) -> None:
    """A server of one's own asks for none."""
    assert chat("--url", url_of(server), "hello").code == 0
    assert server.requests[0].header("Authorization") is None


# -- the other exit codes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "required"),
        (("--idle", "0", "hello"), "above 0"),
        (("--idle", "soon", "hello"), "--idle"),
        (("--idle", "nan", "hello"), "above 0"),
        (("--idle", "86401", "hello"), "at most"),
        (("--dialect", "klingon", "--url", "http://127.0.0.1:1", "hello"), "klingon"),
        (("--dialect", "ollama", "hello"), "--url"),
        (
            ("--key-env", "NO_SUCH_KEY", "--url", "http://127.0.0.1:1", "hello"),
            "NO_SUCH_KEY is not set",
        ),
        (("--key-env", "NO_SUCH_KEY", "hello"), "NO_SUCH_KEY is not set"),
        (("--key-env", "EMPTY_KEY", "hello"), "EMPTY_KEY is not set, or empty"),
        (("--key-env", "BAD_KEY", "hello"), "BAD_KEY holds characters"),
        (("--url", "127.0.0.1:1", "hello"), "http://"),
        (("--url", "http://", "hello"), "InvalidURL"),
        (("--url", f"http://me:very/{KEY}@127.0.0.1:1", "hello"), "InvalidURL"),
        (("--url", f"http://me:{KEY}/very@127.0.0.1:1", "hello"), "InvalidURL"),
        (("--url", "ftp://127.0.0.1", "hello"), "http://"),
        (("--url", "example.com", "hello"), "http://"),
        (("--url", "http://a..b/", "hello"), "InvalidURL"),
        (("--url", "http://127.0.0.1:99999/", "hello"), "InvalidURL"),
        (("--model", "", "hello"), "--model"),
        (("",), "the prompt is empty"),
        (("-",), "the prompt is empty"),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    """The exit code is 2, and a line names the fault."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMPTY_KEY", " ")
        patch.setenv("BAD_KEY", f"{KEY}\nX: y")
        patch.delenv("OPENAI_API_KEY", raising=False)
        nothing = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115  # closed below
        patch.setattr(sys, "stdin", nothing)
        try:
            code = cli.main(["chat", *arguments])
        except SystemExit as exited:
            code = int(exited.code or 0)
        finally:
            sys.stdin.close()

    told = Told(code, *capsys.readouterr())
    assert (told.code, told.out) == (2, "")
    assert said in told.err
    assert KEY not in told.err


@pytest.mark.parametrize("mode", ["0", "1"])
def test_stdin_that_is_no_text_is_wrong_usage(mode: str) -> None:
    """A picture, by mistake."""
    done = subprocess.run(
        [*COMMAND, "-"],
        input=b"\xff\xd8",
        capture_output=True,
        timeout=SLOWEST,
        check=False,
        env=environment(PYTHONUTF8=mode),
    )

    assert done.returncode == 2
    assert b"the prompt is no UTF-8 text" in done.stderr


@pytest.mark.parametrize(
    "reply",
    [
        sse(ROLE, chunk("Half an "), done=False, ending="silence"),
        sse(done=False, ending="silence"),
        silence(),
    ],
    ids=["within the answer", "before its first part", "before the response"],
)
def test_silence_is_3(fault_server_factory: Factory, reply: Reply) -> None:
    """The silence may begin anywhere; the text so far is on stdout."""
    told = chat("--url", url_of(fault_server_factory(default=reply)), "--idle", "0.3", "hello")

    assert told.code == 3
    assert told.out in ("Half an ", "")
    assert "(--idle sets the limit)" in told.err
    assert "idle_timeout" not in told.err
    assert re.match(r"\[(StreamIdle|ReadTimeout)\]  \? in, \? out  [12] attempts?  ", told.end)


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        (sse(chunk("Half an "), done=False), "StreamTruncated"),
        (sse(chunk("Half an "), done=False, ending="reset"), "StreamBroken"),
        (sse(chunk("Half an "), done=False, ending="fin"), "StreamBroken"),
        (sse(chunk("Half an "), "no JSON"), "StreamProtocolError"),
    ],
)
def test_truncated_or_broken_is_4(fault_server_factory: Factory, reply: Reply, name: str) -> None:
    """An answer that is not whole must not look like one to a script."""
    told = chat("--url", url_of(fault_server_factory(default=reply)), "hello")

    assert (told.code, told.out) == (4, "Half an ")
    assert told.end.startswith(f"[{name}]  ")
    assert "accept_bare_eof" not in told.err
    assert ("--accept-bare-eof" in told.err) is (name == "StreamTruncated")


@pytest.mark.parametrize(
    ("items", "end"),
    [([chunk("Half an ")], "bare end"), ([chunk("Half an "), chunk(finish="stop")], "stop")],
)
def test_an_end_without_a_sign_can_be_accepted(
    fault_server_factory: Factory, items: list[Any], end: str
) -> None:
    """Some servers send no sign; the last line names the kind of the end."""
    server = fault_server_factory(default=sse(*items, done=False))
    told = chat("--url", url_of(server), "--accept-bare-eof", "hello")

    assert (told.code, told.out) == (0, "Half an ")
    assert told.end.startswith(f"[{end}]  ")


def test_a_page_of_html_is_4(fault_server_factory: Factory) -> None:
    """A captive portal answers with one."""
    page = respond("<h1>Log in</h1>", headers={"Content-Type": "text/html"})
    told = chat("--url", url_of(fault_server_factory(default=page)), "hello")

    assert (told.code, told.out) == (4, "")
    assert "text/html" in told.err


@pytest.mark.parametrize(
    "reply",
    [
        respond(json.dumps({"error": {"message": f"no such model, {KEY}"}}), status=404),
        respond("<title>no such model</title>", status=502),
        sse(
            {"error": {"message": "no such model", "type": "overloaded_error"}},
            done=False,
            ending="silence",
        ),
    ],
    ids=["HTTP", "gateway", "in the stream"],
)
def test_an_error_of_the_provider_is_5(fault_server_factory: Factory, reply: Reply) -> None:
    """The line has the reason, without the key that it may repeat."""
    told = chat("--url", url_of(fault_server_factory(default=reply)), "hello", OPENAI_API_KEY=KEY)

    assert (told.code, told.out) == (5, "")
    assert "no such model" in told.err
    assert KEY not in told.err


PASSWORD = "k\N{LATIN SMALL LETTER O WITH DIAERESIS}rper 77"
LOGIN = f"me:{urllib.parse.quote(PASSWORD)}@"


@pytest.mark.parametrize("status", [401, 407])
def test_a_password_in_a_url_is_not_repeated(fault_server_factory: Factory, status: int) -> None:
    """The server or the proxy that checks it knows it in plain text, and may repeat it."""
    refusal = respond(json.dumps({"error": f"no {PASSWORD} ({LOGIN}) here"}), status=status)
    url = url_of(fault_server_factory(default=refusal)).replace("//", f"//{LOGIN}")
    if status == 401:
        told = chat("--url", url, "--trace", "hello")
    else:
        told = chat(
            "--url",
            "http://chat.invalid/",
            "--trace",
            "hello",
            http_proxy=url.removesuffix("/chat/completions"),
        )

    assert told.code == 5
    assert "no *** (me:***@) here" in told.err
    assert PASSWORD not in told.err
    assert LOGIN not in told.err


@pytest.mark.parametrize(
    "proxy", [f"http://me:very/{KEY}@127.0.0.1:1", f"http://{KEY}/me@127.0.0.1:1"]
)
def test_a_proxy_that_cannot_be_parsed_is_not_shown(proxy: str) -> None:
    """Nobody can tell which part of it is the password."""
    told = chat("--url", "http://chat.invalid/", "hello", http_proxy=proxy)

    assert told.code in (4, 6)
    assert KEY not in told.err
    assert "very" not in told.err


def test_no_connection_is_6() -> None:
    """Three attempts, and the system's own words."""
    told = chat("--url", "http://127.0.0.1:1/v1?key=hidden", "--trace", "hello", OPENAI_API_KEY=KEY)

    assert (told.code, told.out) == (6, "")
    assert "ECONNREFUSED" in told.err
    assert len(told.lines("attempt ")) == 3
    assert told.lines("attempt 3")[0].endswith("no replay: exhausted")
    assert "  3 attempts  " in told.end
    assert "hidden" not in told.err
    assert KEY not in told.err


def test_a_missing_file_of_certificates_is_no_traceback() -> None:
    """For such a file, requests raises an error that is none of its own."""
    told = chat("--url", "https://127.0.0.1:1/", "hello", REQUESTS_CA_BUNDLE="/no/such/file")

    assert told.code == 6
    assert "/no/such/file" in told.err
    assert "Traceback" not in told.err


def test_no_answer_on_any_connection_is_6(fault_server_factory: Factory) -> None:
    """No answer began, so none was broken."""
    assert chat("--url", url_of(fault_server_factory(default=reset())), "hello").code == 6


def test_redirects_without_end_are_5(fault_server_factory: Factory) -> None:
    """The provider's doing."""
    server = fault_server_factory()
    server.default = respond(status=307, headers={"Location": url_of(server)})

    assert chat("--url", url_of(server), "hello").code == 5


@pytest.mark.parametrize(
    "location",
    [
        "http://[",
        "http://a..b/",
        f"http://{'a' * 64}.example/",
        "http://a b/",
        "https://",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:port/",
        "http://me:hunter2/very@127.0.0.1/",
        "ftp://127.0.0.1/",
        "mailto:me@example.com",
        "\xff",
    ],
)
def test_a_redirect_that_leads_to_no_url_is_5(
    capsys: pytest.CaptureFixture[str], fault_server_factory: Factory, location: str
) -> None:
    """The provider is at fault; plain requests raises the errors of its URL parsers."""
    server = fault_server_factory(default=respond(status=307, headers={"Location": location}))

    code = cli.main(["chat", "--url", url_of(server), "hello"])

    told = Told(code, *capsys.readouterr())
    assert (told.code, told.out) == (5, "")
    (line,) = told.lines("resilient-requests chat: ")
    said = "BadRedirect: the redirect leads to no URL of HTTP"
    assert line == f"resilient-requests chat: {server.host}:{server.port}: {said}"
    assert told.end.startswith("[BadRedirect]  ? in, ? out  1 attempt  ")


def test_an_error_names_the_host_that_a_redirect_has_led_to(
    capsys: pytest.CaptureFixture[str], fault_server_factory: Factory
) -> None:
    """It is there that somebody has to look."""
    elsewhere = fault_server_factory(default=respond(status=503))
    moved = respond(status=307, headers={"Location": f"{elsewhere.url}/?key=hunter2"})
    code = cli.main(["chat", "--url", url_of(fault_server_factory(default=moved)), "hello"])

    told = Told(code, *capsys.readouterr())
    assert told.code == 5
    (line,) = told.lines("resilient-requests chat: ")
    assert line.startswith(f"resilient-requests chat: {elsewhere.host}:{elsewhere.port}: HTTPError")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("reply", "code"),
    [(reset(), 6), (sse(chunk("x"), done=False), 4), (respond(status=401), 5)],
    ids=["no connection", "truncated", "HTTP"],
)
def test_an_error_names_the_host(
    capsys: pytest.CaptureFixture[str], fault_server_factory: Factory, reply: Reply, code: int
) -> None:
    """The credentials beside the host are left out."""
    server = fault_server_factory(default=reply)
    url = url_of(server).replace("//", "//me:hunter2@")
    found = cli.main(["chat", "--url", url, "hello"])

    told = Told(found, *capsys.readouterr())
    assert told.code == code
    (line,) = told.lines("resilient-requests chat: ")
    assert line.startswith(f"resilient-requests chat: {server.host}:{server.port}: ")
    assert "hunter2" not in told.err


@pytest.mark.parametrize(
    "proxy", ["http://[", "http://me:hunter2@a..b:1", "::::", "foo://x", "http://127.0.0.1:1"]
)
def test_a_proxy_that_cannot_be_used_is_6(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """No connection, and the host to which there is none."""
    monkeypatch.setenv("http_proxy", proxy)
    code = cli.main(["chat", "--url", "http://chat.invalid/", "hello"])

    told = Told(code, *capsys.readouterr())
    assert (told.code, told.out) == (6, "")
    (line,) = told.lines("resilient-requests chat: ")
    assert line.startswith("resilient-requests chat: chat.invalid through a proxy: ")
    assert "hunter2" not in told.err


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize(
    ("reply", "text"),
    [(sse(chunk("Half an "), done=False, ending="silence"), "Half an "), (silence(), "")],
    ids=["within the answer", "before the response"],
)
def test_interrupting_closes_the_connection_and_is_130(
    fault_server_factory: Factory, reply: Reply, text: str
) -> None:
    """A user who no longer wants the answer must not go on paying for it."""
    server = fault_server_factory(default=reply)
    arguments = [*COMMAND, "--url", url_of(server), "hello"]
    with running(arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert server.wait_for_requests(1)
        assert process.stdout.read(len(text)) == text
        process.send_signal(signal.SIGINT)
        assert server.wait_for_disconnects(1)
        rest, errors = process.stdout.read(), process.stderr.read()
        code = process.wait(SLOWEST)

    assert (code, rest) == (130, "")
    assert server.connections[0].ended_by == "peer"
    assert errors.startswith("[interrupted]  ? in, ? out  1 attempt  ")
    assert "Traceback" not in errors


def redirected(how: str, *arguments: str) -> Told:
    """A run with a stream of its process redirected as a shell does."""
    line = f"{shlex.join([*COMMAND, *arguments])} {how}"
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        capture_output=True,
        text=True,
        timeout=SLOWEST,
        check=False,
        env=environment(),
    )
    return Told(done.returncode, done.stdout, done.stderr)


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize(
    ("how", "prompt", "said"),
    [(">&-", "hello", "stdout is closed"), ("<&-", "-", "stdin is closed")],
)
def test_a_closed_stream_is_wrong_usage(
    server: FaultServer, how: str, prompt: str, said: str
) -> None:
    """Said in one line, before anything is asked, and paid for."""
    told = redirected(how, "--url", url_of(server), prompt)

    assert told.code == 2
    assert said in told.err
    assert told.err.count("\n") == 1
    assert len(server.requests) == 0


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_a_closed_stderr_costs_no_answer(server: FaultServer) -> None:
    """The trace is not printed among the answer either."""
    told = redirected("2>&-", "--url", url_of(server), "--trace", "hello")

    assert (told.code, told.out) == (0, "Hi, you.\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_1(server: FaultServer) -> None:
    """A full disk must not look like a whole answer, nor like a bug; and the provider can stop."""
    told = redirected(">/dev/full", "--url", url_of(server), "hello")

    assert (told.code, told.err) == (
        1,
        "resilient-requests: OSError(ENOSPC): No space left on device\n",
    )


@pytest.mark.skipif(os.name != "posix", reason="closes the reading end of a pipe")
def test_a_reader_that_leaves_is_no_traceback(fault_server_factory: Factory) -> None:
    """``resilient-requests chat ... | head -1``; the server is told, too."""
    left = threading.Event()
    server = fault_server_factory(
        default=sse(chunk("x"), left, chunk("y"), ending="silence", done=False)
    )
    arguments = [*COMMAND, "--url", url_of(server), "hello"]
    with running(arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == "x"
        process.stdout.close()
        left.set()
        errors = process.stderr.read()
        code = process.wait(SLOWEST)
    assert server.wait_for_disconnects(1)

    assert code == 1
    assert "Traceback" not in errors


# -- the trace -------------------------------------------------------------------------------------


def test_the_trace_tells_of_each_attempt(fault_server_factory: Factory) -> None:
    """The trace has its connection, its result, and the decision after it."""
    server = fault_server_factory(reset(), default=good("Hello"))
    told = chat("--url", url_of(server), "--trace", "hello")

    first, second = told.lines("attempt")
    assert (told.code, told.out) == (0, "Hello")
    assert re.fullmatch(
        r"attempt 1  fresh, [\d.]+ ms +ECONNRESET in wait after [\d.]+ s +replay: in [\d.]+ s",
        first,
    )
    assert re.fullmatch(r"attempt 2  fresh, [\d.]+ ms +headers \d[\d.]* ms", second)
    assert told.err.count("\n") == 3


def test_the_trace_tells_of_a_stream_that_is_replayed_unseen(fault_server_factory: Factory) -> None:
    """The one replay after a response has begun."""
    server = fault_server_factory(sse(ROLE, done=False, ending="reset"), default=good("Hello"))
    told = chat("--url", url_of(server), "--trace", "hello")

    assert (told.code, told.out) == (0, "Hello")
    assert len(told.lines("attempt")) == 2
    assert re.search(
        r"^stream 1 +StreamBroken after \d+ bytes, 1 event .*replay: nothing was shown, in",
        told.err,
        re.MULTILINE,
    )
    assert "  2 attempts  " in told.end


def test_the_trace_tells_of_a_stream_that_fails_for_good(fault_server_factory: Factory) -> None:
    """Half an answer was shown."""
    server = fault_server_factory(default=sse(chunk("Half"), done=False, ending="reset"))
    told = chat("--url", url_of(server), "--trace", "hello")

    assert told.code == 4
    assert told.lines("stream 1")[0].endswith("no replay")
    assert told.end.startswith("[StreamBroken]  ")


def test_the_trace_shows_a_bad_status(fault_server_factory: Factory) -> None:
    """A bad status is an answer, which is not repeated."""
    told = chat(
        "--url", url_of(fault_server_factory(default=respond(status=429))), "--trace", "hello"
    )

    assert told.code == 5
    assert [line.rpartition(", ")[2] for line in told.lines("attempt")] == ["status 429"]


def test_without_the_option_there_is_no_trace(fault_server_factory: Factory) -> None:
    """One line is enough for a user who has not asked for a trace."""
    told = chat("--url", url_of(fault_server_factory(reset(), default=good("Hello"))), "hello")

    assert told.err.count("\n") == 1


class Lines(list[str]):
    """The output file of a trace."""

    def write(self, text: str) -> int:
        if text.strip():
            self.append(text)
        return len(text)

    def flush(self) -> None:
        pass


def failed(call_id: str = "1", **facts: Any) -> AttemptFailed:
    """An attempt that brought nothing."""
    given: dict[str, Any] = {
        "attempt": 1,
        "method": "POST",
        "reused": True,
        "idle_for": 42.06,
        "phase": "wait",
        "bytes_sent": 9,
        "bytes_received": 0,
        "error": "ConnectionError(ECONNRESET)",
        "errno": 104,
        "elapsed": 0.5,
    }
    return AttemptFailed(call_id=call_id, origin="http://host:80", **{**given, **facts})


def started(call_id: str = "1", method: str = "POST") -> AttemptStarted:
    """An attempt begins."""
    return AttemptStarted(call_id=call_id, origin="http://host:80", attempt=1, method=method)


def test_a_failure_without_a_decision_is_printed_at_the_end() -> None:
    """Ctrl-C leaves no time for one."""
    lines = Lines()
    trace = Trace(lines)  # type: ignore[arg-type]  # as much of a stream as it needs
    for event in (started(), failed(errno=None, error="KeyboardInterrupt")):
        trace(event)
    trace.close()
    trace.close()

    assert lines == ["attempt 1  reused, idle 42.1 s    KeyboardInterrupt in wait after 0.5 s"]


def test_the_trace_is_of_the_question_only() -> None:
    """Other requests of the command are not in it."""
    lines = Lines()
    trace = Trace(lines)  # type: ignore[arg-type]
    denied = RetryDenied(call_id="1", origin="http://host:80", attempt=1, reason="policy")
    for event in (started(method="GET"), failed(), denied):
        trace(event)
    trace.close()

    assert lines == []


# -- the embedded server ---------------------------------------------------------------------------


def test_the_embedded_server_tells_what_has_just_happened() -> None:
    """A stale connection, a replay, an answer that says so; no proxy of the machine takes part."""
    told = chat("--trace", "hello, my friend", OPENAI_API_KEY=KEY, HTTP_PROXY="http://127.0.0.1:1")

    assert told.code == 0
    assert "your 3 words" in told.out
    assert "read it exactly once" in told.out
    assert told.out.endswith("each attempt.\n")
    first, second = told.lines("attempt")
    assert re.match(r"attempt 1  reused, idle 0\.\d s .* replay: stale reuse, at once$", first)
    assert second.startswith("attempt 2  fresh, ")
    assert re.fullmatch(r"\[stop\]  3 in, \d+ out  2 attempts  \d\.\d s", told.end)


def test_the_embedded_server_does_not_tell_what_has_not_happened() -> None:
    """If connections are not used twice, none was stale."""
    told = chat("--trace", "hello", RESILIENT_REQUESTS_KEEPALIVE="0.05")

    assert told.code == 0
    assert "a connection that was good" in told.out
    assert len(told.lines("attempt")) == 1


# -- secrets and terminals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "value"), [("x-api-key", KEY), ("Authorization", f"Bearer {KEY}")]
)
def test_the_key_does_not_follow_a_redirect_to_another_host(
    fault_server_factory: Factory, header: str, value: str
) -> None:
    """By itself, requests removes only ``Authorization``."""
    elsewhere = fault_server_factory()
    server = fault_server_factory()
    server.route("/a", respond(status=307, headers={"Location": "/b"}))
    server.route("/b", respond(status=307, headers={"Location": f"{elsewhere.url}/c"}))
    with ChatSession(Key(header=header, value=value)) as session:
        session.post(f"{server.url}/a")

    assert [request.header(header) for request in server.requests] == [value, value]
    assert elsewhere.requests[0].header(header) is None


def test_a_key_is_not_in_a_repr() -> None:
    """A repr ends up in logs."""
    assert KEY not in repr(Key(header="x-api-key", value=KEY))


def test_an_error_is_told_without_credentials_and_query() -> None:
    """Both stand in messages of urllib3."""
    error = requests.ConnectionError(f"no way to http://me:{KEY}@host/path?key={KEY} (Caused by x)")

    assert in_words(error) == "ConnectionError: no way to http://host/path?… (Caused by x)"
    error = requests.ConnectionError("no way to http://me:se@cret@host/path")
    assert in_words(error) == "ConnectionError: no way to http://host/path"


def test_a_terminal_is_not_steered_by_an_answer(
    fault_server_factory: Factory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It would obey an escape sequence; and the prompt of the shell begins a line of its own."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    server = fault_server_factory(default=good("a\x1b[2Jb\tc"))

    assert cli.main(["chat", "--url", url_of(server), "hello"]) == 0
    assert capsys.readouterr().out == "a\ufffd[2Jb\tc\n"


def test_every_error_has_a_code() -> None:
    """The last row catches all that the helpers raise, but for KeyboardInterrupt and bugs."""
    assert _answer._CODES[-1][0] is requests.RequestException
