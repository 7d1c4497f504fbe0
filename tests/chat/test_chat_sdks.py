"""The providers' own SDKs, pointed at the same wires, read the same answers as we do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from chat_answers import ANSWERS, DIALECTS, PLAIN, content_type, pieces_of
from chat_wires import ASK, DATA, EXPECTED, mounted

from resilient_requests import complete_chat
from resilient_requests.testing import FaultServer, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat_answers import Style

    from resilient_requests import ChatCompletion

    Factory = Callable[..., FaultServer]

# The SDKs bring a client of their own, with sockets that are closed only when they are collected.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.leaks("clients of the SDKs keep threads and sockets of their own"),
]


class Read(NamedTuple):
    """An answer, as an SDK reads it."""

    content: str
    reasoning: str | None  # None: it has no word for it
    calls: list[tuple[Any, ...]]
    finish: str | None
    usage: tuple[Any, Any] | None


def of_openai(url: str) -> Read:
    """Chat completions, added up as its documentation says."""
    openai: Any = pytest.importorskip("openai", reason="the OpenAI SDK is not installed")
    calls: dict[int, list[Any]] = {}
    content, finish, usage = "", None, None
    with openai.OpenAI(api_key="k", base_url=url, max_retries=0) as client:
        for chunk in client.chat.completions.create(
            model="m", messages=ASK["messages"], stream=True
        ):
            usage = chunk.usage or usage
            for choice in chunk.choices or []:
                finish = choice.finish_reason or finish
                content += (choice.delta and choice.delta.content) or ""
                for call in (choice.delta and choice.delta.tool_calls) or []:
                    known = calls.setdefault(call.index, [call.id, call.function.name, ""])
                    known[2] += call.function.arguments or ""
    tokens = usage and (usage.prompt_tokens, usage.completion_tokens)
    return Read(content, None, [tuple(each) for each in calls.values()], finish, tokens)


def of_responses(url: str) -> Read:
    """The final response."""
    openai: Any = pytest.importorskip("openai", reason="the OpenAI SDK is not installed")
    with openai.OpenAI(api_key="k", base_url=url, max_retries=0) as client:
        events = list(client.responses.create(model="m", input="hi", stream=True))
    response = events[-1].response
    reasoning = "".join(
        part.text for item in response.output if item.type == "reasoning" for part in item.summary
    )
    calls = [
        (item.call_id, item.name, item.arguments)
        for item in response.output
        if item.type == "function_call"
    ]
    details = response.incomplete_details
    tokens = response.usage and (response.usage.input_tokens, response.usage.output_tokens)
    finish = details.reason if details else response.status
    return Read(response.output_text, reasoning, calls, finish, tokens)


def of_anthropic(url: str) -> Read:
    """The message that it puts together."""
    anthropic: Any = pytest.importorskip("anthropic", reason="the Anthropic SDK is not installed")
    with (
        anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client,
        client.messages.stream(model="m", max_tokens=9, messages=ASK["messages"]) as events,
    ):
        message = events.get_final_message()
    blocks = message.content
    return Read(
        "".join(block.text for block in blocks if block.type == "text"),
        "".join(block.thinking for block in blocks if block.type == "thinking"),
        [
            (block.id, block.name, json.dumps(block.input))
            for block in blocks
            if block.type == "tool_use"
        ],
        message.stop_reason,
        (message.usage.input_tokens, message.usage.output_tokens),
    )


def of_gemini(url: str) -> Read:
    """Its chunks, added up."""
    genai: Any = pytest.importorskip("google.genai", reason="the Gemini SDK is not installed")
    client = genai.Client(api_key="k", http_options={"base_url": url})
    content, reasoning, finish, usage = "", "", None, None
    calls = []
    for chunk in client.models.generate_content_stream(model="m", contents="hi"):
        usage = chunk.usage_metadata or usage
        for candidate in chunk.candidates or []:
            finish = candidate.finish_reason.value if candidate.finish_reason else finish
            for part in (candidate.content and candidate.content.parts) or []:
                if part.function_call:
                    call = part.function_call
                    calls.append((call.id, call.name, json.dumps(call.args)))
                elif part.thought:
                    reasoning += part.text or ""
                else:
                    content += part.text or ""
    tokens = usage and (
        usage.prompt_token_count,
        usage.candidates_token_count + usage.thoughts_token_count,
    )
    return Read(content, reasoning, calls, finish, tokens)


def of_ollama(url: str) -> Read:
    """Its chunks, added up; it knows of no ids."""
    ollama: Any = pytest.importorskip("ollama", reason="the Ollama SDK is not installed")
    content, reasoning, finish, usage = "", "", None, None
    calls = []
    for chunk in ollama.Client(host=url).chat(model="m", messages=ASK["messages"], stream=True):
        content += chunk.message.content or ""
        reasoning += chunk.message.thinking or ""
        calls += [
            (None, each.function.name, json.dumps(dict(each.function.arguments)))
            for each in chunk.message.tool_calls or []
        ]
        if chunk.done:
            finish, usage = chunk.done_reason, (chunk.prompt_eval_count, chunk.eval_count)
    return Read(content, reasoning, calls, finish, usage)


def of_mistral(url: str) -> Read:
    """Return its reading of the dialect that it shares."""
    mistral: Any = pytest.importorskip(
        "mistralai.client", reason="the Mistral SDK is not installed"
    )
    calls: dict[int, list[Any]] = {}
    content, finish, usage = "", None, None
    client = mistral.Mistral(api_key="k", server_url=url)
    for event in client.chat.stream(model="m", messages=ASK["messages"]):
        usage = event.data.usage or usage
        for choice in event.data.choices:
            finish = choice.finish_reason or finish
            given = choice.delta.content
            content += given if isinstance(given, str) else ""
            for call in choice.delta.tool_calls or []:
                known = calls.setdefault(call.index, [call.id, call.function.name, ""])
                known[2] += call.function.arguments
    tokens = usage and (usage.prompt_tokens, usage.completion_tokens)
    return Read(content, None, [tuple(each) for each in calls.values()], finish, tokens)


def of_cohere(url: str) -> Read:
    """Its events, added up."""
    cohere: Any = pytest.importorskip("cohere", reason="the Cohere SDK is not installed")
    content, reasoning, finish, usage = "", "", None, None
    calls: dict[int, list[Any]] = {}
    client = cohere.ClientV2(api_key="k", base_url=url)
    for event in client.chat_stream(model="m", messages=ASK["messages"]):
        if event.type == "content-delta":
            given = event.delta.message.content
            content += given.text or ""
            reasoning += given.thinking or ""
        elif event.type == "tool-call-start":
            call = event.delta.message.tool_calls
            calls[event.index] = [call.id, call.function.name, call.function.arguments or ""]
        elif event.type == "tool-call-delta":
            calls[event.index][2] += event.delta.message.tool_calls.function.arguments
        elif event.type == "message-end":
            finish, usage = event.delta.finish_reason, event.delta.usage.tokens
    tokens = usage and (int(usage.input_tokens), int(usage.output_tokens))
    return Read(content, reasoning, [tuple(each) for each in calls.values()], finish, tokens)


# Each SDK: its dialect, and the styles that it does not read, or reads wrong.
SDKS: dict[str, tuple[str, Callable[[str], Read], frozenset[str]]] = {
    "openai": ("openai", of_openai, frozenset()),
    "openai-responses": (
        "openai-responses",
        of_responses,
        frozenset({"an empty output"}),
    ),
    "anthropic": (
        "anthropic",
        of_anthropic,
        frozenset({"no names", "gaps between indices"}),
    ),
    "google-genai": (
        "gemini",
        of_gemini,
        frozenset({"comments", "ids and retries", "no space"}),
    ),
    "ollama": ("ollama", of_ollama, frozenset({"blank lines"})),
    "mistralai": ("openai", of_mistral, frozenset()),
    "cohere": ("cohere", of_cohere, frozenset()),
}
STYLES = [
    pytest.param(name, style, id=f"{name}, {style.name}")
    for name, (dialect, _, wrong) in SDKS.items()
    for style in DIALECTS[dialect][1]
    if style.name not in wrong
]


@pytest.mark.parametrize(("name", "style"), STYLES)
def test_an_sdk_reads_the_same_answers(
    name: str, style: Style, fault_server_factory: Factory
) -> None:
    """Text, reasoning, calls, finish reason and usage."""
    dialect, read, _ = SDKS[name]
    server = fault_server_factory()
    ask: dict[str, Any] = {"stream_options": {"include_usage": True}} if dialect == "openai" else {}
    with mounted(server) as session:
        for answer in ANSWERS:
            if name == "mistralai" and answer.calls:
                continue  # its own server sends each call in one piece, and it refuses any other
            body = pieces_of(dialect, answer, style)
            server.default = stream(body, content_type=content_type(dialect))
            theirs = read(server.url)
            ours = complete_chat(session, server.url, dialect=dialect, **ASK, **ask)

            assert is_same(ours, theirs), answer.name


def is_same(ours: ChatCompletion, theirs: Read) -> bool:
    """True if two have read the same answer; members that the SDK lacks are not compared."""
    assert ours.content == theirs.content
    assert theirs.reasoning in (None, ours.reasoning)
    assert ours.finish_reason == theirs.finish
    usage = ours.usage and (ours.usage.input_tokens, ours.usage.output_tokens)
    assert usage == theirs.usage
    for made, (call_id, called, arguments) in zip(ours.tool_calls, theirs.calls, strict=True):
        assert call_id in (None, made.id)
        assert made.name == called
        assert json.loads(made.arguments) == json.loads(arguments)
    return True


OPENAI = [
    "openai.sse",
    "openai-tools.sse",
    "azure.sse",
    "openrouter.sse",
    "deepseek.sse",
    "litellm.sse",
    "zai.sse",
]
HAND_WRITTEN = [
    *(("openai", name) for name in OPENAI),
    ("anthropic", "anthropic.sse"),
]


@pytest.mark.parametrize(("sdk", "name"), HAND_WRITTEN)
def test_an_sdk_reads_the_same_wire(sdk: str, name: str, fault_server_factory: Factory) -> None:
    """Those that were written by hand, with the quirks of their provider."""
    dialect, read, _ = SDKS[sdk]
    kind = EXPECTED[name]["content_type"]
    server = fault_server_factory(default=stream([(DATA / name).read_bytes()], content_type=kind))
    theirs = read(server.url)
    with mounted(server) as session:
        ours = complete_chat(session, server.url, dialect=dialect, **ASK)

    assert is_same(ours, theirs)


def test_anthropic_builds_the_same_message(fault_server_factory: Factory) -> None:
    """Block by block, signatures and inputs included."""
    anthropic: Any = pytest.importorskip("anthropic", reason="the Anthropic SDK is not installed")
    server = fault_server_factory()
    with (
        mounted(server) as session,
        anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0) as client,
    ):
        for answer in ANSWERS:
            server.default = stream(pieces_of("anthropic", answer, PLAIN))
            with client.messages.stream(
                model="m", max_tokens=9, messages=ASK["messages"]
            ) as events:
                theirs = events.get_final_message()
            ours = complete_chat(session, server.url, dialect="anthropic", **ASK)
            content = [each.to_dict() for each in theirs.content]

            assert ours.message == {"role": "assistant", "content": content}
