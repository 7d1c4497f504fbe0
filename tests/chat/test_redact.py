"""Keys and prompts stay out of messages in every quotation, and helpful words stay in."""

from __future__ import annotations

import json
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest
import requests
from chat_wires import ASK, Canned, mounted, refusal
from clients import in_time

from resilient_requests import StreamProtocolError, complete_chat, stream_chat
from resilient_requests.chat._redact import Redactor
from resilient_requests.testing import FaultServer, respond

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROMPT = 'the patient Jane Roe\nhas a "rash" on her left arm, grüßt freundlich and sleeps badly'
KEY = "abcd-1234-efgh"
LONG_KEY = "abcd/1234+" * 200


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session over our adapter."""
    with mounted() as session:
        yield session


@pytest.fixture
def refused(fault_server: FaultServer, session: requests.Session) -> Callable[..., str]:
    """Return the words of the error after a refusal with given words."""

    def ask(said: str, *, url: str = "", **more: Any) -> str:
        fault_server.script(respond(json.dumps({"error": {"message": said}}), status=400))
        with pytest.raises(requests.HTTPError) as caught:
            stream_chat(session, url or fault_server.url, **{**ASK, **more})
        assert refusal(caught.value).json()["error"]["message"] == said
        return str(caught.value).removeprefix("400 Bad Request: ")

    return ask


def prompting(text: str) -> Redactor:
    """A redactor that knows a prompt."""
    return Redactor([], [], {"messages": [{"role": "user", "content": text}]})


# -- keys that were sent ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"Authorization": f"Bearer {KEY}"}, ""),
        ({"X-Api-Key": KEY}, ""),
        ({"api-key": KEY.encode()}, ""),
        ({"Cookie": f"a=b; lang={KEY}; c=d"}, ""),
        ({}, f"?key={KEY}"),
    ],
)
def test_a_refusal_does_not_repeat_a_key(
    headers: dict[str, Any], query: str, refused: Callable[..., str], fault_server: FaultServer
) -> None:
    """Providers repeat the key that was wrong; the body stays on the response."""
    said = refused(f"Key {KEY}, as in key={KEY}.", url=fault_server.url + query, headers=headers)

    assert said == "Key ***, as in key=***."


def test_a_part_of_a_long_key_is_hidden() -> None:
    """The key may begin before the excerpt, and end behind it."""
    request = requests.Request("GET", "http://x/", headers={"X-Api-Key": LONG_KEY}).prepare()
    redactor = Redactor([request], [], {})

    assert redactor.line(f"wrong: {LONG_KEY}") == "wrong: ***"
    assert redactor.around(f"{LONG_KEY} and", len(LONG_KEY)) == "*** and"
    assert redactor.around(LONG_KEY * 3, len(LONG_KEY)) == "***"


@pytest.mark.parametrize("password", ["hunter2", "p@ss/word"])
def test_a_password_is_hidden_wherever_it_is_given(
    password: str, refused: Callable[..., str], fault_server: FaultServer, session: requests.Session
) -> None:
    """It goes out in base64, but its receiver knows it in plain text."""
    quoted = urllib.parse.quote(password, safe="")
    said, url = f"me may not use {password}, that is {quoted}", fault_server.url
    found = [refused(said, url=url.replace("//", f"//me:{quoted}@"))]
    session.proxies["http"] = url.replace("//", f"//me:{quoted}@")
    found.append(refused(said, url="http://chat.invalid/"))
    session.proxies.clear()
    session.auth = ("me", password)

    assert found == ["me may not use ***, that is ***"] * 2
    assert refused(f"Basic: me may not use {password}") == "Basic: me may not use ***"


def test_the_password_of_a_proxy_may_come_from_the_environment(
    refused: Callable[..., str], fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most people set their proxies there."""
    monkeypatch.setenv("http_proxy", fault_server.url.replace("//", "//me:hunter2@"))

    assert refused("no hunter2 here", url="http://chat.invalid/") == "no *** here"


def test_a_key_that_a_redirect_has_taken_off_is_hidden(
    refused: Callable[..., str], fault_server: FaultServer
) -> None:
    """The key does not follow to another host; but the first one may have handed it on."""
    elsewhere = fault_server.url.replace("127.0.0.1", "localhost")
    fault_server.route("/a", respond(status=307, headers={"Location": f"{elsewhere}/b"}))

    headers = {"Authorization": f"Bearer {KEY}"}
    assert refused(f"no {KEY} here", url=f"{fault_server.url}/a", headers=headers) == "no *** here"


def test_a_short_secret_is_hidden_as_a_word_only() -> None:
    """A short secret inside of another word is a coincidence."""
    redactor = Redactor([], ["http://user:pass@proxy/", "http://[", "http://me@p/"], {})

    assert redactor.line("pass, user, me: bypass passes") == "***, ***, me: bypass passes"


def test_a_secret_that_begins_with_another_is_hidden_whole() -> None:
    """The longer one is looked for first."""
    redactor = Redactor([], ["http://abcd:abcd-efgh@proxy/", "http://abcd-efgh-ijkl:x@p/"], {})

    assert redactor.line("abcd-efgh-ijkl abcd-efgh abcd") == "*** *** ***"


