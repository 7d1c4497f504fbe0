"""The providers' own SDKs, pointed at the same wires, read the same answers as we do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from chat_wires import ASK, DATA, EXPECTED, mounted

from resilient_requests import complete_chat
from resilient_requests.testing import FaultServer, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    Factory = Callable[..., FaultServer]

OPENAI = [
    "openai.sse",
    "openai-tools.sse",
    "azure.sse",
    "openrouter.sse",
    "deepseek.sse",
    "litellm.sse",
    "zai.sse",
]
# The SDKs bring a client of their own, with sockets that are closed only when they are collected.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def serve(name: str, factory: Factory) -> FaultServer:
    """A server that answers with a recorded wire."""
    return factory(
        default=stream([(DATA / name).read_bytes()], content_type=EXPECTED[name]["content_type"])
    )


@pytest.mark.parametrize("name", OPENAI)
def test_openai_reads_the_same_chat(name: str, fault_server_factory: Factory) -> None:
    """Text, tool calls, finish reason and usage."""
    openai: Any = pytest.importorskip("openai", reason="the OpenAI SDK is not installed")
    server = serve(name, fault_server_factory)
    calls: dict[int, list[Any]] = {}
    content, finish, usage = "", None, None
    with openai.OpenAI(api_key="k", base_url=server.url, max_retries=0) as client:
        for chunk in client.chat.completions.create(
            model="m", messages=ASK["messages"], stream=True
        ):
            usage = chunk.usage or usage
            for choice in chunk.choices or []:
                finish = choice.finish_reason or finish
                content += (choice.delta and choice.delta.content) or ""
                for call in (choice.delta and choice.delta.tool_calls) or []:
                    known = calls.setdefault(
                        call.index, [call.index, call.id, call.function.name, ""]
                    )
                    known[3] += call.function.arguments
    with mounted(server) as session:
        ours = complete_chat(session, server.url, **ASK)

    assert (ours.content, ours.finish_reason) == (content, finish)
    assert [[each.index, each.id, each.name, each.arguments] for each in ours.tool_calls] == list(
        calls.values()
    )
    assert (ours.usage and ours.usage.total_tokens) == (usage and usage.total_tokens)


def test_openai_reads_the_same_response(fault_server_factory: Factory) -> None:
    """The final response object of the SDK's own accumulator."""
    openai: Any = pytest.importorskip("openai", reason="the OpenAI SDK is not installed")
    server = serve("openai-responses.sse", fault_server_factory)
    content, arguments = "", ""
    with openai.OpenAI(api_key="k", base_url=server.url, max_retries=0) as client:
        for event in client.responses.create(model="m", input="hi", stream=True):
            if event.type == "response.output_text.delta":
                content += event.delta
            elif event.type == "response.function_call_arguments.delta":
                arguments += event.delta
    with mounted(server) as session:
        ours = complete_chat(session, server.url, dialect="openai-responses", **ASK)

    assert ours.content == content
    assert ours.tool_calls[0].arguments == arguments


def test_anthropic_reads_the_same_message(fault_server_factory: Factory) -> None:
    """The message that the SDK puts together."""
    anthropic: Any = pytest.importorskip("anthropic", reason="the Anthropic SDK is not installed")
    server = serve("anthropic.sse", fault_server_factory)
    with (
        anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0) as client,
        client.messages.stream(model="m", max_tokens=9, messages=ASK["messages"]) as events,
    ):
        text = "".join(events.text_stream)
        message = events.get_final_message()
    with mounted(server) as session:
        ours = complete_chat(session, server.url, dialect="anthropic", **ASK)

    tool = next(block for block in message.content if block.type == "tool_use")
    assert (ours.content, ours.finish_reason, ours.id) == (text, message.stop_reason, message.id)
    assert (ours.tool_calls[0].id, ours.tool_calls[0].name) == (tool.id, tool.name)
    assert ours.usage is not None
    assert (ours.usage.input_tokens, ours.usage.output_tokens) == (
        message.usage.input_tokens,
        message.usage.output_tokens,
    )
