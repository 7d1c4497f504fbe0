"""The dialects that providers speak, one file each, and the search for one by its name."""

from __future__ import annotations

from resilient_requests.chat.dialects._anthropic import ANTHROPIC
from resilient_requests.chat.dialects._cohere import COHERE
from resilient_requests.chat.dialects._dialect import Dialect, Parser
from resilient_requests.chat.dialects._gemini import GEMINI
from resilient_requests.chat.dialects._ollama import OLLAMA
from resilient_requests.chat.dialects._openai import OPENAI
from resilient_requests.chat.dialects._openai_responses import OPENAI_RESPONSES

__all__ = ["DIALECTS", "Dialect", "Parser", "dialect_of"]

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (ANTHROPIC, COHERE, GEMINI, OLLAMA, OPENAI, OPENAI_RESPONSES)
}


def dialect_of(name: object) -> Dialect:
    """Return a dialect by its name. Raises TypeError or ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"dialect must be a str, not {type(name).__name__}")
    if name not in DIALECTS:
        raise ValueError(f"dialect must be one of {', '.join(sorted(DIALECTS))}, not {name!r}")
    return DIALECTS[name]
