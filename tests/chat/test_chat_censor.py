"""What is private stays out of messages, however it is quoted, and what helps stays in."""

from __future__ import annotations

import json
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest
import requests
from chat_wires import ASK, Canned, mounted
from clients import in_time

from resilient_requests import StreamProtocolError, complete_chat, stream_chat
from resilient_requests.chat._censor import Censor
from resilient_requests.testing import FaultServer, respond

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROMPT = 'the patient Jane Roe\nhas a "rash" on her left arm, grüßt freundlich and sleeps badly'
KEY = "abcd-1234-efgh"


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session over our adapter."""
    with mounted() as session:
        yield session


@pytest.fixture
def refused(fault_server: FaultServer, session: requests.Session) -> Callable[..., str]:
    """What the error says after a refusal with given words."""

    def ask(said: str, *, url: str = "", **more: Any) -> str:
        fault_server.script(respond(json.dumps({"error": {"message": said}}), status=400))
        with pytest.raises(requests.HTTPError) as caught:
            stream_chat(session, url or fault_server.url, **{**ASK, **more})
        return str(caught.value).removeprefix("400 Bad Request: ")

    return ask


def prompting(text: str) -> Censor:
    """A censor that knows a prompt."""
    return Censor([], [], {"messages": [{"role": "user", "content": text}]})


# -- secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"X-Api-Key": KEY},
        {"x-goog-api-key": KEY},
        {"Cookie": f"a=b; session={KEY}; c=d"},
        {"api-key": KEY.encode()},
        {},
    ],
)
def test_a_refusal_does_not_repeat_secrets(
    headers: dict[str, Any], refused: Callable[..., str], fault_server: FaultServer
) -> None:
    """Providers repeat the key that was wrong, and the words that were blocked."""
    said = f"Key {KEY} is wrong, session={KEY} too; also 'What is the answer, please?'."
    url = fault_server.url if headers else f"{fault_server.url}?key={KEY}"

    assert refused(said, url=url, headers=headers) in (
        "Key *** is wrong, session=*** too; also '***'.",
        "Key *** is wrong, *** too; also '***'.",
    )


@pytest.mark.parametrize("password", ["hunter2", "p@ss/word"])
def test_a_password_is_hidden_wherever_it_is_given(
    password: str, refused: Callable[..., str], fault_server: FaultServer, session: requests.Session
) -> None:
    """It goes out in base64, but who checks it knows it in plain text."""
    quoted = urllib.parse.quote(password, safe="")
    said, url = f"me may not use {password}, that is {quoted}", fault_server.url
    found = [refused(said, url=url.replace("//", f"//me:{quoted}@"))]
    session.proxies["http"] = url.replace("//", f"//me:{quoted}@")
    found.append(refused(said, url="http://chat.invalid/"))
    session.proxies.clear()
    session.auth = ("me", password)

    assert found == ["me may not use ***, that is ***"] * 2
    assert refused(f"me may not use {password}") == "me may not use ***"


def test_the_password_of_a_proxy_may_come_from_the_environment(
    refused: Callable[..., str], fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where most people set their proxies."""
    monkeypatch.setenv("http_proxy", fault_server.url.replace("//", "//me:hunter2@"))

    assert refused("no hunter2 here", url="http://chat.invalid/") == "no *** here"


def test_what_a_redirect_has_taken_off_is_still_a_secret(
    refused: Callable[..., str], fault_server: FaultServer
) -> None:
    """The key does not follow to another host; but the first one may have handed it on."""
    elsewhere = fault_server.url.replace("127.0.0.1", "localhost")
    fault_server.route("/a", respond(status=307, headers={"Location": f"{elsewhere}/b"}))

    headers = {"Authorization": f"Bearer {KEY}"}
    assert refused(f"no {KEY} here", url=f"{fault_server.url}/a", headers=headers) == "no *** here"


