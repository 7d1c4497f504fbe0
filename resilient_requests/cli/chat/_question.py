"""What is asked: the prompt in the form that a dialect wants, and the key where the dialect looks for it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

from resilient_requests.cli._words import in_words

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

__all__ = ["Key", "Question", "UsageError", "read"]

_DEFAULT_KEY = "OPENAI_API_KEY"


class UsageError(ValueError):
    """The command line, or the environment, is not what the command can work with."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """A secret, and the header that carries it; ``repr`` shows only the header's name."""

    header: str
    value: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What goes to the provider; ``url`` is None for the embedded server."""

    url: str | None
    model: str
    dialect: str
    messages: Any = field(repr=False)
    more: Mapping[str, Any]
    key: Key | None
    accept_bare_eof: bool = False


def _messages(prompt: str) -> Any:
    return [{"role": "user", "content": prompt}]


@dataclass(frozen=True, kw_only=True)
class _Way:
    messages: Callable[[str], Any] = _messages
    more: Mapping[str, Any] = field(default_factory=dict)
    key_header: str | None = "Authorization"
    key_prefix: str = ""


# A dialect that is not named here is asked as OpenAI is.
_OPENAI_LIKE = _Way(key_prefix="Bearer ")
_WAYS = {
    # Without this there are no counts of tokens.
    "openai": _Way(key_prefix="Bearer ", more={"stream_options": {"include_usage": True}}),
    "openai-responses": _Way(key_prefix="Bearer ", messages=lambda prompt: prompt),
    # A limit is obligatory there; this one is valid for all models.
    "anthropic": _Way(key_header="x-api-key", more={"max_tokens": 4096}),
    "gemini": _Way(
        key_header="x-goog-api-key",
        messages=lambda prompt: [{"role": "user", "parts": [{"text": prompt}]}],
    ),
    "ollama": _Way(key_header=None),
}


def read(arguments: argparse.Namespace) -> Question:
    """Return the question that a command line asks. Raises `UsageError`."""
    way = _WAYS.get(arguments.dialect, _OPENAI_LIKE)
    if arguments.url is None and arguments.dialect != "openai":
        raise UsageError("--dialect needs --url: the embedded server speaks openai")
    if arguments.url is not None:
        _check_url(arguments.url)
    if not arguments.model:
        raise UsageError("--model is empty")
    secret = _secret(arguments.key_env)
    # The embedded server has no use for a key, and a stranger on its port even less.
    is_wanted = secret is not None and way.key_header is not None and arguments.url is not None
    return Question(
        url=arguments.url,
        model=arguments.model,
        dialect=arguments.dialect,
        messages=way.messages(_prompt(arguments.prompt)),
        more=way.more,
        key=Key(header=way.key_header or "", value=f"{way.key_prefix}{secret}")
        if is_wanted
        else None,
        accept_bare_eof=arguments.accept_bare_eof,
    )


def _check_url(url: str) -> None:
    try:
        found = requests.Request("POST", url).prepare().url or ""
    except (requests.RequestException, ValueError) as error:
        raise UsageError(in_words(error)) from None
    if not found.startswith(("http://", "https://")):
        raise UsageError("--url must begin with http:// or https://")


def _prompt(given: str) -> str:
    try:
        prompt = _stdin() if given == "-" else given
        prompt.encode(
            "utf-8"
        )  # Python lets bytes that are no text through, disguised, in arguments and some locales
    except UnicodeError:
        raise UsageError("the prompt is no UTF-8 text") from None
    if not prompt.strip():
        raise UsageError("the prompt is empty")
    return prompt


def _stdin() -> str:
    if sys.stdin is None:  # where a shell has closed it
        raise UsageError("stdin is closed")
    try:
        return sys.stdin.read()
    except OSError as error:
        raise UsageError(f"stdin cannot be read: {in_words(error)}") from None


def _secret(variable: str | None) -> str | None:
    """Return the key that an environment variable holds; None where none was named and there is no default."""
    name = variable or _DEFAULT_KEY
    secret = os.environ.get(name, "").strip()
    if not secret:
        if variable is None:
            return None
        raise UsageError(f"the environment variable {variable} is not set, or empty")
    # requests and http.client repeat a header that they reject in their messages.
    if not (secret.isascii() and secret.isprintable()):
        raise UsageError(
            f"the environment variable {name} holds characters that no header can carry"
        )
    return secret
