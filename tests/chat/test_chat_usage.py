"""Usage: the tokens of a call, in all places and forms of all providers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from chat_wires import chunk, events, read

if TYPE_CHECKING:
    from resilient_requests import Usage


def tokens(usage: Usage | None) -> tuple[int | None, int | None, int | None]:
    """Read, written, and in total."""
    assert usage is not None
    return usage.input_tokens, usage.output_tokens, usage.total_tokens


OPENAI: dict[str, tuple[list[dict[str, Any]], tuple[Any, Any, Any]]] = {
    "in the choice (Kimi)": (
        [
            {
                "choices": [
                    {
                        "index": 0,
                        "delta": {},
                        "finish_reason": "stop",
                        "usage": {"prompt_tokens": 5, "completion_tokens": 3},
                    }
                ]
            }
        ],
        (5, 3, 8),
    ),
    "x_groq": (
        [
            {
                **chunk(finish="stop"),
                "x_groq": {
                    "id": "x",
                    "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
                },
            }
        ],
        (5, 3, 8),
    ),
    "nulls behind numbers": (
        [
            {
                **chunk("a"),
                "usage": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5},
            },
            {**chunk("b"), "usage": {"prompt_tokens": None, "completion_tokens": 3}},
            {**chunk(finish="stop"), "usage": {"total_tokens": 8}},
            {"choices": [], "usage": None},
        ],
        (5, 3, 8),
    ),
    "zeros first": (
        [
            {
                **chunk("a"),
                "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
            },
            {
                **chunk(finish="stop"),
                "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
            },
        ],
        (5, 3, 8),
    ),
    "with every chunk": (
        [
            {
                **chunk("a", "stop" if n == 3 else None),
                "usage": {"prompt_tokens": 5, "completion_tokens": n},
            }
            for n in (1, 2, 3)
        ],
        (5, 3, 8),
    ),
    "cached ones are in": (
        [
            {
                **chunk(finish="stop"),
                "usage": {
                    "prompt_tokens": 5,
                    "completion_tokens": 3,
                    "prompt_tokens_details": {"cached_tokens": 4},
                },
            }
        ],
        (5, 3, 8),
    ),
}


@pytest.mark.parametrize("name", OPENAI)
def test_usage_is_found_wherever_it_stands(name: str) -> None:
    """The last number that is one counts."""
    chunks, wanted = OPENAI[name]

    assert tokens(read(events(*chunks), "openai").usage) == wanted


@pytest.mark.parametrize(
    ("start", "last", "wanted"),
    [
        ({"input_tokens": 5, "output_tokens": 1}, {"output_tokens": 3}, (5, 3, 8)),
        (
            {"input_tokens": 5, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 20},
            {"output_tokens": 3},
            (35, 3, 38),
        ),
        (
            {"input_tokens": 5, "cache_read_input_tokens": 10, "output_tokens": 1},
            {"input_tokens": None, "cache_read_input_tokens": None, "output_tokens": 3},
            (15, 3, 18),
        ),
        ({"input_tokens": 0}, {"input_tokens": 7, "output_tokens": 3}, (7, 3, 10)),
        (
            {"input_tokens": 5, "cache_creation": {"ephemeral_5m_input_tokens": 9}},
            None,
            (5, None, None),
        ),
        (None, {"output_tokens": 3}, (None, 3, None)),
    ],
    ids=["plain", "cached", "nulls", "later", "no end", "no start"],
)
def test_anthropics_cached_tokens_are_input(
    start: Any, last: Any, wanted: tuple[Any, Any, Any]
) -> None:
    """Its ``input_tokens`` are those that no cache had."""
    found = read(
        events(
            {"type": "message_start", "message": {"id": "m", "usage": start}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": last},
            {"type": "message_stop"},
        ),
        "anthropic",
    )

    assert tokens(found.usage) == wanted


def test_geminis_thoughts_and_tool_prompts_count() -> None:
    """They are charged, and are in its total."""
    counts = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 4,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 20,
        "cachedContentTokenCount": 8,
        "totalTokenCount": 39,
    }
    candidate = {"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}
    found = read(
        events(
            {
                "candidates": [{"content": {"parts": [{"text": "b"}]}}],
                "usageMetadata": {"promptTokenCount": 10},
            },
            {"candidates": [candidate], "usageMetadata": counts},
        ),
        "gemini",
    )

    assert tokens(found.usage) == (14, 25, 39)
    assert found.usage is not None
    assert found.usage.raw == counts


def test_responses_say_it_at_the_end() -> None:
    """The answer may be cut all the same."""
    usage = {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 8,
    }
    response = {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "usage": usage,
    }
    found = read(events({"type": "response.incomplete", "response": response}), "openai-responses")

    assert tokens(found.usage) == (5, 3, 8)


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        ({"tokens": {"input_tokens": 5.0, "output_tokens": 3.0}}, (5, 3, 8)),
        ({"billed_units": {"input_tokens": 5, "output_tokens": 3}}, (5, 3, 8)),
        (
            {
                "billed_units": {"input_tokens": 1, "output_tokens": 1},
                "tokens": {"input_tokens": 5, "output_tokens": 3},
            },
            (5, 3, 8),
        ),
    ],
)
def test_coheres_tokens_are_those_that_were_used(
    usage: dict[str, Any], wanted: tuple[Any, Any, Any]
) -> None:
    """The charged tokens are another figure, where it reports both."""
    ending = {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}}

    assert tokens(read(events(ending), "cohere").usage) == wanted


@pytest.mark.parametrize("value", [True, "5", 5.5, [5], {"a": 5}])
def test_what_is_no_number_of_tokens_is_none(value: Any) -> None:
    """It would end up in somebody's bill."""
    usage = {"prompt_tokens": value, "completion_tokens": 3}
    found = read(events({**chunk(finish="stop"), "usage": usage}), "openai")

    assert tokens(found.usage) == (None, 3, None)