@pytest.mark.parametrize(
    "secret",
    ["sk-proj-abcdef123456", "AIzaSyA1234567890abcdefghijk", "hf_abcdefghijkl", "gsk_abcdefghijk"],
)
def test_what_looks_like_a_key_is_hidden_wherever_it_comes_from(
    secret: str, refused: Callable[..., str]
) -> None:
    """A gateway has keys of its own."""
    assert refused(f"upstream said: bad key {secret}!") == "upstream said: bad key ***!"


@pytest.mark.parametrize("secret", ["sk-live-" + "abcdef01" * 9, PROMPT])
def test_an_excerpt_is_cut_after_it_is_censored(secret: str) -> None:
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


def test_the_beginning_of_a_page_is_cut_after_it_is_censored() -> None:
    """The same holds for what is shown of a body that is no answer."""
    page = "ab " * 38 + "sk-live-abcdef0123456789"
    kind = f"text/html; {ASK['messages'][0]['content']}"
    with pytest.raises(
        StreamProtocolError, match=r"^Content-Type is 'text/html; \*\*\*', which"
    ) as caught:
        stream_chat(Canned([page.encode()], kind), "http://chat.invalid/", **ASK)

    assert str(caught.value).endswith("ab ab ***'")


# -- the prompt ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        f"no '{PROMPT}'",
        f"no '{PROMPT[:30]}'...'{PROMPT[-30:]}'",
        f"no '{' '.join(PROMPT.split())}'",
        f"no {json.dumps(PROMPT)}",
        f"no {json.dumps(PROMPT, ensure_ascii=False)}",
        f"no {PROMPT!r}",
    ],
    ids=["whole", "abridged", "in one line", "as JSON", "as JSON in UTF-8", "as Python"],
)
@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": PROMPT}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]},
        {"system": PROMPT},
        {"tools": [{"type": "function", "function": {"name": "f", "description": PROMPT}}]},
        {
            "messages": [
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "name": "f", "input": {"name": PROMPT}}],
                }
            ]
        },
        {"metadata": {"id": PROMPT}},
    ],
    ids=["message", "part", "system", "tool", "arguments", "metadata"],
)
def test_the_prompt_is_hidden_however_it_is_quoted(
    said: str, body: dict[str, Any], refused: Callable[..., str]
) -> None:
    """Validators show the beginning and the end of what they do not like, some of them escaped."""
    found = refused(f"{said}: too odd", **body)

    assert found.startswith("no ")
    assert found.endswith(": too odd")
    assert "***" in found
    assert all(word not in found for word in ("patient", "Jane", "rash", "freundlich", "badly"))


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
    ("said", "body"),
    [
        ("model: some-model-2025-01-01", {"model": "some-model-2025-01-01"}),
        ("no endpoint for a/some-other-model", {"models": ["a/some-other-model"]}),
        (
            "no output for call_abcdefgh12345678",
            {"messages": [{"tool_call_id": "call_abcdefgh12345678"}]},
        ),
        (
            "schema of 'get_current_weather': 'location_of_user' is required",
            {
                "tools": [
                    {
                        "name": "get_current_weather",
                        "parameters": {"required": ["location_of_user"]},
                    }
                ]
            },
        ),
        ("'function_call_output' is no type", {"messages": [{"type": "function_call_output"}]}),
        ("messages[0].content is too long", {}),
    ],
)
def test_a_refusal_says_what_it_is_about(
    said: str, body: dict[str, Any], refused: Callable[..., str]
) -> None:
    """Names are nobody's words, and without them the reason is none."""
    assert refused(said, **body) == said


def test_a_version_in_the_url_is_no_secret(
    refused: Callable[..., str], fault_server: FaultServer
) -> None:
    """Azure refuses it by name."""
    said = "API version 2024-10-21-preview is not supported"

    assert refused(said, url=f"{fault_server.url}?api-version=2024-10-21-preview") == said


@pytest.mark.slow
def test_a_large_prompt_costs_little_time() -> None:
    """Pictures are a part of it."""
    censor = prompting("iVBORw0KGgo" * 100_000)
    began = time.process_time()
    censor.line("this picture is too large: " + "for us all, " * 1000)

    in_time(time.process_time() - began, 1.0)