@pytest.mark.parametrize("blanks", [0, 985, 990, 999, 5000])
def test_blanks_do_not_bring_half_a_secret_in_view(blanks: int) -> None:
    """They are squeezed after the text was redacted."""
    redactor = Redactor([], [f"http://me:{KEY}@proxy/"], {})

    assert redactor.line(f"{' ' * blanks}no {KEY}") == "no ***"
    assert redactor.line(f"no{' ' * blanks} {KEY}") in ("no ***", "no")


# -- words shaped like keys ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdef123456",
        "AIzaSyA1234567890abcdefghijk",
        "hf_abcdefghijkl",
        "gsk_abcdefghijk",
        "Bearer abc.def",
    ],
)
def test_a_word_shaped_like_a_key_is_hidden(secret: str) -> None:
    """A gateway has keys of its own."""
    assert prompting("").line(f"upstream said: bad key {secret}") == "upstream said: bad key ***"


@pytest.mark.parametrize("secret", ["sk-live-" + "abcdef01" * 9, PROMPT])
def test_an_excerpt_is_cut_after_it_is_redacted(secret: str) -> None:
    """Half of a secret could not be recognized."""
    data = json.dumps({"key": secret}).removesuffix("}") + " oops}"
    with pytest.raises(StreamProtocolError, match="is not JSON at position") as caught:
        complete_chat(
            Canned([f"data: {data}\n\n".encode()]),
            "http://chat.invalid/",
            model="m",
            messages=[{"role": "user", "content": PROMPT}],
        )

    assert str(caught.value).endswith("""'***" oops}'""")


def test_the_beginning_of_a_page_is_cut_after_it_is_redacted() -> None:
    """The same holds for the excerpt of a body that is no answer."""
    page = "ab " * 38 + "sk-live-abcdef0123456789"
    kind = f"text/html; {ASK['messages'][0]['content']}"
    with pytest.raises(
        StreamProtocolError, match=r"^Content-Type is 'text/html; \*\*\*', which"
    ) as caught:
        stream_chat(Canned([page.encode()], kind), "http://chat.invalid/", **ASK)

    assert str(caught.value).endswith("ab ab ***'")


# -- the prompt ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [19, 20, 21, 45])
@pytest.mark.parametrize("before", range(11))
def test_twenty_characters_in_a_row_are_a_quotation(length: int, before: int) -> None:
    """Wherever they stand; fewer may be anybody's words."""
    text = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    for start in range(len(text) - length + 1):
        said = f"{'-' * before}{text[start : start + length]}-"
        hidden = f"{'-' * before}***-"

        assert prompting(text).line(said) == (said if length < 20 else hidden)


@pytest.mark.parametrize(
    "said",
    [
        PROMPT,
        f"'{PROMPT[:30]}'...'{PROMPT[-30:]}'",
        PROMPT.replace("\n", " "),
        json.dumps(PROMPT),
        json.dumps(PROMPT, ensure_ascii=False),
    ],
    ids=["whole", "abridged", "in one line", "as JSON", "as JSON in UTF-8"],
)
@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]},
        {"system": PROMPT},
        {"tools": [{"type": "function", "function": {"name": "f", "description": PROMPT}}]},
        {"messages": [{"content": [{"type": "tool_use", "input": {"name": PROMPT}}]}]},
    ],
    ids=["part", "system", "tool", "arguments"],
)
def test_the_prompt_is_hidden_wherever_it_stands(said: str, body: dict[str, Any]) -> None:
    """Validators quote the beginning and the end of a bad value, and some of them escape it."""
    found = Redactor([], [], body).line(f"no {said}: too odd")

    assert found.startswith("no ")
    assert found.endswith(": too odd")
    assert "***" in found
    assert all(word not in found for word in ("patient", "Jane", "rash", "freundlich", "badly"))


@pytest.mark.parametrize(
    ("said", "body"),
    [
        ("model: some-model-2025-01-01", {"model": "some-model-2025-01-01"}),
        ("no endpoint for a/some-other-model", {"models": ["a/some-other-model"]}),
        (
            "no output for call_abcdefgh12345678",
            {"messages": [{"tool_call_id": "call_abcdefgh12345678"}]},
        ),
        (
            "schema of 'get_the_current_weather' wants 'location_of_the_user'",
            {
                "tools": [
                    {
                        "name": "get_the_current_weather",
                        "parameters": {"required": ["location_of_the_user"]},
                    }
                ]
            },
        ),
        ("'function_call_output' is no type", {"messages": [{"type": "function_call_output"}]}),
        ("API version 2024-10-21-preview is not supported", {}),
    ],
)
def test_a_refusal_says_what_it_is_about(
    said: str, body: dict[str, Any], refused: Callable[..., str], fault_server: FaultServer
) -> None:
    """Names are nobody's words, and without them the reason is none."""
    url = f"{fault_server.url}?api-version=2024-10-21-preview"

    assert refused(said, url=url, **body) == said


@pytest.mark.slow
def test_a_large_prompt_costs_little_time() -> None:
    """Pictures are a part of it."""
    redactor = prompting("iVBORw0KGgo" * 1_000_000)
    began = time.thread_time()
    redactor.line("this picture is too large: " + "for us all, " * 1000)

    in_time(time.thread_time() - began, 1.0)
